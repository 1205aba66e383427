"""Whether a run would go through here, told in seconds; writes and downloads nothing."""
