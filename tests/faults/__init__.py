"""Faults made on purpose: every write that fails, every moment to be killed, and what the same command makes of it."""
