"""RUN/before/summary.json and RUN/after/summary.json: what the responses were made from, and checks made on the way."""

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, model_validator

from eval.inference.journal import HALF, Completion, tolerance
from eval.inference.prompts import Prompt
from plugins.score_lines import FINISH_REASONS
from workspace.files import write_json
from workspace.records import Json, read

FILE = "summary.json"
Pairs = Sequence[tuple[Prompt, Completion]]


class BatchCheck(BaseModel):
    """Rows asked alone against the same rows in their batch. One of the two counts is None: a head writes no text.

    `dtype`: what the answers were computed in, which decides how large a difference of rounding is.
    """

    rows: int
    largest_logprob_difference: FiniteFloat
    ok: bool
    same_text: int | None = None
    same_label: int | None = None
    dtype: str = "float32"

    @classmethod
    def of(cls, pairs: Pairs, dtype: str = "float32") -> "BatchCheck":
        """Same text (a head: same label) and same probabilities, but for rounding?

        In half precision a tie of two tokens may fall either way, so a text may differ where no probability does.
        """
        batched = {prompt.id: found for prompt, found in pairs if prompt.purpose == "test"}
        alone = {prompt.id: found for prompt, found in pairs if prompt.purpose == "parity"}
        differences = (
            abs(value - batched[key].score.logprobs[label])
            for key, found in alone.items()
            for label, value in found.score.logprobs.items()
        )
        largest = max(differences, default=0.0)
        words = all(found.text is not None for found in alone.values())
        same = sum(_said(found) == _said(batched[key]) for key, found in alone.items())
        ok = (same == len(alone) or dtype in HALF) and largest <= tolerance(dtype)
        said = {"same_text" if words else "same_label": same}
        return cls(rows=len(alone), largest_logprob_difference=largest, ok=ok, dtype=dtype, **said)


class Summary(BaseModel):
    """What one stage answered. `inputs`: hashes by name; `prompts`: how many by purpose, test rows that were scored
    alone, where others were answered in text, as test_score.

    `ms_per_review`: milliseconds of each way of answering (generate, score, few_shot), start-up not counted; generation
    includes reading the prompt. `parity`: rows alone against rows in a batch. `val_prompt_sha256`: the hash of each
    validation prompt's token ids, by row id. `finish_reasons`: how many texts to test rows ended by stop, how many
    by length (max_new_tokens).
    """

    adapter_sha256: str | None = None
    inputs: dict[str, Json] = {}
    prompts: dict[str, int] = {}
    ms_per_review: dict[str, FiniteFloat | None] = {}
    parity: BatchCheck | None = None
    no_assistant_turn: bool = False
    val_prompt_sha256: dict[str, str] = {}
    finish_reasons: dict[str, int] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_none(cls, found: Any) -> Any:
        return {key: one for key, one in found.items() if one is not None} if isinstance(found, dict) else found

    @classmethod
    def of(cls, pairs: Pairs, inputs: dict[str, Any], dtype: str = "float32") -> "Summary":
        """The summary of all prompts of a stage and what came back, computed in `dtype`."""
        prompts = [prompt for prompt, _ in pairs]
        answered = (turn for one in prompts if not one.purpose.startswith("few_shot") for turn in one.messages)
        return cls(
            adapter_sha256=inputs["adapter"],
            inputs=inputs,
            prompts=dict(Counter(one.purpose if one.text else f"{one.purpose}_score" for one in prompts)),
            ms_per_review=_speed(pairs),
            parity=BatchCheck.of(pairs, dtype),
            no_assistant_turn=all(prompt.messages[-1]["role"] == "user" for prompt in prompts)
            and not any(turn["role"] == "assistant" for turn in answered),
            val_prompt_sha256={one.id: found.score.prompt_sha256 for one, found in pairs if one.purpose == "val"},
            finish_reasons=_finish_reasons(pairs),
        )

    @classmethod
    def read(cls, folder: Path) -> "Summary | None":
        """The summary in a stage's folder, None where there is none; one of an earlier version may lack some fields.

        Raises `UserError` when it cannot be read.
        """
        path = folder / FILE
        return read(path, cls, "run the same command again") if path.is_file() else None

    def write(self, folder: Path) -> Path:
        """Write summary.json; returns its path."""
        parity = self.parity.model_dump(exclude_none=True) if self.parity else None
        write_json(folder / FILE, self.model_dump() | {"parity": parity})
        return folder / FILE


def _said(found: Completion) -> str:
    """The text; of a head, which writes none, the most probable label."""
    return found.label if found.text is None else found.text


def _finish_reasons(pairs: Pairs) -> dict[str, int]:
    found = Counter(found.score.finish_reason for one, found in pairs if one.purpose == "test")
    return {reason: found[reason] for reason in FINISH_REASONS if found[reason]}


def _speed(pairs: Pairs) -> dict[str, float | None]:
    def mean(seconds: list[float]) -> float | None:
        return round(1000 * statistics.fmean(seconds), 2) if seconds else None

    test, shots = ([found.score for one, found in pairs if one.purpose == purpose] for purpose in ("test", "few_shot"))
    generated = [one.score_seconds + one.generate_seconds for one in test if one.generate_seconds is not None]
    scored, few_shot = ([one.score_seconds for one in scores] for scores in (test, shots))
    return {"generate": mean(generated), "score": mean(scored), "few_shot": mean(few_shot)}
