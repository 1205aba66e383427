"""A run's folder and its record: what was planned, from which recipe, for which model and data; read and written here.

Every other module takes a `Run` and asks it for fields and paths, so that the names in run.json are in one place.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from data_prep.label_words import labels_by_word
from plan.resolved import AGAIN, resolved_values
from workspace.errors import UserError
from workspace.files import is_partial, remove, sha256_file, write_json, write_text
from workspace.folder_lock import locked
from workspace.gate import PLUGINS, check_folder, check_options, is_copy
from workspace.marker import MARKER, is_ours
from workspace.paths import ROOT, shown
from workspace.records import Damaged, Json, Stored, parse, read

RECORD = "run.json"
FORMAT = 2  # of run.json; runs of an earlier version have none, and lack some fields
PATHS = ("task_file", "model_folder", "dataset", "again_of", "start_adapter", "text_base")
PATTERN = re.compile(r"[*?\[]|::")  # in a path to rows: `datasets` takes it for a pattern, or for a chain of archives
LOCK = "lock"  # in the folder before anything else
PLANNED = "RUN_SFT_PLANNED"  # in the environment of run_sft.sh's stages: the hash of the record they go by
EARLIER = {"recipe", "task", "labels", "dataset", "config_sha256"}  # what every earlier version wrote into run.json


def _two_or_more(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < max(2, len(labels)):
        raise ValueError(f"they are {list(labels)}, expected two or more, each once")
    labels_by_word(labels, {})
    return labels


class Notice(TypedDict):
    """A sentence about the run that its report begins with."""

    zh: str
    en: str


Names = Annotated[tuple[str, ...], BeforeValidator(lambda names: names or ())]


@dataclass(frozen=True)
class Run:
    """One planned run. `folder` is absolute; everything else is as it is in run.json.

    Fields with a default may be missing in a run that an earlier version planned.
    """

    folder: Path
    recipe: str
    task: Annotated[str, Field(pattern=r"^[\w-]+$")]  # in the name of a file
    labels: Annotated[tuple[str, ...], AfterValidator(_two_or_more)]
    dataset: Stored
    task_file: Stored | None = None
    task_overrides: Names = ()
    overrides: Names = ()
    model: str | None = None
    model_folder: Stored | None = None
    model_fingerprint: Json = None
    csv: str | None = None
    limit: int | None = None
    prompt: str | None = None
    max_length: int | None = None
    seed: int = 42
    config_sha256: str | None = None
    machine: dict[str, Json] = field(default_factory=dict)
    machine_text: str | None = None
    precision: dict[str, Json] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    git: str | None = None
    command: str | None = None
    measured_bf16: bool | None = None  # what a measurement chose for training; None: the user's, or a GPU's
    chosen_dtype: str | None = None  # what the machine chose for a GPU's answers; None: nothing
    recipe_batch: tuple[int, int] | None = None  # batch and accumulation, before the machine shared them out
    fresh: bool = False
    auto_batch: bool = False
    planned: str | None = None
    notice: Notice | None = None
    again_of: Stored | None = None
    start_adapter: Stored | None = None  # the adapter that tuning goes on from, and that "before" answers with
    text_base: Stored | None = None  # the model that read texts without labels, and so became `model_folder`
    format: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in `folder`. Raises `UserError` where there is none, its record cannot be read, or links lead out."""
        path = folder / RECORD
        if not path.is_file():
            raise UserError(f"{shown(folder)} is not a run folder (no {RECORD}): make one with `bash run_sft.sh`")
        check_folder(folder, "run")
        run = read(path, _STORED, f"{AGAIN}, or a new run with --fresh")
        dataset = ROOT / run.dataset  # a relative one is the checkout's
        check_folder(dataset, "dataset")
        return replace(run, folder=folder.absolute(), dataset=dataset)

    @property
    def notice_over_seeds(self) -> Notice | None:
        """The notice, where several seeds begin with the same model that has read texts: that is in no interval."""
        if self.notice is None or self.text_base is None:
            return self.notice
        zh, en = self.notice["zh"], self.notice["en"]
        return {
            "zh": f"{zh}各种子都从这同一个模型出发，读文本这一步的偶然性不在任何区间里。",
            "en": f"{en} All seeds begin with this one model: the chance of that stage is in no interval.",
        }

    def write(self) -> None:
        """Write run.json: it is what makes the folder a run."""
        record = asdict(self)
        del record["folder"]
        record["format"] = FORMAT
        for key in PATHS:
            record[key] = str(record[key]) if record[key] is not None else None
        write_json(self.folder / RECORD, record)

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

    def write_yaml(self, command: str, values: Mapping[str, Any], header: str) -> None:
        """Write the run's sft.yaml or infer.yaml, as plain ms-swift below lines of comment."""
        text = yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False, width=1000)
        write_text(self.folder / f"{command}.yaml", f"{header}\n{text}")

    def _yaml(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{shown(path)} is missing: {AGAIN}")
        values = resolved_values(path)
        if plugins := values.get("external_plugins"):
            values["external_plugins"] = [_ours(one) for one in ([plugins] if isinstance(plugins, str) else plugins)]
        check_options(values, lambda key: f"{shown(path)}: {key}", self.folder)
        return values


def _ours(plugin: str) -> str:
    """This checkout's plugin where `plugin` names the same one of another checkout, or of this one before it was
    moved."""
    path = Path(plugin)
    own = PLUGINS / path.name
    return str(own) if path.parent.name == PLUGINS.name and own.is_file() and is_copy(path) else plugin


_STORED: Any = Annotated[Run, BeforeValidator(lambda one: {**one, "folder": "."} if isinstance(one, dict) else one)]


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold the folder of a run that is there; one that is none of ours is refused before anything in it is touched.

    Where there is no run at all, the stage says so. Raises `UserError` also where another command has planned the run
    anew since run_sft.sh did.
    """
    if not (folder / RECORD).is_file():
        yield
        return
    check_run_folder(folder)
    with locked(folder):
        if os.environ.get(PLANNED, "") not in ("", _record_sha256(folder)):
            raise UserError(f"{shown(folder)} was planned anew by another command: run yours again, or with --run DIR")
        yield


def check_run_folder(folder: Path, fresh: bool = False) -> None:
    """Raise `UserError` where the folder cannot be a run's, or with `fresh` holds more than one: it would be lost."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run {shown(folder)} is a file: name a folder")
    check_no_pattern(folder, "--run ")
    if ROOT.is_relative_to(folder.resolve()) or (names_in(folder) and not _is_run(folder)):
        raise UserError(f"{shown(folder)} holds something other than a run (no {RECORD} of ours): name another folder")
    if fresh and (inner := _nested_run(folder)):
        raise UserError(f"--fresh would remove {shown(inner)}, a run inside {shown(folder)}: name another with --run")
    if not fresh and folder.is_dir():
        check_folder(folder, "run")


def check_no_pattern(folder: Path, option: str = "") -> None:
    """Raise `UserError` for the path of a folder of rows that ms-swift would take for a pattern of several."""
    if PATTERN.search(str(folder)):
        raise UserError(
            f"{option}{shown(folder)} has *, ?, [ or ::, by which ms-swift would read other files: rename it"
        )


def tell_folder(folder: Path) -> None:
    """Print a run's folder, and write it into the file that run_sft.sh names, below the hash of the run's record."""
    print(folder)
    if answer := os.environ.get("RUN_SFT_ANSWER"):
        text = f"{_record_sha256(folder)}\n{folder}"
        Path(answer).write_text(text, encoding="utf-8", errors="surrogateescape")


def remove_earlier(folder: Path) -> None:
    """Empty a run's folder, but for its lock and its marker; links are removed, what they point to stays.

    Raises `UserError` as `check_run_folder` does.
    """
    check_run_folder(folder, fresh=True)
    for path in folder.iterdir():
        if path.name not in (LOCK, MARKER):
            remove(path)


def names_in(folder: Path) -> set[str]:
    """The names in a folder, but for what a command that was cut off at once leaves; none where it is not there."""
    paths = [*folder.iterdir()] if folder.exists() else []
    return {path.name for path in paths if path.name != LOCK and not is_partial(path)}


def _record_sha256(folder: Path) -> str:
    """The hash of a run's record; nothing where it has none."""
    return sha256_file(folder / RECORD) if (folder / RECORD).is_file() else ""


def _is_run(folder: Path) -> bool:
    """Whether the folder has our marker, or the record of an earlier version, which wrote no marker."""
    if is_ours(folder, "run"):
        return True
    path = folder / RECORD
    try:
        record = {} if path.is_symlink() else parse(dict[str, Any], path.read_bytes())
    except (OSError, Damaged):
        return False
    return record.keys() >= EARLIER


def _nested_run(folder: Path) -> Path | None:
    """A folder below `folder` that is a run, or a sweep, by itself; links are not followed."""
    for path, _, files in os.walk(folder):
        if Path(path) != folder and {RECORD, MARKER} & set(files):
            return Path(path)
    return None
