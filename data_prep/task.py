"""The task: which table to read, what its labels are called, the prompt and the split; written once, in task.yaml.

The other packages import the task from here, so it needs nothing but PyYAML and pydantic.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from data_prep.chat.parts import filled
from data_prep.decision_settings import Costs, SelectiveSettings, check_confusions
from data_prep.label_words import labels_by_word
from data_prep.overrides import find_overrides
from data_prep.settings import (
    MAPPING,
    Flag,
    Number,
    RootPath,
    RootPaths,
    SettingError,
    String,
    Text,
    Whole,
    between,
    matching,
    read_settings,
    within,
)  # fmt: skip
from data_prep.splits.split_settings import Scheme as Scheme
from data_prep.splits.split_settings import SplitSettings as SplitSettings
from data_prep.table.table_settings import PLACE, STRICT, Columns, Segments, TableSettings, check_places, distinct
from data_prep.table.table_settings import SPLITS as SPLITS
from data_prep.table.table_settings import TextFile as TextFile
from workspace.errors import UserError, nearest
from workspace.paths import CONFIGS, shown
from workspace.ranges import ROWS, SEED, TOKENS
from workspace.yaml_files import YamlFile

RESERVED_WORDS = ("total", "unparsed")  # keys next to label words in counts and confusion tables
LABELS = (2, 200)  # fewest and most label words
Conflicts = Literal["keep", "set_aside"]
PrimaryMetric = Literal["macro_f1", "accuracy", "balanced_accuracy", "mcc"]


def canonical_value(value: Any) -> str:
    """A label's value as it is looked up: white space around it gone, full-width digits plain, `1.0` as `1`.

    A table that went through a spreadsheet has `1.0` for `1`. Keys of `labels` and cells go through the same.
    """
    text = unicodedata.normalize("NFKC", str(value)).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise SettingError(f"is {value!r}, expected {MAPPING}")
    return value


def _labels(given: Any) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for value, label in _mapping(given).items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SettingError(f"is read by YAML as {value!r}: put the value in quotes", str(value))
        if label is not None and (not isinstance(label, str) or not label.strip() or label != label.strip()):
            raise SettingError(
                f"is {label!r}, expected a label word in quotes, or null to leave such rows out", str(value)
            )
        if label in RESERVED_WORDS:
            raise SettingError(f"is {label!r}, which counts and reports use themselves: choose another", str(value))
        key = canonical_value(value)
        if key in labels:
            raise SettingError("is there twice", str(value))
        labels[key] = label
    count = len(set(labels.values()) - {None})
    if not LABELS[0] <= count <= LABELS[1]:
        raise SettingError(f"has {count} distinct label words, expected {LABELS[0]} to {LABELS[1]}")
    return labels


def _prompts(prompts: Any) -> dict[str, str]:
    if not _mapping(prompts):
        raise SettingError(f"is empty, expected at least one prompt with {PLACE} in it")
    for name, prompt in prompts.items():
        if not isinstance(name, str) or not isinstance(prompt, str):
            raise SettingError(f"is {prompt!r}, expected a name and a text in quotes", str(name))
    return prompts


def _synonyms(given: Any) -> dict[str, tuple[str, ...]]:
    for label, others in _mapping(given).items():
        if not isinstance(others, list | tuple) or not all(isinstance(word, str) and word.strip() for word in others):
            raise SettingError(f"is {others!r}, expected a list of words in quotes", str(label))
    return {str(label): tuple(others) for label, others in given.items()}


Name = Annotated[String, matching("[A-Za-z0-9_-]+", "letters, digits, _ and - only: folders are called after it")]
Address = Annotated[Text, matching(r"https?://.*", "an address that begins with https:// or http://")]
Sha256 = Annotated[Text, AfterValidator(str.lower), matching("[0-9a-f]{64}", "64 hexadecimal digits")]


@dataclass(frozen=True, config=STRICT)
class Source:
    """Where the table can be downloaded, and the SHA-256 (hex) it must have."""

    url: Address
    sha256: Sha256


@dataclass(frozen=True, config=STRICT)
class NearDuplicates:
    """Two reviews are near duplicates when the Jaccard similarity of their character n-grams reaches the threshold."""

    threshold: Annotated[Number, between(0.5, 1)] = 0.8
    ngram: Annotated[Whole, between(1, 16)] = 3


@dataclass(frozen=True, config=STRICT)
class Task:
    """A task.yaml, checked. Its keys are explained in the tasks that ship and in dataset_jsonl/README.md."""

    path: Path
    name: Name
    columns: Annotated[Columns, AfterValidator(distinct)]
    # Canonical value in the table -> label word, in the order in which classes are shown; None: such rows are left out.
    labels: Annotated[dict[str, str | None], BeforeValidator(_labels)]
    prompts: Annotated[dict[str, str], BeforeValidator(_prompts)]
    prompt: String  # the name of the prompt in use
    default_recipe: Text
    system: Annotated[String, AfterValidator(lambda text: text if text.strip() else "")] = ""  # no system turn
    csv: RootPath | None = None
    table: TableSettings = Field(default_factory=TableSettings)  # how it is read
    source: Source | None = None
    provenance: String = ""
    licence: String = ""
    split: SplitSettings = Field(default_factory=SplitSettings)
    near_duplicates: NearDuplicates = Field(default_factory=NearDuplicates)
    # The original experiment kept every row, and splits of the user's own are kept whole, where the file says nothing.
    conflicts: Conflicts = Field(
        default_factory=lambda given: "set_aside" if given["split"].name in ("stratified", "folds") else "keep"
    )
    primary_metric: PrimaryMetric = "macro_f1"  # verdict, comparisons and advice go by it; no row depends on it
    margin: Annotated[Number, between(0.0001, 0.5)] = 0.01  # differences of it that are smaller count as none
    max_length: Annotated[Whole, within(TOKENS)] = 512
    keep_head: Annotated[Number, between(0, 1)] = 0.75
    min_chars: Annotated[Whole, between(1, 1_000_000)] = 1
    max_reject_share: Annotated[Number, between(0, 1)] = 0.05
    synonyms: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_synonyms)] = Field(default_factory=dict)
    limit: Annotated[Whole, within(ROWS)] | None = None
    limit_of: Literal["all", "train"] = "all"
    held_out_limit: Annotated[Whole, within(ROWS)] | None = None  # whose test and val rows a limit takes; None: its own
    limit_seed: Annotated[Whole, within(SEED)] | None = None  # which rows a limit takes; None: by the split's seed
    injected_share: Annotated[Number, between(0, 1)] = 0.0
    corrections: RootPath | None = None  # a file of corrected labels, see data_prep.table.corrections
    corrections_test: Flag = False  # whether it changes labels of val and test rows too
    added: RootPaths = ()  # tables of rows labelled later, which join the train rows, see data_prep.table.added_rows
    known_public: TextFile | None = None
    unlabelled: TextFile | None = None  # texts that the model learns to predict first, see data_prep.unlabelled
    selective: SelectiveSettings = Field(default_factory=SelectiveSettings)  # read when a run is scored
    costs: Costs | None = None  # so are these
    segments: Segments = ()  # and these columns, whose values the report looks at rows by
    sft: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)  # in place of a recipe's

    @model_validator(mode="after")
    def _fits_together(self) -> "Task":
        if self.path.parent.parent == CONFIGS and self.path.parent.name != self.name:
            raise SettingError(f"is {self.name!r}, expected {self.path.parent.name!r}, the name of its folder", "name")
        check_places(self.columns, self.system, self.prompts)
        if self.columns.all.count(column := self.split.column) and column != self.columns.id:
            raise SettingError(f"is {column!r}, which columns has too: expected a column of its own", "split.column")
        if self.prompt not in self.prompts:
            known = f"{', '.join(self.prompts)}{nearest(self.prompt, self.prompts)}"
            raise SettingError(f"is {self.prompt!r}, expected one of {known}", "prompt")
        for label in self.synonyms:
            if label not in self.label_words:
                known = f"{nearest(label, self.label_words)}; known: {', '.join(self.label_words)}"
                raise SettingError(f"is no label word{known}", f"synonyms.{label}")
        if self.columns.label in self.segments or len(set(self.segments)) < len(self.segments):
            raise SettingError("holds the label's column, or one twice: the report has labels already", "segments")
        check_confusions(self.costs, self.label_words)
        labels_by_word(self.label_words, self.synonyms)
        if self.corrections_test and self.corrections is None:
            raise SettingError("is true, but there is no `corrections`: name the CSV there", "corrections_test")
        return self

    @property
    def main_table(self) -> Path | None:
        """The table that is read, where the command line names none: of own splits in files that of train."""
        return self.split.files["train"] if self.split.files else self.csv

    @property
    def label_words(self) -> tuple[str, ...]:
        """The label words, each once, in the order in which classes are shown."""
        return tuple(dict.fromkeys(label for label in self.labels.values() if label is not None))

    @property
    def template(self) -> str:
        """The prompt in use, with the places of `columns`: {review} where there is one text column."""
        prompt = self.prompts[self.prompt]
        return prompt.replace(f"{{{self.columns.text[0]}}}", PLACE) if len(self.columns.text) == 1 else prompt

    @property
    def system_turns(self) -> list[dict[str, str]]:
        """The system turn of a chat; none where the task has no system prompt."""
        return [{"role": "system", "content": self.system}] if self.system else []

    def render(self, review: str) -> str:
        """The user's turn of the chat: the prompt in use, with the review in its place, or with the parts of several
        columns (data_prep.chat.parts) in theirs."""
        return filled(self.template, self.columns.places, review)

    @property
    def around(self) -> tuple[str, str]:
        """What stands in the prompt before the first text and after the last one."""
        places = re.compile("|".join(map(re.escape, self.columns.places)))
        found = list(places.finditer(self.template))
        return self.template[: found[0].start()], self.template[found[-1].end() :]


def word_for(task_file: Path) -> str:
    """What names the task in a command: the folder's name below swift_configs, else the folder's path."""
    folder = task_file.parent
    return folder.name if folder.parent == CONFIGS else shown(folder)


def find_task(name: str, overrides: Sequence[str] = ()) -> Task:
    """The task `name`: a folder of swift_configs, or the path of a task.yaml or of its folder.

    Raises UserError when there is none, with those known.
    """
    path = CONFIGS / name / "task.yaml"
    if not (re.fullmatch(r"[\w-]+", name) and path.is_file()):
        path = Path(name) / "task.yaml" if Path(name).is_dir() else Path(name)
    if path.is_file():
        return load_task(path, find_overrides(overrides, path.parent))
    known = sorted(folder.parent.name for folder in CONFIGS.glob("*/task.yaml"))
    raise UserError(f"there is no task {name}{nearest(name, known)}; known are {', '.join(known)}")


def load_task(path: Path, changes: Sequence[YamlFile] = ()) -> Task:
    """The task in the file `path`, with the keys of override files in place of its own.

    Raises UserError that names the file, the line, the key and what was expected.
    """
    path = Path(path).absolute()
    return read_settings(Task, path, changes, {"path": path})
