"""Duplicates in a table, between its splits, and with texts that a model may have seen."""
