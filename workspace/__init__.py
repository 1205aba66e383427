"""What every stage stands on: user-facing errors, whole-or-nothing files, records of finished stages."""
