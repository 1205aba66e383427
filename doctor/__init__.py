"""Whether a run would go through here, in seconds; writes and downloads nothing."""
