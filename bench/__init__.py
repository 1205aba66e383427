"""Measurements of speed and memory, each against a limit or against what people use otherwise."""
