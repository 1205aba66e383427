"""The task: which table to read, what its labels are called, the prompt and the split; written once, in task.yaml.

The other packages import the task from here, so it needs nothing but PyYAML.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.overrides import find_overrides
from data_prep.settings import Section, nearest, read_settings
from data_prep.task_parts import (
    Columns,
    Corrections,
    KnownPublic,
    NearDuplicates,
    Source,
    SplitSettings,
    take_columns,
    take_corrections,
    take_known_public,
    take_near_duplicates,
    take_source,
    take_split,
    take_text,
)
from workspace.errors import UserError
from workspace.paths import CONFIGS, ROOT
from workspace.yaml_files import YamlFile

PLACE = "{review}"  # where the review stands in a prompt
SPLITS = ("train", "val", "test")
CONFLICTS = ("keep", "set_aside")
TAKEN_WORDS = ("total", "unparsed")  # keys that stand beside label words in counts and confusion tables
LABELS = (2, 20)  # fewest and most label words


@dataclass(frozen=True)
class Task:
    """A task.yaml, checked. Its keys are explained in the tasks that ship and in dataset_jsonl/README.md."""

    name: str
    path: Path
    columns: Columns
    labels: Mapping[str, str]  # canonical value in the table -> label word, in the order in which classes are shown
    system: str
    prompts: Mapping[str, str]
    prompt: str  # the name of the prompt in use
    default_recipe: str
    csv: Path | None = None
    source: Source | None = None
    provenance: str = ""
    licence: str = ""
    split: SplitSettings = field(default_factory=SplitSettings)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    conflicts: str = "set_aside"
    max_length: int = 512
    keep_head: float = 0.75
    min_chars: int = 1
    max_reject_share: float = 0.05
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    limit_of: str = "all"
    injected_share: float = 0.0
    corrections: Corrections | None = None
    known_public: KnownPublic | None = None
    sft: Mapping[str, Any] = field(
        default_factory=dict
    )  # keys in place of the recipe's; the data does not depend on them

    @property
    def label_words(self) -> tuple[str, ...]:
        """The label words, each once, in the order in which classes are shown."""
        return tuple(dict.fromkeys(self.labels.values()))

    @property
    def template(self) -> str:
        """The prompt in use, with {review} where the review goes."""
        return self.prompts[self.prompt]

    def render(self, review: str) -> str:
        """The user's turn of the chat: the prompt in use, with the review in its place."""
        return self.template.replace(PLACE, review)


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

    Raises UserError that names the file, the key and what was expected.
    """
    path = Path(path).absolute()
    top = read_settings(path, changes)
    name = top.take("name", str)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise top.error("name", f"is {name!r}, expected letters, digits, _ and - only: folders are called after it")
    if path.parent.parent == CONFIGS and path.parent.name != name:
        raise top.error("name", f"is {name!r}, expected {path.parent.name!r}, the name of its folder")
    csv = top.take("csv", str, None)
    labels = _labels(top)
    prompts = _prompts(top)
    split = take_split(top)
    task = Task(
        name=name,
        path=path,
        csv=None if csv is None else ROOT / Path(csv).expanduser(),
        source=take_source(top),
        provenance=top.take("provenance", str, ""),
        licence=top.take("licence", str, ""),
        columns=take_columns(top),
        labels=labels,
        system=take_text(top, "system"),
        prompts=prompts,
        prompt=top.choice("prompt", tuple(prompts)),
        split=split,
        near_duplicates=take_near_duplicates(top),
        # The original experiment kept every row, so its scheme does too unless told otherwise.
        conflicts=top.choice("conflicts", CONFLICTS, "keep" if split.scheme == "original" else "set_aside"),
        max_length=top.number("max_length", int, 16, 1_000_000, 512),
        keep_head=top.number("keep_head", float, 0, 1, 0.75),
        min_chars=top.number("min_chars", int, 1, 1_000_000, 1),
        max_reject_share=top.number("max_reject_share", float, 0, 1, 0.05),
        default_recipe=take_text(top, "default_recipe"),
        synonyms=_synonyms(top, tuple(dict.fromkeys(labels.values()))),
        limit=top.number("limit", int, 1, 10**12, None),
        limit_of=top.choice("limit_of", ("all", "train"), "all"),
        injected_share=top.number("injected_share", float, 0, 1, 0.0),
        corrections=take_corrections(top),
        known_public=take_known_public(top),
        sft=top.take("sft", dict, {}),
    )
    top.finish()
    return task


def canonical_value(value: Any) -> str:
    """A label's value as it is looked up: white space around it gone, full-width digits plain, `1.0` as `1`.

    A table that went through a spreadsheet has `1.0` for `1`. Keys of `labels` and cells go through the same.
    """
    text = unicodedata.normalize("NFKC", str(value)).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _labels(top: Section) -> dict[str, str]:
    labels: dict[str, str] = {}
    for value, word in top.take("labels", dict).items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise top.error(f"labels.{value}", f"is read by YAML as {value!r}: put the value in quotes")
        if not isinstance(word, str) or not word.strip() or word != word.strip():
            raise top.error(f"labels.{value}", f"is {word!r}, expected a label word in quotes")
        if word in TAKEN_WORDS:
            raise top.error(f"labels.{value}", f"is {word!r}, which counts and reports use themselves: choose another")
        key = canonical_value(value)
        if key in labels:
            raise top.error(f"labels.{value}", "stands twice")
        labels[key] = word
    count = len(set(labels.values()))
    if not LABELS[0] <= count <= LABELS[1]:
        raise top.error("labels", f"has {count} distinct label words, expected {LABELS[0]} to {LABELS[1]}")
    return labels


def _prompts(top: Section) -> dict[str, str]:
    prompts = top.take("prompts", dict)
    if not prompts:
        raise top.error("prompts", f"is empty, expected at least one prompt with {PLACE} in it")
    for name, prompt in prompts.items():
        if not isinstance(name, str) or not isinstance(prompt, str):
            raise top.error(f"prompts.{name}", f"is {prompt!r}, expected a name and a text in quotes")
        if (found := prompt.count(PLACE)) != 1:
            raise top.error(f"prompts.{name}", f"has {PLACE} {found} times, expected once")
    return prompts


def _synonyms(top: Section, words: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    synonyms = {}
    for word, others in top.take("synonyms", dict, {}).items():
        if word not in words:
            raise top.error(
                f"synonyms.{word}", f"is no label word{nearest(str(word), words)}; known: {', '.join(words)}"
            )
        if not isinstance(others, list) or not all(isinstance(one, str) and one.strip() for one in others):
            raise top.error(f"synonyms.{word}", f"is {others!r}, expected a list of words in quotes")
        synonyms[word] = tuple(others)
    return synonyms
