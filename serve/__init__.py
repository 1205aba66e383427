"""The tuned model in use: predict a table, serve decisions, one folder to carry, which rows to label next."""

from typing import Any

__all__ = ["Classifier"]


def __getattr__(name: str) -> Any:
    """`Classifier`, imported when it is asked for: it takes seconds, and most of what is here does without it."""
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from serve.classifier import Classifier

    return Classifier
