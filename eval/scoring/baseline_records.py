"""What the rungs beside the language model cost, by their records: RUN/baselines.json, embedding.json, encoder.json."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from workspace.records import read

LINEAR, EMBEDDING, ENCODER = "tfidf_linear", "embedding_linear", "encoder"
# Where each one's answers are below the run: test.jsonl and val.jsonl.
ANSWERS = {name: Path("baselines", name) for name in (LINEAR, EMBEDDING, ENCODER)}
BASELINES_RECORD, EMBEDDING_RECORD, ENCODER_RECORD = "baselines.json", "embedding.json", "encoder.json"
MAKE_BASELINES = "run `python -m eval.baselines RUN` again"


@dataclass(frozen=True)
class Baseline:
    """What a baseline cost; `c` is the linear model's, `label` the majority's."""

    parameters: int
    train_seconds: FiniteFloat
    ms_per_review: FiniteFloat | None
    c: FiniteFloat = 0.0
    label: str = ""


@dataclass(frozen=True)
class EncoderBaseline(Baseline):
    """What the fine-tuned encoder `model` cost, and what it read: texts of at most `max_length` tokens, for which it
    had `cut` of all `rows` cut beyond what the language model is shown. Its checkpoint reached `value` in `metric` on
    the validation rows; None without any."""

    model: str = ""
    max_length: int = 0
    cut: int = 0
    rows: int = 0
    metric: str | None = None
    value: FiniteFloat | None = None


@dataclass(frozen=True)
class Baselines:
    """RUN/baselines.json, and RUN/embedding.json and RUN/encoder.json where they are."""

    majority: Baseline
    tfidf_linear: Baseline
    embedding_linear: Baseline | None = None
    encoder: EncoderBaseline | None = None

    @classmethod
    def read(cls, run: Path) -> "Baselines | None":
        """The records of a run; None where it has none. Raises `UserError` for one that is damaged."""
        path, embedding, encoder = (run / name for name in (BASELINES_RECORD, EMBEDDING_RECORD, ENCODER_RECORD))
        if not path.is_file():
            return None
        again = "run `python -m eval.{} RUN{}` again"
        return replace(
            read(path, cls, MAKE_BASELINES),
            embedding_linear=read(embedding, Baseline, again.format("embedding", "")) if embedding.is_file() else None,
            encoder=read(encoder, EncoderBaseline, again.format("encoder", " --model PATH_OR_ID"))
            if encoder.is_file()
            else None,
        )


def encoder_facts(run: Path) -> dict[str, Any] | None:
    """What the report says of the encoder besides its figures; None where the run has none."""
    baselines = Baselines.read(run)
    if baselines is None or baselines.encoder is None:
        return None
    return {key: asdict(baselines.encoder)[key] for key in ("model", "max_length", "cut", "rows", "metric", "value")}
