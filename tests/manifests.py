"""Manifests for tests: a whole one made up from a few values, and one from changed JSON."""

from typing import Any

from pydantic import TypeAdapter

from data_prep.manifest import (
    CharacterLengths,
    ClassLengths,
    Counts,
    Duplicates,
    GroupCounts,
    Histogram,
    LeakCounts,
    MadeBy,
    Manifest,
    Spread,
    TableSource,
)
from data_prep.task import SPLITS, SplitSettings

LABELS = ("正面", "负面")


def made_up_manifest(**values: Any) -> Manifest:
    """A manifest of a dataset with one row a split and label, `values` in place of its own."""
    labels = values.get("labels", list(LABELS))
    rows = {"total": len(labels), **dict.fromkeys(labels, 1)}
    lengths, none = (10.0, 20.0, 30.0, 40.0, 50.0, 25.0), GroupCounts(0, 0)
    histogram = Histogram(
        [0, 20, 40],
        {name: Spread(*lengths) for name in SPLITS},
        {label: ClassLengths(*lengths, counts=[1, 1, 1]) for label in labels},
    )
    unused = {"total": 0, **dict.fromkeys(SPLITS, 0)}
    made_up = {
        "schema_version": 7,
        "task": "made_up",
        "source": TableSource("data/made_up.csv", "0" * 64, 1000, "utf-8", 0),
        "provenance": "",
        "licence": "",
        "seed": 42,
        "scheme": "stratified",
        "split": SplitSettings(),
        "labels": labels,
        "system": "You are a helpful assistant.",
        "prompt": "original",
        "template": "评论内容: {review} 这条评论是正面还是负面？",
        "limit": None,
        "counts": Counts(3 * len(labels), rows, rows, rows, set_aside={"total": 0}, not_used=unused),
        "duplicates": Duplicates(none, none, none, none, 0.8, 3, "set_aside"),
        "leaks": {name: LeakCounts(0, 0) for name in ("test_in_train", "test_in_val", "val_in_train")},
        "corrections": None,
        "known_public": None,
        "injected": None,
        "max_length": 512,
        "keep_head": 0.75,
        "tokenizer_sha256": None,
        "cut": None,
        "tokens": None,
        "characters": CharacterLengths(*lengths, histogram=histogram),
        "warnings": [],
        "rows_sha256": dict.fromkeys(SPLITS, "0" * 64),
        "made_by": MadeBy("made_up", []),
        "inputs": {},
        "files": {},
    }
    return Manifest(**{**made_up, **values})


def as_manifest(values: dict[str, Any]) -> Manifest:
    """The manifest in the JSON of a manifest.json."""
    return TypeAdapter(Manifest).validate_python(values)
