"""Tuning by `swift sft`: checkpoints, trials and sweeps, and a run once more."""
