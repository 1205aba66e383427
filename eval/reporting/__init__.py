"""From metrics.json to pages and pictures; no arithmetic on metrics."""
