"""The rows that `swift infer` and its label-score plugin write: the only place that knows their schema.

Answers are kept in one journal, a line a request in the order of asking, so that an interrupted evaluation goes on
where it stopped. Both files are appended to by another process that may be killed: a torn last line is dropped.
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
