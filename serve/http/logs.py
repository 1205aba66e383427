"""A server's log, on stderr: requests, batches and failures, and not a word of a text unless that is asked for."""

import logging
import traceback

from workspace.child_process import OutOfMemory

LOG = logging.getLogger("serve")
_TEXTS = logging.getLogger("serve.texts")


def set_up(texts: bool) -> None:
    """Log to stderr, with `texts` also what is asked and answered."""
    layout = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(format=layout, level=logging.WARNING)
    own = logging.StreamHandler()  # vLLM leaves the root's at ERROR
    own.setFormatter(logging.Formatter(layout))
    LOG.handlers, LOG.propagate = [own], False
    LOG.setLevel(logging.INFO)
    _TEXTS.setLevel(logging.INFO if texts else logging.CRITICAL)


def log_answer(text: str, label: str) -> None:
    """A text and its label, where that is asked for."""
    _TEXTS.info("%s: %r", label, text)


def log_failure(what: str, error: BaseException) -> None:
    """A defect of ours, or want of memory, with where it was; the message of the first may quote a text, and is left
    out unless texts are asked for."""
    told = isinstance(error, OutOfMemory) or _TEXTS.isEnabledFor(logging.INFO)
    message = str(error) if told else "--log-texts shows its message"
    places = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("%s: %s (%s)\n%s", what, type(error).__name__, message, places)
