"""Texts that stand in a table more than once, or in a file that a model may have seen."""
