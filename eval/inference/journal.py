"""The rows that `swift infer` and its label-score plugin write: the only place that knows their schema.

Answers are kept in a journal, so that an interrupted evaluation goes on where it stopped. Each process of each attempt
has files of its own there: the requests it was given, named by their keys, and, a line a request in the same order, the
results and the label scores. The last two are appended to by a process that may be killed: a torn last line is dropped.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.inference.prompts import Request
from workspace.errors import UserError
from workspace.files import whole_lines
from workspace.paths import shown


class Answered(NamedTuple):
    """What came back for one request. `logprobs`: natural log of P(label word | prompt), by label word."""

    text: str | None
    logprobs: dict[str, float]
    prompt_tokens: int
    prompt_sha256: str
    score_seconds: float
    generate_seconds: float | None

    def probabilities(self) -> dict[str, float]:
        """P(label) over the task's labels: the softmax of the log probabilities."""
        top = max(self.logprobs.values())
        shares = {label: math.exp(value - top) for label, value in self.logprobs.items()}
        total = sum(shares.values())
        return {label: share / total for label, share in shares.items()}


class JournalFiles(NamedTuple):
    """The files of one `swift infer`: what it is asked, what it and its plugin write, and the plugin's settings."""

    requests: Path
    results: Path
    scores: Path
    plugin: Path


def journal_files(journal: Path, name: str) -> JournalFiles:
    """The files called `name` in the folder `journal`."""
    return JournalFiles(
        *(journal / f"{name}.{kind}.jsonl" for kind in ("requests", "results", "scores")),
        journal / f"{name}.plugin.json",
    )


def deal(requests: Sequence[Request], hands: int) -> list[list[Request]]:
    """Shares of the requests for at most `hands` processes, none empty: each a mixture of short and long, in order."""
    return [list(requests[hand::hands]) for hand in range(min(hands, len(requests)))]


def read_journal(journal: Path, requests: Sequence[Request]) -> dict[str, Answered]:
    """The answers so far, by the keys of the `requests`. Raises `UserError` as `join` does."""
    by_key = {request.key: request for request in requests}
    answered: dict[str, Answered] = {}
    for path in sorted(journal.glob("*.requests.jsonl")):
        files = journal_files(journal, path.name.removesuffix(".requests.jsonl"))
        asked = [
            by_key.get(str(row.get("id"))) if isinstance(row, dict) else None for row in whole_lines(files.requests)
        ]
        if None in asked:  # damaged, or written by an earlier version in another form
            continue
        answered |= {request.key: answer for request, answer in join(asked, files.results, files.scores)}
    return answered


def count_lines(path: Path) -> int:
    """Lines finished so far in a file that another process appends to."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def join(requests: Sequence[Request], results: Path, scores: Path) -> Iterator[tuple[Request, Answered]]:
    """The requests that both files answer, with their answers. A line that says something else is passed over.

    The files are a journal of what another process managed to write: what cannot be read is asked again.
    Raises `UserError` when the model gives no finite probabilities.
    """
    for request, result, score in zip(requests, whole_lines(results), whole_lines(scores), strict=False):
        answer = _answer(request, result, score)
        if answer is None:
            continue
        if not all(map(math.isfinite, answer.logprobs.values())):
            raise UserError(
                f"{shown(scores)}: the model gives no finite probabilities for row {request.id}, so training has "
                "diverged; run again with a lower --learning_rate"
            )
        yield request, answer


def _answer(request: Request, result: Any, score: Any) -> Answered | None:
    """The answer in a line of each file; None when they are not such lines, or answer another prompt."""
    try:
        *asked, answer = result["messages"]
        text, generated = result["response"], score["generate_seconds"]
        logprobs = {str(label): float(value) for label, value in score["logprobs"].items()}
        if asked != list(request.messages) or answer["role"] != "assistant" or request.gold not in logprobs:
            return None
        if generated is not None and not isinstance(text, str):
            return None
        return Answered(
            text=None if generated is None else text,
            logprobs=logprobs,
            prompt_tokens=int(score["prompt_tokens"]),
            prompt_sha256=str(score["prompt_sha256"]),
            score_seconds=float(score["score_seconds"]),
            generate_seconds=None if generated is None else float(generated),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
