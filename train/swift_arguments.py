"""The options that the installed ms-swift knows: a misspelled key is told before anything slow starts."""

import contextlib
import difflib
import importlib.metadata
import json
import subprocess
import sys
from typing import Any

from workspace.errors import UserError
from workspace.files import write_json
from workspace.paths import cache_folder

# ms-swift is asked in a process of its own: importing it takes many seconds, so the answer is kept by version.
QUESTION = """
import dataclasses, json, sys
from swift.arguments import InferArguments, SftArguments
answer = {name: sorted(f.name for f in dataclasses.fields(cls) if f.init)
          for name, cls in (("sft", SftArguments), ("infer", InferArguments))}
sys.stdout.write("\\n@" + json.dumps(answer))
"""


def known_keys(command: str) -> set[str]:
    """The option names of `swift <command>` (sft or infer)."""
    try:
        version = importlib.metadata.version("ms_swift")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "ms-swift is not installed here: run `bash run_sft.sh`, or `source .venv/bin/activate`"
        ) from None
    path = cache_folder() / f"swift-arguments-{version}-{importlib.metadata.version('transformers')}.json"
    if not path.exists():
        result = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True)
        if result.returncode != 0:
            raise UserError(
                f"ms-swift cannot be imported ({result.stderr.strip().splitlines()[-1]}): install requirements.txt"
            )
        answer = json.loads(result.stdout.rsplit("\n@", 1)[1])
        # A cache that cannot be written costs the next start some seconds, no more.
        with contextlib.suppress(OSError):
            write_json(path, answer)
        return set(answer[command])
    return set(json.loads(path.read_text(encoding="utf-8"))[command])


def check_keys(values: dict[str, Any], command: str, source: str) -> None:
    """Raise `UserError` for the first key of `values` that `swift <command>` does not know, with the nearest name.

    ms-swift takes prefixes of option names without a word and turns `null` into the text "None"; both are refused.
    """
    if not values:
        return
    known = known_keys(command)
    for key, value in values.items():
        if key != "ENV" and key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{source}: `swift {command}` has no option {key}{hint}")
        if value is None or (isinstance(value, list) and None in value):
            raise UserError(f"{source}: {key} is null, which ms-swift reads as the text None; leave the key out")
