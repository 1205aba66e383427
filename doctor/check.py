"""Whether a run would go through on this machine: a line for each thing it needs, before hours are spent.

Run as: python -m doctor [recipe] [options of run_sft.sh] [--json] [--no-forward]

Downloads and writes nothing. Needs nothing but Python itself to start: what is missing is told.
Exit status 0 without a fault, 1 with one, 2 for options that cannot be read.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plan.options import Options, parse_options
from workspace.errors import UserError

DEFAULT_RECIPE = "hotel_reviews"
USAGE = """\
usage: bash run_sft.sh doctor [recipe] [the options of a run] [--json] [--no-forward]

Looks at everything that the run `bash run_sft.sh [recipe] [options]` needs, and downloads and writes nothing.
  --json        one JSON document {recipe, machine, checks: [{name, state, found, remedy}], ok}
  --no-forward  leave out the last check, one forward pass of the model
Exit status 0: no fault; 1: a fault; 2: options that cannot be read.
"""
OK, WARNING, FAULT = "ok", "warning", "fault"
# The states in Chinese, for the line on a terminal.
WORDS = {OK: "正常", WARNING: "注意", FAULT: "故障"}


class Check(NamedTuple):
    """One line: what was looked at, `state` (ok, warning or fault), what was found, and what to do (empty when ok)."""

    name: str
    state: str
    found: str
    remedy: str = ""

    def line(self) -> str:
        """The line for a terminal."""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{self.state:7} {WORDS[self.state]}  {self.name}: {self.found}{remedy}"


class Ready(NamedTuple):
    """A recipe with all that follows from it, as far as it could be found."""

    options: Options
    recipe: Any
    machine: Any
    model: Path | None
    model_problem: Exception | None
    run: Path
    dataset: Path
    csv: Path | None
    sft: dict[str, Any]


def guarded(name: str, check: Callable[[], Check], remedy: str = "") -> Check:
    """What `check` finds; a fault with the reason where it fails itself."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return check()
    except UserError as error:
        return Check(name, FAULT, one_line(error), remedy)
    except ModuleNotFoundError as error:
        return Check(name, FAULT, f"not looked at: the package {error.name} is missing", remedy or "see packages")
    except Exception as error:  # a broken environment breaks in any way
        return Check(name, FAULT, f"not looked at: {type(error).__name__}: {one_line(error)}", remedy)


def one_line(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def examine(options: Options, forward: bool, tell: Callable[[Check], None]) -> tuple[list[Check], str, dict[str, Any]]:
    """All checks, each told as it is done; the recipe's name; the machine. Raises `UserError` for an unknown recipe."""
    from doctor import environment as doctor_checks
    from doctor import inputs as doctor_inputs

    checks: list[Check] = []

    def add(name: str, check: Callable[[], Check], remedy: str = "") -> None:
        checks.append(guarded(name, check, remedy))
        tell(checks[-1])

    add("python", doctor_checks.python)
    add("packages", doctor_checks.packages, doctor_checks.INSTALL)
    machine = doctor_checks.look_at_machine()
    add("machine", lambda: doctor_checks.hardware(machine))
    add("tools", doctor_checks.tools)
    add("font", doctor_checks.font, "install a Chinese font such as Noto Sans CJK SC")
    name, ready = options.recipe or DEFAULT_RECIPE, None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            ready = doctor_inputs.prepare(options, machine)
        name = ready.recipe.name
        checks.append(Check("recipe", OK, name))
    except UserError:
        raise
    except ModuleNotFoundError as error:
        checks.append(
            Check("recipe", FAULT, f"{name} not looked at: the package {error.name} is missing", "see packages")
        )
    except Exception as error:
        checks.append(Check("recipe", FAULT, f"{name} not looked at: {type(error).__name__}: {one_line(error)}"))
    tell(checks[-1])
    if ready is not None:
        for title, check in doctor_inputs.CHECKS.items():
            add(title, lambda check=check: check(ready))
        if forward:
            add("forward", lambda: doctor_inputs.forward(ready))
    return checks, name, machine.as_dict() if machine else {}


def leave_no_trace(folder: Path) -> None:
    """Have Python and the libraries keep what they would write of their own accord in `folder`."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
    if "MPLCONFIGDIR" not in os.environ and not list(cache.glob("fontlist-*.json")):
        os.environ["MPLCONFIGDIR"] = str(folder)
    os.environ.setdefault("MODELSCOPE_CREDENTIALS_PATH", str(folder / "modelscope"))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks; 1 when one is a fault."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "-h" in words or "--help" in words:
        print(USAGE, end="")
        return 0
    as_json, forward = "--json" in words, "--no-forward" not in words
    options = parse_options([word for word in words if word not in ("--json", "--no-forward")])

    def tell(check: Check) -> None:
        if not as_json:
            print(check.line(), flush=True)

    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        leave_no_trace(Path(scratch))
        checks, recipe, machine = examine(options, forward, tell)
    faults = sum(check.state == FAULT for check in checks)
    warnings = sum(check.state == WARNING for check in checks)
    if as_json:
        document = {"recipe": recipe, "machine": machine, "checks": [c._asdict() for c in checks], "ok": not faults}
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        print(f"doctor: {recipe}: {faults} faults, {warnings} warnings / {faults} 个故障，{warnings} 个注意事项")
    return int(bool(faults))
