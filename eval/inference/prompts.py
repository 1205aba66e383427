"""The prompts of an evaluation: the test rows, a few again one at a time, few-shot, validation, variants."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from data_prep.rows import DatasetRow, Message, read_rows
from plugins.score_lines import chat_sha256

PARITY_ROWS = 4  # test rows asked again alone, to see that the batch makes no difference: a text takes 2 s, alone
SHOTS_PER_CLASS = 2
SHOTS = 20  # at most, of however many classes: some 1,200 tokens
SHOT_CHARACTERS = (10, 60)  # length of a few-shot example's review

# Other ways of asking the untuned model (eval/inference/variants.py); few_shot is the first draw of examples.
VARIANTS = ("wording_1", "wording_2", "wording_3", "wording_4", "few_shot_2", "few_shot_3")
# How plugins/label_scores.py answers each purpose.
MODES = {"test": "generate", "parity": "single", "few_shot": "score", "val": "score", "injection": "score"}
MODES |= dict.fromkeys(VARIANTS, "score")


@dataclass(frozen=True)
class Prompt:
    """One prompt. `messages` ends with the user's turn: the model is shown no answer. `id` is the dataset row's.

    `text`: whether a text is generated, where its purpose has one.
    """

    purpose: str
    id: str
    gold: str
    cut: bool
    messages: tuple[Message, ...]
    text: bool = True

    @property
    def key(self) -> str:
        """Names the prompt among those of an evaluation."""
        return f"{self.purpose}/{self.id}"

    @property
    def mode(self) -> str:
        """How plugins/label_scores.py answers it."""
        return MODES[self.purpose] if self.text else "score"

    @cached_property
    def chat_sha256(self) -> str:
        """The hash of its wording: a response counts for this wording alone."""
        return chat_sha256(self.messages)


def make_prompts(dataset: Path, before: bool, seed: int, part: Container[str] | None = None) -> list[Prompt]:
    """Every prompt of one evaluation, of the untuned model or the tuned one, in the order in which they are answered.

    `part`: ids of the test rows that the untuned model is asked at all, also with examples, and the tuned one in text;
    None for all. Within a purpose the rows are sorted by the length of the prompt: a batch of equal lengths needs no
    padding. Prompts that have a text generated come first. Raises `UserError` as `read_rows` does.
    """
    every = read_rows(dataset / "test.jsonl")
    test = every if part is None else [row for row in every if row.id in part]
    again = sorted(test, key=lambda row: len(row.review))
    if len(test) > PARITY_ROWS:  # spread evenly over the lengths, first and last included
        again = [again[round(k * (len(test) - 1) / (PARITY_ROWS - 1))] for k in range(PARITY_ROWS)]
    groups = [asked("test", test), asked("parity", again)]
    if before:
        groups.append(asked("few_shot", test, few_shot_turns(read_rows(dataset / "train.jsonl"), seed)))
    elif part is not None:
        others = asked("test", (row for row in every if row.id not in part))
        groups.append([replace(prompt, text=False) for prompt in others])
    groups.append(asked("val", read_rows(dataset / "val.jsonl")))
    return [prompt for group in groups for prompt in by_length(group)]


def by_length(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts, the shortest question first."""
    return sorted(prompts, key=lambda prompt: (len(prompt.messages[-1]["content"]), prompt.id))


def modes(prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    """The keys that are answered in each mode, as the label-score plugins read them."""
    found: dict[str, list[str]] = {}
    for prompt in prompts:
        found.setdefault(prompt.mode, []).append(prompt.key)
    return found


def few_shot_turns(train: Sequence[DatasetRow], seed: int) -> list[Message]:
    """Earlier turns of the chat: `SHOTS_PER_CLASS` answered train rows a class, classes taking turns, at most `SHOTS`.

    The rows are chosen by a hash of seed and id among those of middling length, so that rows that are added change
    the choice little; so are the classes, where there are more than `SHOTS`. Test and validation rows are never taken.
    """

    def by_chance(name: str) -> str:
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    low, high = SHOT_CHARACTERS
    chosen = []
    labels = sorted({row.label for row in train})
    for label in labels if len(labels) <= SHOTS else sorted(labels, key=by_chance)[:SHOTS]:
        rows = [row for row in train if row.label == label]
        rows = [row for row in rows if low <= len(row.review) <= high] or rows
        rows.sort(key=lambda row: by_chance(row.id))
        chosen.append(rows[:SHOTS_PER_CLASS])
    rounds = [rows[k] for k in range(SHOTS_PER_CLASS) for rows in chosen if k < len(rows)]
    return [turn for row in rounds[:SHOTS] for turn in row.messages if turn["role"] != "system"]


def asked(
    purpose: str,
    rows: Iterable[DatasetRow],
    shots: Sequence[Message] = (),
    questions: Mapping[str, str] = MappingProxyType({}),
) -> list[Prompt]:
    """A prompt a row: its system turn, the `shots`, and its own turns, the last as `questions` has it by its id."""
    prompts = []
    for row in rows:
        system = [turn for turn in row.messages[:-1] if turn["role"] == "system"]
        turns = [turn for turn in row.messages[:-1] if turn["role"] != "system"]
        if row.id in questions:
            turns[-1] = {"role": "user", "content": questions[row.id]}
        prompts.append(Prompt(purpose, row.id, row.label, row.cut, (*system, *shots, *turns)))
    return prompts
