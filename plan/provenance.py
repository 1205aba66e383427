"""What a run and its stages were made with: packages, git revision, code, model and data, by hash; so that it can be
judged and run again."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest
from hub.model_files import fingerprint
from plan.distributed import ACCUMULATION, BATCH, rows_a_step
from plan.hardware import this_machine
from plan.result_values import result_values
from plan.run import Run
from workspace import records
from workspace.files import sha256_file, sha256_json, write_json, write_text
from workspace.paths import ROOT

PACKAGES = ("ms_swift", "torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn", "pandas")
SEED_KEYS = {"seed", "data_seed"}
LAUNCH = {"NPROC_PER_NODE", "NNODES"}  # in ENV
TABLE_KEYS = ("source_sha256", "split_files", "corrections", "added")  # of a manifest's `inputs`
PACKAGES_FILE = "packages.txt"
DATA_FILE = "data.json"
# The keys of a dataset's manifest that say which rows a run saw, and from which table.
DATA_KEYS = ("source", "counts", "rows_sha256", "files", "tokenizer_sha256", "seed", "scheme", "prompt", "max_length")


def software() -> dict[str, Any]:
    """Versions of the packages that decide a result, of Python, and the git revision (None outside a repository)."""
    return {
        "versions": {name.replace("_", "-"): importlib.metadata.version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "git": _git_revision(),
    }


def made_by(plugins: str | Iterable[str | Path]) -> dict[str, str]:
    """What computes here and now, for a stage's record: machine, Python, packages, git revision, the plugins' code."""
    found = software()
    facts = {"machine": this_machine().describe(), **found["versions"], "python": found["python"], "git": found["git"]}
    return {**{key: value for key, value in facts.items() if value}, "plugins": code_sha256(plugins)[:12]}


def code_sha256(plugins: str | Iterable[str | Path]) -> str:
    """The hash of plugins and of all that they import from their own folder."""
    waiting, found = [Path(plugin) for plugin in ([plugins] if isinstance(plugins, str) else plugins)], {}
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = sha256_file(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            level = getattr(node, "level", 0)
            base = path.parents[level - 1] if level else path.parent
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            waiting += [base.joinpath(*name.split(".")).with_suffix(".py") for name in names if name]
    return sha256_json(sorted(found.values()))


def recipe_sha256(run: Run, manifest: Manifest) -> str:
    """What runs of one recipe have in common, whatever their seeds: the keys that decide the result, the model, the
    prompt, the table with its corrections and what is added to it, and how many of its rows are learned from.

    How the rows of a step are shared out is the machine's, and changes with who else uses a card.
    """
    sft = run.sft_values()
    shared = {*SEED_KEYS, BATCH, ACCUMULATION}
    values = {key: value for key, value in result_values(sft).items() if key not in shared}
    values["ENV"] = {key: value for key, value in values.get("ENV", {}).items() if key not in LAUNCH}
    values["rows_a_step"] = rows_a_step(sft)
    rows = [manifest.counts.train["total"], *(manifest.inputs.get(key) for key in TABLE_KEYS)]
    return sha256_json([values, run.model_fingerprint, run.task, run.prompt, run.max_length, rows])


def current_model(run: Run) -> Any:
    """The fingerprint of the model that is in the run's folder of it now; where that is gone, of the planned one."""
    there = run.model_folder is not None and run.model_folder.is_dir() and isinstance(run.model_fingerprint, str)
    return fingerprint(run.model_folder) if there and run.model_folder else run.model_fingerprint


def write_packages(path: Path) -> None:
    """Every installed package as `name==version`, one a line, sorted: what `pip install -r` takes."""
    found = {
        dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions() if dist.metadata["Name"]
    }
    write_text(path, "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower)))


def record_data(dataset: Path, run: Path) -> None:
    """Write RUN/data.json: the hashes of the dataset, which is outside the run and may be built again."""
    manifest = Manifest.read(dataset).as_json()
    write_json(run / DATA_FILE, {key: manifest[key] for key in DATA_KEYS})


@dataclass(frozen=True)
class Source:
    """The table that a run was made from."""

    path: str
    sha256: str


@dataclass(frozen=True)
class _Data:
    source: Source


def read_source(run: Path) -> Source:
    """The table that a run was made from, by its data.json. Raises `UserError` where that cannot be read."""
    return records.read(run / DATA_FILE, _Data, "run the same `bash run_sft.sh` command again").source


def _git_revision() -> str | None:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    return result.stdout.strip() or None
