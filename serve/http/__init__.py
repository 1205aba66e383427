"""A classifier behind HTTP: the wires that decision clients speak, a page to try it, and their limits."""
