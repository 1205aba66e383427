"""Whether a run would go through on this machine: a line for each thing it needs, before hours are spent.

Run as: python -m doctor [recipe] [options of run_sft.sh] [--json] [--no-forward]

Downloads and writes nothing. Needs nothing but Python itself to start: what is missing is named.
Exit status 0 without a fault, 1 with one, 2 for options that cannot be read.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from doctor import environment, inputs, resources, tables
from doctor.result import FAULT, WARNING, Check, guarded, reason
from plan.hardware import Machine, this_machine
from plan.options import Options, parse_options
from workspace.errors import UserError, run_main

USAGE = """\
usage: bash run_sft.sh doctor [recipe] [the options of a run] [--json] [--no-forward]

Looks at everything that the run `bash run_sft.sh [recipe] [options]` needs, and downloads and writes nothing.
  --json        one JSON document {recipe, machine, checks: [{name, state, found, remedy}], ok}
  --no-forward  leave out the last check, one forward pass of the model
Exit status 0: no fault; 1: a fault; 2: options that cannot be read.
"""


def examine(options: Options, forward: bool, silent: bool) -> tuple[list[Check], str, Machine | None]:
    """All checks, each printed as it is done unless `silent`; the recipe's name; the machine.

    Raises `UserError` for an unknown recipe.
    """
    checks: list[Check] = []

    def add(name: str, check: Callable[[], Check], remedy: str = "") -> None:
        checks.append(guarded(name, check, remedy))
        if not silent:
            print(checks[-1].line(), flush=True)

    add("python", environment.python)
    add("packages", environment.packages, environment.INSTALL)
    machine = None
    with contextlib.suppress(Exception):
        machine = this_machine()
    add("machine", lambda: environment.hardware(machine))
    add("tools", environment.tools)
    add("font", environment.font, "install a Chinese font such as Noto Sans CJK SC")
    name = options.recipe or inputs.DEFAULT_RECIPE
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            ready = inputs.prepare(options, machine)
    except UserError:
        raise
    except Exception as error:  # a broken environment breaks in any way
        found, remedy = reason(error)
        add("recipe", lambda: Check("recipe", FAULT, f"{name} {found}", remedy))
        return checks, name, machine
    add("recipe", lambda: inputs.recipe(ready))
    add("model", lambda: inputs.model(ready))
    add("hub", lambda: inputs.hub(ready))
    add("data", lambda: tables.data(ready))
    add("folders", lambda: resources.folders(ready.run, ready.dataset))
    add("disk", lambda: resources.disk(ready.sft, ready.run, ready.dataset, ready.csv, ready.model, ready.rows))
    add("memory", lambda: resources.memory(ready.machine, ready.sft, ready.model))
    if forward:
        add("forward", lambda: inputs.forward(ready))
    return checks, ready.recipe.name, ready.machine


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
    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        leave_no_trace(Path(scratch))
        checks, recipe, machine = examine(options, forward, as_json)
    faults, warnings = (sum(check.state == state for check in checks) for state in (FAULT, WARNING))
    if as_json:
        document = {
            "recipe": recipe, "machine": machine.as_dict() if machine else {},
            "checks": [asdict(check) for check in checks], "ok": not faults,
        }  # fmt: skip
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        print(f"doctor: {recipe}: {faults} faults, {warnings} warnings / {faults} 个故障，{warnings} 个注意事项")
    return int(bool(faults))


if __name__ == "__main__":
    run_main(main)
