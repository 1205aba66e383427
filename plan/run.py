"""A run's folder and its record: what was planned, from which recipe, for which model and data; read and written here.

Every other module takes a `Run` and asks it for fields and paths, so that the names in run.json stand in one place.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from workspace.errors import UserError
from workspace.files import read_json, write_json
from workspace.paths import ROOT, shown

RECORD = "run.json"
FORMAT = 2  # of run.json; runs of an earlier version have none, and lack some fields
PATHS = ("task_file", "model_folder", "dataset")


@dataclass(frozen=True)
class Run:
    """One planned run. `folder` is absolute; everything else is as it stands in run.json.

    Fields with a default may be missing in a run that an earlier version planned.
    """

    folder: Path
    recipe: str
    task: str
    labels: tuple[str, ...]
    dataset: Path
    task_file: Path | None = None
    task_overrides: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    model: str | None = None
    model_folder: Path | None = None
    model_fingerprint: Any = None
    csv: str | None = None
    limit: int | None = None
    prompt: str | None = None
    max_length: int | None = None
    seed: int = 42
    config_sha256: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    machine_text: str | None = None
    precision: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    git: str | None = None
    command: str | None = None
    fresh: bool = False
    auto_batch: bool = False
    planned: str | None = None
    notice: dict[str, str] | None = None
    again_of: str | None = None
    format: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in `folder`. Raises `UserError` where there is none, or its record cannot be read."""
        path = folder / RECORD
        if not path.is_file():
            raise UserError(f"{shown(folder)} is not a run folder (no {RECORD}): make one with `bash run_sft.sh`")
        try:
            record = read_json(path)
            known = {one.name for one in fields(cls)} - {"folder"}
            values = {key: value for key, value in record.items() if key in known}
            for key in PATHS:
                values[key] = Path(values[key]) if values.get(key) else None
            for key in ("labels", "task_overrides", "overrides"):
                values[key] = tuple(values.get(key) or ())
            # Relative ones are the checkout's.
            values["dataset"] = ROOT / values["dataset"]
            return cls(folder=folder.absolute(), **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{shown(path)} cannot be read as a run's record ({error}): plan the run anew with --fresh"
            ) from None

    def write(self, folder: Path | None = None) -> None:
        """Write run.json into `folder`, the run's own by default."""
        record = asdict(self)
        del record["folder"]
        record["format"] = FORMAT
        for key in PATHS:
            record[key] = str(record[key]) if record[key] is not None else None
        write_json((folder or self.folder) / RECORD, record)

    @property
    def train_folder(self) -> Path:
        """Where `swift sft` writes checkpoints and logs."""
        return self.folder / "train"

    def sft_values(self) -> dict[str, Any]:
        """The keys of the run's sft.yaml."""
        return self._yaml("sft.yaml")

    def infer_values(self) -> dict[str, Any]:
        """The keys of the run's infer.yaml."""
        return self._yaml("infer.yaml")

    def _yaml(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{shown(path)} is missing: plan the run anew with `bash run_sft.sh`") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}): plan the run anew") from None
        if not isinstance(values, dict):
            raise UserError(f"{shown(path)} holds no keys: plan the run anew with `bash run_sft.sh`")
        return values
