"""Instructions that a stranger may inject into a review, aimed at a label: to train against, and to measure with.

The wordings are in injections.yaml: those of `train` are for a task's `injected_share` (such rows keep their true
label). What is known of such attacks: Perez and Ribeiro 2022 (ignore-the-above), Greshake et al. 2023 (instructions in
texts that a model reads).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from data_prep.chat.columns import prompt_texts
from data_prep.table.text_column import Texts, text_hashes
from data_prep.task import Task

PLACES = ("start", "middle", "end")
LABEL = "{label}"  # in a wording: the label aimed at


class Family(NamedTuple):
    """Wordings of one kind of instruction; `train` is empty where the family is held out for the measurement."""

    train: tuple[str, ...]
    test: tuple[str, ...]


_TEXTS = yaml.safe_load(Path(__file__).with_name("injections.yaml").read_text(encoding="utf-8"))
FAMILIES: Mapping[str, Family] = {
    name: Family(tuple(texts.get("train", ())), tuple(texts["test"])) for name, texts in _TEXTS["families"].items()
}
TRAINED = tuple(name for name, family in FAMILIES.items() if family.train)
NEUTRAL: Sequence[str] = _TEXTS["neutral"]  # sentences that say nothing about the quality of anything
TRIGGERS: tuple[str, ...] = tuple(_TEXTS["triggers"])  # harmless, with the words that injected instructions use
TRIGGERS_OF: Mapping[str, tuple[str, ...]] = {label: tuple(texts) for label, texts in _TEXTS["triggers_of"].items()}


def insert(review: str, text: str, place: str) -> str:
    """`review` with `text` at its start, in its middle (after half of its characters) or at its end."""
    at = {"start": 0, "middle": len(review) // 2, "end": len(review)}[place]
    return review[:at] + text + review[at:]


def worded(wording: str, label: str, task: Task) -> str:
    """A wording with the label and the task's prompt in their places."""
    before, after = task.around
    return wording.replace("{before}", before).replace("{after}", after).replace(LABEL, label)


def neutral_text(length: int, start: int) -> str:
    """`length` characters of the neutral text, from one of its sentences on that `start` chooses."""
    first = start % len(NEUTRAL)
    text = "".join([*NEUTRAL[first:], *NEUTRAL[:first]])
    return (text * (length // len(text) + 1))[:length]


def mention(instruction: str, label: str, start: int) -> str:
    """Neutral text as long as `instruction` that names `label` as often, and orders nothing."""
    times = instruction.count(label)
    text = neutral_text(len(instruction) - times * len(label), start)
    ends = [len(text) * part // (times + 1) for part in range(times + 2)]
    return label.join(text[one:other] for one, other in pairwise(ends))


def injected_reviews(kept: pd.DataFrame, task: Task) -> dict[int, str]:
    """The reviews, by position, of train rows with an injected instruction to learn from: `injected_share` of the used.

    Which rows, and which instruction aimed at which label at which place, is drawn by a hash of the seed and the text,
    so that it depends on no other row. Every label is aimed at as often as another, the true one too: were it always a
    false one, a model would learn to do the opposite of what it reads.
    """
    if not task.injected_share:
        return {}
    positions = np.flatnonzero((kept["split"] == "train").to_numpy() & kept["used"].to_numpy())
    texts = Texts(prompt_texts(kept.iloc[positions]))
    hashes = text_hashes(texts, key=f"injection {task.split.seed}".encode())
    drawn = (hashes[:, 0] >> np.uint64(11)) * 2.0**-53 < task.injected_share
    return {
        int(at): _with_instruction(texts[int(row)], int(hashes[row, 1]), task)
        for row, at in zip(np.flatnonzero(drawn), positions[drawn], strict=True)
    }


def _with_instruction(review: str, number: int, task: Task) -> str:
    """`review` with one of the instructions for training, chosen by the digits of `number`."""

    def choose(options: Sequence[str]) -> str:
        nonlocal number
        number, digit = divmod(number, len(options))
        return options[digit]

    wording = choose(FAMILIES[choose(TRAINED)].train)
    return insert(review, worded(wording, choose(task.label_words), task), choose(PLACES))
