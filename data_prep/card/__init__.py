"""The data card of a dataset, made from its manifest alone."""
