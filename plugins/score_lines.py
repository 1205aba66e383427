"""The line that each label-score plugin writes for a row of `swift infer`, and how the row's key gets there.

ms-swift drops columns that it does not know. `channel`, by which `swift sft` can tell losses apart, is one that it
knows: it goes with a row into its encoding and into its result. The key of a prompt travels in it, so that no line is
joined to a prompt by its position. Standard library alone: eval/inference/journal.py reads the lines by this module.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

KEY = "channel"
CHAT = "chat_sha256"
FinishReason = Literal["stop", "length", "decided", "repeats"]
FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)
# GLM's templates end the prompt of inference before the line end that training has in it: a tuned model would be asked
# where it was never trained to answer, and label words have no probability before that line end.
STRIP_NEWLINE = False


def chat_sha256(messages: Sequence[Mapping[str, Any]]) -> str:
    """The hash of a chat's roles and texts, in hex."""
    turns = [[turn["role"], turn["content"]] for turn in messages]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def tokens_sha256(tokens: Sequence[int]) -> str:
    """The hash of a prompt's token ids, in hex; label_metric.json has the same of the prompts in training."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()


@dataclass(frozen=True)
class ScoreLine:
    """What a plugin says of one row. `logprobs`: log P* of word_tree.py in nats, by label word.

    `chat_sha256` is of the messages, `prompt_sha256` of the token ids that the model was shown; seconds are of this
    row, `generate_seconds` None where no text was generated. `finish_reason`: "stop" where the model ended its answer,
    "length" where max_new_tokens did, "decided" and "repeats" as answer_end.py says, None where no text was generated,
    or an earlier version wrote the line.
    """

    key: str
    chat_sha256: str
    prompt_sha256: str
    prompt_tokens: int
    score_seconds: float
    generate_seconds: float | None
    logprobs: dict[str, float]
    finish_reason: FinishReason | None = None

    @classmethod
    def read(cls, value: Any) -> "ScoreLine | None":
        """The line in a JSON value; None when it is not such a line."""
        try:
            generated = value["generate_seconds"]
            line = cls(
                key=value["key"],
                chat_sha256=value["chat_sha256"],
                prompt_sha256=value["prompt_sha256"],
                prompt_tokens=int(value["prompt_tokens"]),
                score_seconds=float(value["score_seconds"]),
                generate_seconds=None if generated is None else float(generated),
                logprobs={str(label): float(logprob) for label, logprob in value["logprobs"].items()},
                finish_reason=value.get("finish_reason"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None
        texts = (line.key, line.chat_sha256, line.prompt_sha256)
        sound = line.logprobs and line.finish_reason in (*FINISH_REASONS, None)
        return line if sound and all(isinstance(text, str) for text in texts) else None


class KeyedRow(NamedTuple):
    """A row as the model is shown it: the key of its prompt ("purpose/id"), the hash of its chat, its token ids."""

    key: str
    chat_sha256: str
    tokens: list[int]

    @property
    def purpose(self) -> str:
        """What it is asked for: prompts of one purpose have the same wording and examples before their texts."""
        return self.key.partition("/")[0]


class ScoreFile:
    """The settings of a plugin and the file that it writes: {"labels", "modes": {mode: [keys]}, "out", …}."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.labels: list[str] = list(settings["labels"])
        self.modes: dict[str, str] = {key: mode for mode, keys in settings["modes"].items() for key in keys}

    @classmethod
    def named_by(cls, variable: str) -> "ScoreFile | None":
        """The one whose settings the environment variable names; None where it is not set."""
        path = os.environ.get(variable)
        return cls(json.loads(Path(path).read_text(encoding="utf-8"))) if path else None

    def append(
        self,
        rows: Sequence[KeyedRow],
        scores: Sequence[Sequence[float]],
        score_seconds: Sequence[float],
        generate_seconds: float | None,
        finish_reasons: Sequence[FinishReason | None] | None = None,
    ) -> None:
        """Append a line a row; `scores` [rows, labels] are log P*, seconds and finish reasons those of each row."""
        reasons = finish_reasons or [None] * len(rows)
        with open(self.settings["out"], "a", encoding="utf-8") as stream:
            for row, logprobs, seconds, reason in zip(rows, scores, score_seconds, reasons, strict=True):
                line = ScoreLine(
                    key=row.key,
                    chat_sha256=row.chat_sha256,
                    prompt_sha256=tokens_sha256(row.tokens),
                    prompt_tokens=len(row.tokens),
                    score_seconds=seconds,
                    generate_seconds=generate_seconds,
                    logprobs=dict(zip(self.labels, logprobs, strict=True)),
                    finish_reason=reason,
                )
                stream.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")


class KeyedRows:
    """A template class put before ms-swift's own, so that the rows of the batch at hand are known by their keys."""

    rows: list[KeyedRow]

    def encode(self, inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Encode a row as the base class does; a row with a key gets the hash of its chat, too."""
        encoded = super().encode(inputs, *args, **kwargs)  # type: ignore[misc]
        if isinstance(inputs, dict) and inputs.get(KEY):
            encoded[CHAT] = chat_sha256(inputs["messages"])
        return encoded

    def data_collator(self, batch: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:
        """Pad a batch as the base class does, and keep its rows. Raises `ValueError` for a row without a key."""
        if not all(CHAT in encoded for encoded in batch):
            raise ValueError(f"a row has no {KEY}: label scores are written for prompts with a key alone")
        self.rows = [KeyedRow(one.pop(KEY), one.pop(CHAT), list(one["input_ids"])) for one in batch]
        return super().data_collator(batch, **kwargs)  # type: ignore[misc]
