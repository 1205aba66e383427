"""Asking a model: prompts, `swift infer` processes, and the journal of what came back."""
