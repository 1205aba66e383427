"""classifier.json: what a bundle's classifier answers, how it is asked, and what that was measured to be worth.

With the weights beside it, it is all that predicting and serving need: no run, no dataset, no task.yaml.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from data_prep.decision_settings import Costs
from eval.scoring.significance import Interval
from eval.scoring.temperature import Calibration

NAME = "classifier.json"
FORMAT = 2
DIGITS = 6  # of probabilities in a labelled table
EVERY_ROW = -1.0  # below every expected cost: a person is asked about all
Reading = Literal["tuned", "linear", "stack"]
Kind = Literal["words", "head"]
Engine = Literal["transformers", "vllm"]  # what runs a tuned model
# As the report names them.
REPORTED: dict[Reading, str] = {"tuned": "after_score", "linear": "tfidf_linear", "stack": "stack"}
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Prompt:
    """How a text becomes tokens: `data_prep.chat` says what each means.

    `parts` are those of ChatFrame (system prompt filled in), `places` the places of the text columns in `template`,
    such as {review}; `columns` their names in the table. `max_length` are the most tokens of the whole chat, the
    longest label included; a longer text loses its middle.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    template: str
    system: str
    places: tuple[str, ...]
    columns: tuple[str, ...]
    parts: tuple[str | tuple[int, ...], ...]
    chat_template: str  # ms-swift's name
    max_length: int
    keep_head: float


@dataclass(frozen=True)
class Measured:
    """The primary metric of the reading on n test rows, with its 95 % interval."""

    metric: str
    value: FiniteFloat
    interval: Interval | None  # None: too few rows
    n: int


@dataclass(frozen=True)
class Thresholds:
    """What was chosen on validation rows. `label` as eval.scoring.thresholds.Threshold.value() has it; `selective` the
    confidence from which on the accuracy reached `target` at risk `level`, None where none did; `cost` the expected
    cost from which on asking a person is cheaper, EVERY_ROW where it always is."""

    label: FiniteFloat | dict[str, FiniteFloat] | None = None
    selective: FiniteFloat | None = None
    target: FiniteFloat | None = None
    level: FiniteFloat | None = None
    cost: FiniteFloat | None = None


@dataclass(frozen=True)
class Expected:
    """What the validation rows look like to the classifier, against which drift is measured: shares of the answered
    labels, and of the rows by confidence and by characters (of several columns in all), up to each of the upper bounds
    and above the last: numpy.searchsorted(bounds, values)."""

    n: int
    labels: dict[str, FiniteFloat]
    confidence_bounds: tuple[FiniteFloat, ...]
    confidence_shares: tuple[FiniteFloat, ...]
    length_bounds: tuple[FiniteFloat, ...]
    length_shares: tuple[FiniteFloat, ...]


@dataclass(frozen=True)
class Agreement:
    """How near a bundle's weights are to the model that was measured: the greatest difference of a probability on so
    many rows of the test split, at most `tolerance`, which is that of the dtype they are stored in; both give every row
    the same label but `ties` of them, whose two highest probabilities differ by less than that themselves."""

    dtype: str
    rows: int
    difference: FiniteFloat
    tolerance: FiniteFloat
    ties: int


@dataclass(frozen=True)
class ClassifierFile:
    """A bundle's classifier.json.

    `reported` is the reading of metrics.json that `measured` is of. Labels are the most probable ones, but where that
    ends with `_threshold`: there they are `thresholds.label`'s. `kind`: a language model answers in `words` or by a
    `head`; of the linear model alone it is None. `prompt` is there of every kind: the linear model reads the texts cut
    and with control tokens made harmless, as the language model is shown them. Probabilities are
    softmax(log P* / temperature + biases) over the labels, with P* as in plugins/word_tree.py, or the linear model's,
    by the calibration that validation rows gave (eval/scoring/temperature.py); the stack has none besides its weights.
    `weights`: the whole model is in the bundle's folder, or an adapter to `base_model` in its folder `adapter`; None of
    the linear model alone. `files` are the SHA-256 of every other file of the bundle by its path; empty of a run.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: str
    labels: tuple[str, ...]
    reading: Reading
    reported: str
    kind: Kind | None
    prompt: Prompt
    temperature: FiniteFloat
    thresholds: Thresholds
    measured: Measured
    advice: Reading | None  # what the report advised; None: something else, or nothing
    expected: Expected | None
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    biases: tuple[FiniteFloat, ...] | None = None  # in the order of `labels`; None: the temperature alone
    costs: Costs | None = None
    base_model: str | None = None
    model_type: str | None = None  # ms-swift's name of the base's family, where the run names it
    base_fingerprint: str | None = None  # hub.model_files.fingerprint
    weights: Literal["merged", "adapter"] | None = None
    adapter_rank: int | None = None  # of an adapter that is apart
    dtype: str | None = None  # torch's name of what the measured answers were computed in; None: not known
    quant_bits: int | None = None  # of a base that the model was tuned and measured on in so many bits
    agreement: Agreement | None = None  # of merged weights in a bundle
    licences: dict[str, str] = field(default_factory=dict)  # of base and data
    data_sha256: dict[str, Sha256] = field(default_factory=dict)  # train, val and test rows
    code_sha256: str | None = None  # of the plugin that scored the measured answers
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, Sha256] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def calibration(self) -> Calibration:
        """What makes the probabilities of those that the model gives."""
        return Calibration(self.temperature, self.biases)


def path_in(bundle: Path) -> Path:
    """Where a bundle's classifier.json is."""
    return bundle / NAME
