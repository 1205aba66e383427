"""What `swift infer` and its label-score plugin write: the only place that knows the schema of their rows.

Responses are kept in a journal, so that an interrupted evaluation goes on where it stopped. Each process of each
attempt has files of its own there, under a name that is never used again: the prompts it was given, the results and the
label scores. Every row carries the key of its prompt: rows are joined by it, never by their position. The last two
files are appended to by a process that may be killed: a torn last line is dropped.
"""

import math
import operator
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from eval.inference.prompts import Prompt
from plugins.score_lines import KEY, ScoreLine
from workspace.errors import UserError
from workspace.files import write_jsonl
from workspace.paths import shown
from workspace.records import whole_lines

# By how much the log probability of a label may differ between two answers to one prompt, such as alone and in a batch:
# sums come in another order, and each logit is kept to 24, 11 or 8 bits. Measured: docs/results.md, "Rounding".
TOLERANCES = {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.25}
HALF = ("float16", "bfloat16")
T = TypeVar("T")


class Completion(NamedTuple):
    """What came back for one prompt. `text`: None where the label was scored alone."""

    text: str | None
    score: ScoreLine

    @property
    def label(self) -> str:
        """The most probable label."""
        return max(self.score.logprobs, key=self.score.logprobs.__getitem__)

    def probabilities(self) -> dict[str, float]:
        """P(label) over the task's labels: the softmax of the log probabilities."""
        top = max(self.score.logprobs.values())
        shares = {label: math.exp(value - top) for label, value in self.score.logprobs.items()}
        total = sum(shares.values())
        return {label: share / total for label, share in shares.items()}

    def label_mass(self) -> float:
        """The probability, in [0, 1], that an answer begins with one of the label words at all."""
        return min(sum(map(math.exp, self.score.logprobs.values())), 1.0)

    def same_as(self, other: "Completion", dtype: str = "float32") -> bool:
        """Whether both say the same, but for rounding: in half precision that may change a text, too."""
        return (self.text == other.text or dtype in HALF) and same_scores(self.score, other.score, dtype)


def tolerance(dtype: str) -> float:
    """By how much a log probability may differ where answers are computed in `dtype`."""
    return TOLERANCES.get(dtype, TOLERANCES["float32"])


def same_scores(one: ScoreLine, other: ScoreLine, dtype: str = "float32") -> bool:
    """Whether two score lines are of the same tokens and the same probabilities, but for rounding."""
    allowed = tolerance(dtype)
    return (
        one.prompt_sha256 == other.prompt_sha256
        and one.logprobs.keys() == other.logprobs.keys()
        # Written so that NaN, which equals nothing, counts as the same here: it has an error of its own.
        and not any(abs(one.logprobs[label] - other.logprobs[label]) > allowed for label in one.logprobs)
    )


class AttemptFiles(NamedTuple):
    """The files of one `swift infer`: its prompts, what it and its plugin write, and the plugin's settings."""

    prompts: Path
    results: Path
    scores: Path
    plugin: Path

    @classmethod
    def named(cls, journal: Path, name: str) -> "AttemptFiles":
        """The files called `name` in the folder `journal`."""
        prompts, results, scores = (journal / f"{name}.{kind}.jsonl" for kind in ("prompts", "results", "scores"))
        return cls(prompts, results, scores, journal / f"{name}.plugin.json")

    @classmethod
    def all_in(cls, journal: Path) -> list["AttemptFiles"]:
        """Those of every attempt so far, the earliest first."""
        names = sorted(path.name.removesuffix(".prompts.jsonl") for path in journal.glob("*.prompts.jsonl"))
        return [cls.named(journal, name) for name in names]

    def write_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Write the prompts as `swift infer` reads them."""
        write_jsonl(self.prompts, ({KEY: one.key, "messages": list(one.messages)} for one in prompts))


def new_name() -> str:
    """A name for an attempt that none had before: a process of an earlier one may still be writing."""
    return f"{time.time_ns():019d}-{secrets.token_hex(4)}"


def deal(prompts: Sequence[Prompt], hands: int) -> list[list[Prompt]]:
    """Shares of the prompts for at most `hands` processes, none empty: each a mixture of short and long, in order."""
    return [list(prompts[hand::hands]) for hand in range(min(hands, len(prompts)))]


def count_lines(path: Path) -> int:
    """Lines finished so far in a file that another process appends to."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def read_journal(journal: Path, prompts: Sequence[Prompt], dtype: str = "float32") -> dict[str, Completion]:
    """The completions so far, by the keys of the `prompts`, which were computed in `dtype`.

    A line that names no key of theirs, or the key with another wording, counts as not there: the prompt is asked again.
    Raises `UserError` when two lines answer one prompt differently, and when probabilities are not finite.
    """
    by_key = {prompt.key: prompt for prompt in prompts}
    attempts = [pair for files in AttemptFiles.all_in(journal) for pair in _completions(files, by_key, dtype)]
    return _once(attempts, partial(Completion.same_as, dtype=dtype), journal)


def _completions(files: AttemptFiles, by_key: Mapping[str, Prompt], dtype: str) -> Iterator[tuple[str, Completion]]:
    """Key and completion of each prompt that both files of an attempt answer."""
    texts = _once(_results(files.results, by_key), operator.eq, files.results)
    for key, score in _once(_scores(files.scores, by_key), partial(same_scores, dtype=dtype), files.scores).items():
        text = texts.get(key) if score.generate_seconds is not None else None
        if key not in texts or (score.generate_seconds is not None and not isinstance(text, str)):
            continue
        if not all(map(math.isfinite, score.logprobs.values())):
            raise UserError(
                f"{shown(files.scores)}: the model gives no finite probabilities for row {by_key[key].id}, so training "
                "has diverged; run again with a lower --learning_rate"
            )
        yield key, Completion(text, score)


def _scores(path: Path, by_key: Mapping[str, Prompt]) -> Iterator[tuple[str, ScoreLine]]:
    for row in whole_lines(path, dict[str, Any]):
        line = ScoreLine.read(row)
        prompt = by_key.get(line.key) if line else None
        if line and prompt and line.chat_sha256 == prompt.chat_sha256 and prompt.gold in line.logprobs:
            yield line.key, line


def _results(path: Path, by_key: Mapping[str, Prompt]) -> Iterator[tuple[str, Any]]:
    """Key and response, a text or a head's class, of each row of ms-swift's whose messages are the prompt's."""
    for row in whole_lines(path, dict[str, Any]):
        try:
            prompt, (*asked, answer), response = by_key[row[KEY]], row["messages"], row["response"]
            if asked == list(prompt.messages) and answer["role"] == "assistant":
                yield prompt.key, response
        except (KeyError, TypeError, ValueError):
            continue


def _once(pairs: Iterable[tuple[str, T]], same: Callable[[T, T], bool], path: Path) -> dict[str, T]:
    """The values by key. Raises `UserError` when one key has two that are not the same."""
    found: dict[str, T] = {}
    for key, value in pairs:
        if not same(found.setdefault(key, value), value):
            raise UserError(
                f"{shown(path)} holds two different answers to the prompt {key}: remove the folder "
                f"{shown(path if path.is_dir() else path.parent)} and run the same command again"
            )
    return found
