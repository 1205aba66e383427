"""The keys `selective` and `costs` of task.yaml: what a model may answer by itself, and what wrong answers cost."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prep.settings import Number, SettingError, between
from data_prep.table.table_settings import STRICT
from workspace.errors import nearest


@dataclass(frozen=True, config=STRICT)
class SelectiveSettings:
    """`target`: the accuracy that answers above the confidence threshold must have; `level`: the risk, at most, that
    the threshold chosen on validation rows does not have it."""

    target: Annotated[Number, between(0.5, 0.999)] = 0.95
    level: Annotated[Number, between(0.001, 0.5)] = 0.05


@dataclass(frozen=True, config=STRICT)
class Costs:
    """What a wrong answer costs, by gold label and answered label, and what it costs to `ask` a person; in one unit of
    the user's. A confusion that is not named costs 1, a right answer nothing; without `ask` nobody is asked."""

    confusions: dict[str, dict[str, Annotated[Number, between(0, 1e9)]]] = Field(default_factory=dict)
    ask: Annotated[Number, between(0, 1e9)] | None = None


def check_confusions(costs: Costs | None, labels: Sequence[str]) -> None:
    """Raise SettingError where a confusion names a word that is none of the label words, or a right answer."""
    for gold, answers in (costs.confusions if costs else {}).items():
        for word in (gold, *answers):
            if word not in labels:
                known = f"{nearest(word, labels)}; known: {', '.join(labels)}"
                raise SettingError(f"names {word!r}, which is no label word{known}", f"costs.confusions.{gold}")
        if gold in answers:
            raise SettingError("names the right answer, which costs nothing: take it out", f"costs.confusions.{gold}")
