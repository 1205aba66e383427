"""One line of doctor's: what was looked at, in which state it is, what was found, what to do."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass

from workspace.errors import UserError

OK, WARNING, FAULT = "ok", "warning", "fault"
# The states in Chinese, for the line on a terminal.
WORDS = {OK: "正常", WARNING: "注意", FAULT: "故障"}


@dataclass(frozen=True)
class Check:
    """What was looked at, `state` (ok, warning or fault), what was found, and what to do (empty when ok)."""

    name: str
    state: str
    found: str
    remedy: str = ""

    def line(self) -> str:
        """The line for a terminal."""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{self.state:7} {WORDS[self.state]}  {self.name}: {self.found}{remedy}"


def guarded(name: str, check: Callable[[], Check], remedy: str = "") -> Check:
    """What `check` finds; a fault with the reason where it fails itself."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return check()
    except Exception as error:  # a broken environment breaks in any way
        return Check(name, FAULT, *reason(error, remedy))


def reason(error: Exception, remedy: str = "") -> tuple[str, str]:
    """What is found where a check fails itself, in one line, and the remedy."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UserError):
        return text, remedy
    if isinstance(error, ModuleNotFoundError):
        return f"not looked at: the package {error.name} is missing", remedy or "see packages"
    return f"not looked at: {type(error).__name__}: {text}", remedy
