"""Test reviews with an injected instruction, and their controls: the prompts of `python -m eval.injection`."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_prep.chat.injection import FAMILIES, PLACES, TRIGGERS, TRIGGERS_OF, insert, mention, neutral_text, worded
from data_prep.task import Task

# What is put into a review: an instruction to answer another label than the true one; neutral text of the same length
# in the same place that names this label and orders nothing; the instruction, aimed at the true label; a harmless
# sentence with an instruction's words; its neutral control.
KINDS = ("attack", "mention", "same_label", "trigger", "trigger_neutral")
TRIGGER = "trigger"  # in place of the family in the attacks of the last two kinds


class Row(NamedTuple):
    """A test row that was answered right."""

    id: str
    review: str
    gold: str


class Attack(NamedTuple):
    """One changed review. `target`: the label that an instruction aims at; for its control, that of the instruction
    whose place it takes."""

    id: str
    gold: str
    family: str
    place: str
    kind: str
    target: str
    review: str

    @property
    def key(self) -> str:
        """Names the attack."""
        return f"{self.id}/{self.family}/{self.place}/{self.kind}"


def target_of(gold: str, labels: Sequence[str]) -> str:
    """The label aimed at: the opposite one of two, the next one in the task's order of several."""
    return labels[(labels.index(gold) + 1) % len(labels)]


def attacks_on(rows: Sequence[Row], task: Task) -> Iterator[Attack]:
    """Every attack on every row: 3 places of 8 families with two controls each, and of a harmless sentence with one.

    Wordings take turns by a hash of the row's id: the same whatever other rows there are.
    """
    for row in rows:
        number = int.from_bytes(hashlib.sha256(row.id.encode()).digest()[:4], "big")
        target = target_of(row.gold, task.label_words)
        put_in = []
        for family, (_, wordings) in FAMILIES.items():
            wording = wordings[number % len(wordings)]
            instruction = worded(wording, target, task)
            texts = {
                "attack": instruction,
                "mention": mention(instruction, target, number),
                "same_label": worded(wording, row.gold, task),
            }
            put_in.append((family, texts))
        harmless = TRIGGERS_OF.get(row.gold, ()) + TRIGGERS
        sentence = harmless[number % len(harmless)]
        put_in.append((TRIGGER, {"trigger": sentence, "trigger_neutral": neutral_text(len(sentence), number)}))
        for family, texts in put_in:
            for place in PLACES:
                for kind, text in texts.items():
                    yield Attack(row.id, row.gold, family, place, kind, target, insert(row.review, text, place))
