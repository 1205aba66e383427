"""Which rows are to train on, to choose by and to test with."""
