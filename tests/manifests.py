"""Manifests for tests: a whole one made up from a few values, and one from changed JSON."""

from typing import Any

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
)
from data_prep.task import SPLITS, SplitSettings

LABELS = ("正面", "负面")


def made_up_manifest(**values: Any) -> Manifest:
    """A manifest of a dataset with one row a split and label, `values` in place of its own."""
    labels = values.get("labels", list(LABELS))
    rows = {"total": len(labels), **dict.fromkeys(labels, 1)}
    none = GroupCounts(groups=0, rows=0)
    lengths = {"least": 10, "median": 20, "p95": 30, "p99": 40, "greatest": 50, "mean": 25}
    classes = {label: ClassLengths(**lengths, counts=[1, 1, 1]) for label in labels}
    histogram = Histogram(edges=[0, 20, 40], split={name: Spread(**lengths) for name in SPLITS}, classes=classes)
    unused = {"total": 0, **dict.fromkeys(SPLITS, 0)}
    made_up = {
        "schema_version": 8,
        "task": "made_up",
        "source": {"path": "a.csv", "sha256": "0" * 64, "bytes": 9, "encoding": None, "nul_characters_removed": 0},
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
        "counts": Counts(
            rows=3 * len(labels), train=rows, val=rows, test=rows, set_aside={"total": 0}, not_used=unused
        ),
        "duplicates": Duplicates(
            exact=none,
            near=none,
            conflicting_exact=none,
            conflicting_near=none,
            threshold=0.8,
            ngram=3,
            conflicts="keep",
        ),
        "leaks": {name: LeakCounts(exact=0, near=0) for name in ("test_in_train", "test_in_val", "val_in_train")},
        "corrections": None,
        "known_public": None,
        "injected": None,
        "max_length": 512,
        "keep_head": 0.75,
        "tokenizer_sha256": None,
        "cut": None,
        "tokens": None,
        "characters": CharacterLengths(**lengths, histogram=histogram),
        "warnings": [],
        "rows_sha256": dict.fromkeys(SPLITS, "0" * 64),
        "made_by": MadeBy(task="made_up", override=[]),
        "inputs": {},
        "files": {},
    }
    return Manifest(**{**made_up, **values})


def as_manifest(values: dict[str, Any]) -> Manifest:
    """The manifest in the JSON of a manifest.json."""
    return Manifest.model_validate(values)
