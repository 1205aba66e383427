"""Journals as `swift infer` and its label-score plugin leave them, for tests."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.inference.job import InferenceJob
from eval.inference.journal import AttemptFiles, new_name
from eval.inference.prompts import MODES, Prompt
from plugins.score_lines import KEY, ScoreLine
from workspace.files import write_jsonl


def result_row(prompt: Prompt, text: Any = None) -> dict[str, Any]:
    """ms-swift's row of a prompt; the text says which row it is of, where none is given."""
    text = f"answer {prompt.id}" if text is None else text
    messages = [*prompt.messages, {"role": "assistant", "content": text}]
    return {"response": text, "labels": None, "logprobs": None, KEY: prompt.key, "messages": messages}


def score_row(prompt: Prompt, logprob: float = -1.0, **more: Any) -> dict[str, Any]:
    """The plugin's line of a prompt of two labels, its gold one with the log probability `logprob`."""
    logprobs = {prompt.gold: logprob, "other": -2.0}
    line = ScoreLine(prompt.key, prompt.chat_sha256, f"tokens of {prompt.chat_sha256}", 5, 0.1, 0.2, logprobs)
    return asdict(line) | more


def write_attempt(
    journal: Path, name: str, prompts: Sequence[Prompt], results: int | None = None, scores: int | None = None
) -> AttemptFiles:
    """An attempt that was asked the `prompts` and wrote so many results and scores, all by default."""
    return write_rows(journal, name, prompts, map(result_row, prompts[:results]), map(score_row, prompts[:scores]))


def write_rows(
    journal: Path, name: str, prompts: Sequence[Prompt], results: Iterable[Any], scores: Iterable[Any]
) -> AttemptFiles:
    """An attempt with just these rows."""
    files = AttemptFiles.named(journal, name)
    files.write_prompts(prompts)
    write_jsonl(files.results, results)
    write_jsonl(files.scores, scores)
    return files


def answer_all_right(job: InferenceJob, prompts: Sequence[Prompt]) -> None:
    """A stand-in for `swift infer`: every gold label is the most probable one; the scores are in reverse order."""
    scores = [
        score_row(
            one,
            logprobs={label: -0.1 if label == one.gold else -2.4 for label in job.run.labels},
            generate_seconds=None if MODES[one.purpose] == "score" else 0.2,
            finish_reason=None if MODES[one.purpose] == "score" else "stop",
        )
        for one in reversed(prompts)
    ]
    write_rows(job.journal, f"{new_name()}-0", prompts, map(result_row, prompts), scores)
