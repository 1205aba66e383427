"""A table of any supported format, read into one frame with every row accounted for."""
