"""From saved responses to metrics: parsing, statistics, thresholds, verdict; no model, no formatting."""
