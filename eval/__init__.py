"""What a model answers, and what that is worth: inference, parsing, metrics, statistics, report."""
