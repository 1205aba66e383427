"""What a run was made with: packages, git revision, hashes of its data; so that it can be judged and run again."""

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest
from workspace import records
from workspace.files import write_json, write_text
from workspace.paths import ROOT

PACKAGES = ("ms_swift", "torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn", "pandas")
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
