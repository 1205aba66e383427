"""The rows that `swift infer` and its label-score plugin write: the only place that knows their schema.

Answers are kept in a journal, so that an interrupted evaluation goes on where it stopped. Each process of each attempt
has files of its own there: the requests it was given, named by their keys, and, a line a request in the same order, the
results and the label scores. The last two are appended to by a process that may be killed: a torn last line is dropped.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eval.requests import Request
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
    """The answers so far, by the keys of the `requests`. Raises `UserError` for an answer to another prompt."""
    by_key = {request.key: request for request in requests}
    answered: dict[str, Answered] = {}
    for path in sorted(journal.glob("*.requests.jsonl")):
        files = journal_files(journal, path.name.removesuffix(".requests.jsonl"))
        asked = [by_key.get(row.get("id")) for row in whole_lines(files.requests)]
        if None in asked:  # written by an earlier version, in another form
            continue
        found = join(asked, files.results, files.scores)
        answered |= {request.key: answer for request, answer in zip(asked, found, strict=False)}
    return answered


def count_lines(path: Path) -> int:
    """Lines finished so far in a file that another process appends to."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def join(requests: Sequence[Request], results: Path, scores: Path) -> list[Answered]:
    """The answers to the first requests, as many as both files have whole, in order.

    Raises `UserError` when a result is to another prompt than the request at its place.
    """
    answered = []
    for number, (request, result, score) in enumerate(
        zip(requests, whole_lines(results), whole_lines(scores), strict=False), 1
    ):
        *asked, answer = result["messages"]
        if asked != list(request.messages) or answer["role"] != "assistant":
            raise UserError(
                f"{shown(results)}, line {number}: the answer is to another prompt than row {request.id}'s; "
                "run again with --fresh"
            )
        if not all(map(math.isfinite, score["logprobs"].values())):
            raise UserError(
                f"{shown(scores)}, line {number}: the model gives no finite probabilities, so training has diverged; "
                "run again with a lower --learning_rate"
            )
        generated = score["generate_seconds"] is not None
        answered.append(
            Answered(
                text=result["response"] if generated else None,
                logprobs=score["logprobs"],
                prompt_tokens=score["prompt_tokens"],
                prompt_sha256=score["prompt_sha256"],
                score_seconds=score["score_seconds"],
                generate_seconds=score["generate_seconds"],
            )
        )
    return answered
