"""A dataset's manifest.json: what was read, made, found and left out, with hashes; read and written here alone.

The keys are explained in dataset_jsonl/README.md. Counts are rows unless said otherwise.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from data_prep.task import SPLITS, SplitSettings
from workspace import records
from workspace.errors import UserError
from workspace.files import write_json
from workspace.gate import check_folder
from workspace.paths import shown

MANIFEST = "manifest.json"
OLDEST_KEYS = {"inputs", "files", "counts"}  # of every manifest that any version wrote
BUILD = "build the dataset with `python -m data_prep.build`"


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    if "total" not in counts:
        raise ValueError("total is missing")
    return counts


LabelCounts = dict[str, int]  # {"total": rows, label word: rows, ...}, with every class
Totals = Annotated[dict[str, int], AfterValidator(_with_total)]
RowIds = dict[str, list[str]]  # split -> `id` of rows


class Record(BaseModel):
    """A part of the manifest; keys of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class TableSource(Record):
    """The table that was read; `bytes` is its size, `encoding` None where the format brings its own."""

    path: str
    sha256: str
    bytes: int
    encoding: str | None
    nul_characters_removed: int


class BySplit(Record):
    """A part with rows by label in `train`, `val` and `test`."""

    def of(self, split: str) -> LabelCounts:
        """The rows of one split by label."""
        return getattr(self, split)


class Counts(BySplit):
    """Rows of the table, of each split by label, set aside by reason, left out by the value of their label, and not
    used, by split, because of a limit."""

    rows: int
    train: LabelCounts
    val: LabelCounts
    test: LabelCounts
    set_aside: Totals
    left_out: dict[str, int] = Field(default_factory=dict)  # absent up to version 7
    not_used: Totals


class CutRows(BySplit):
    """Rows whose review was shortened to fit max_length, by split and label, with their ids."""

    total: int
    train: LabelCounts
    val: LabelCounts
    test: LabelCounts
    ids: RowIds


class GroupCounts(Record):
    """Groups of more than one row, and the rows in them."""

    groups: int
    rows: int


class Duplicates(Record):
    """Exact and near duplicates in the table, those with more than one label, and what counts as near."""

    exact: GroupCounts
    near: GroupCounts
    conflicting_exact: GroupCounts
    conflicting_near: GroupCounts
    threshold: float
    ngram: int
    conflicts: str


class LeakCounts(Record):
    """Rows of one split with the same text, or only a near duplicate, in another."""

    exact: int
    near: int


class CorrectionCounts(Record):
    """What the task's file of corrections did; `conflicts` are equal texts under several labels afterwards."""

    path: str
    sha256: str
    test_allowed: bool
    named: int
    changed: dict[str, int]  # by split
    same: int
    not_applied: dict[str, int]  # by reason
    conflicts: GroupCounts
    ids: RowIds


class KnownTexts(Record):
    """Test rows that occur in the task's `known_public`, a file of `texts` texts: `exact`, `near`, by label."""

    path: str
    sha256: str
    texts: int
    exact: int
    near: int
    test: LabelCounts
    ids: list[str]


class Injected(Record):
    """Train rows with an injected instruction in the prompt, and the share that the task asked for."""

    share: float
    rows: int


class Spread(Record):
    """Least, median, 95th and 99th percentile, greatest and mean of some lengths."""

    least: float
    median: float
    p95: float
    p99: float
    greatest: float
    mean: float


class ClassLengths(Spread):
    """The lengths of a class, and its rows in each bin."""

    counts: list[int]


class Histogram(Record):
    """`edges` are the lower ends of the bins, the last of which is open; the spread in each split and class."""

    edges: list[int]
    split: dict[str, Spread]
    classes: Annotated[dict[str, ClassLengths], Field(validation_alias="class", serialization_alias="class")]


class CharacterLengths(Spread):
    """The characters of the reviews."""

    histogram: Histogram


class TokenLengths(Record):
    """The tokens of whole rows, the histogram being that before cutting; `sample` rows were counted, None: all."""

    before: Spread
    after: Spread
    histogram: Histogram
    sample: int | None


class MadeBy(Record):
    """The task and the overrides that the card's command names."""

    task: str
    override: list[str]


class Manifest(Record):
    """All of manifest.json. What is None was not asked for: `cut` and `tokens` need a model's tokenizer."""

    schema_version: int
    task: str
    source: TableSource
    provenance: str
    licence: str
    seed: int
    scheme: str
    split: SplitSettings
    labels: list[str]  # label words; a row's class number is its label's place here
    system: str
    prompt: str
    template: str
    limit: int | None
    counts: Counts
    duplicates: Annotated[Duplicates, Field(validation_alias="repeats", serialization_alias="repeats")]
    leaks: dict[str, LeakCounts]  # by "test_in_train", "test_in_val", "val_in_train"
    leaking: dict[str, list[tuple[str, str]]] = Field(
        default_factory=dict
    )  # the row, and its copy; some hundred of each
    corrections: CorrectionCounts | None
    added: dict[str, int] = Field(default_factory=dict)  # lines of the task's `added` by what became of them
    known_public: KnownTexts | None
    injected: Injected | None
    max_length: int
    keep_head: float
    tokenizer_sha256: str | None
    cut: CutRows | None
    tokens: TokenLengths | None
    characters: CharacterLengths
    warnings: list[str]
    rows_sha256: dict[str, str]  # identifies the rows of each split, whatever the prompt and the cutting
    made_by: MadeBy
    inputs: dict[str, records.Json]  # all that the files were made from; compared as a whole
    files: dict[str, str]  # SHA-256 by file name

    @model_validator(mode="after")
    def _fits_together(self) -> "Manifest":
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError(f"labels are {self.labels}, expected two or more, each once")
        for split in SPLITS:
            if self.counts.of(split).keys() != {"total", *self.labels} or split not in self.rows_sha256:
                raise ValueError(f"counts or rows_sha256 of {split} are not whole")
        return self

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of the dataset in `folder`. Raises UserError for one that is missing, broken or too old,
        and for links that lead out of the folder."""
        path = folder / MANIFEST
        check_folder(folder, "dataset")
        if not path.is_file():
            raise UserError(f"{shown(folder)} has no {MANIFEST}: {BUILD}")
        return records.read(path, cls, BUILD)

    def write(self, folder: Path) -> None:
        """Write the manifest into the dataset's folder, whole or not at all."""
        write_json(folder / MANIFEST, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The manifest as it is in the file."""
        return self.model_dump(mode="json", by_alias=True)


def has_manifest(folder: Path) -> bool:
    """Whether `folder` holds a manifest.json of any version of this project, and not that of another program."""
    try:
        found = records.parse(dict[str, Any], (folder / MANIFEST).read_bytes())
    except (OSError, records.Damaged):
        return False
    return found.keys() >= OLDEST_KEYS
