"""Bundles of small classifiers, as `export` writes them: linear, or a language model of random weights."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.chat.frame import chat_frame
from eval.baselines import fit_linear
from eval.scoring.responses import Split
from serve.bundle import files_in
from serve.classifier_file import NAME, ClassifierFile, Expected, Measured, Prompt, Thresholds
from serve.linear import LinearScorer, Vocabulary
from tests.prep_tables import SETTINGS, byte_level, reviews
from workspace.files import sha256_file, write_json

LABELS = ("正面", "负面")
TEMPLATE, SYSTEM = SETTINGS["prompts"]["original"], SETTINGS["system"]


def a_prompt(template: str = "qwen2_5", columns: Sequence[str] = ("review",), **changes: Any) -> Prompt:
    several = len(columns) > 1
    places = tuple(f"{{{name}}}" for name in columns) if several else ("{review}",)
    return Prompt(
        template="，".join(places) + "：" if several else TEMPLATE,
        system=SYSTEM,
        places=places,
        columns=tuple(columns),
        parts=chat_frame(template, SYSTEM).parts,
        chat_template=template,
        **{"max_length": 128, "keep_head": 0.75, **changes},
    )


def write_file(folder: Path, **changes: Any) -> Path:
    """classifier.json of what is in `folder`, which is returned."""
    file = ClassifierFile(
        **{
            "task": "small",
            "labels": LABELS,
            "reading": "tuned",
            "reported": "after_score",
            "kind": "words",
            "prompt": a_prompt(),
            "temperature": 1.0,
            "thresholds": Thresholds(),
            "measured": Measured("macro_f1", 0.9, (0.85, 0.95), 100),
            "advice": "tuned",
            "expected": Expected(200, {"正面": 0.5, "负面": 0.5}, (0.9,), (0.5, 0.5), (20.0,), (0.5, 0.5)),
            "synonyms": {"正面": ("好评",)},
            "weights": "merged",
            "files": {name: sha256_file(path) for name, path in files_in(folder).items()},
            **changes,
        }
    )
    write_json(folder / NAME, asdict(file))
    return folder


def linear_bundle(folder: Path, rows: int = 120, **changes: Any) -> Path:
    """A linear model that tells the good from the bad of tests.prep_tables.reviews, as a bundle in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = reviews(rows)
    gold = tuple(LABELS[value == "0"] for value, _ in texts)
    split = Split(folder, tuple(map(str, range(rows))), tuple(text for _, text in texts), gold, (False,) * rows)
    model = fit_linear(split, None, LABELS)
    edges = (TEMPLATE.index("{"), len(TEMPLATE) - TEMPLATE.index("}") - 1)
    terms = tuple(model.vectorizer.get_feature_names_out().tolist())
    vocabulary = Vocabulary(LABELS, edges, tuple(model.vectorizer.ngram_range), True, model.c, terms)
    LinearScorer(vocabulary, model.vectorizer, model.classifier).write(folder)
    byte_level(("<|endoftext|>", "<|im_start|>", "<|im_end|>")).save(str(folder / "tokenizer.json"))
    given = {"reading": "linear", "reported": "tfidf_linear", "kind": None, "weights": None, "advice": "linear"}
    return write_file(folder, **{**given, **changes})
