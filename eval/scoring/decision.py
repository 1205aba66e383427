"""What to use, from readings and their comparisons alone: never a reading that another one on the screen dominates.

Readings above guessing are weighed from the cheapest: a baseline, a fine-tuned encoder, the untuned model, the tuned
one. At each of these steps the highest reading that costs no more stands for all; advised is the first than which the
best reading of all is not shown to be better. That one was picked as the highest of several, so its p is corrected
(Holm, 1979: the smallest p times the number of those it was picked from).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.scoring.intervals import Interval, Metric
from eval.scoring.predictions import STACK
from eval.scoring.significance import ALPHA, Code
from workspace.bilingual import Text, decimal

METRIC_NAMES: dict[Metric, Text] = {
    "macro_f1": Text("宏平均 F1", "macro F1"),
    "accuracy": Text("准确率", "accuracy"),
    "balanced_accuracy": Text("平衡准确率", "balanced accuracy"),
    "mcc": Text("MCC", "MCC"),
}
TUNED = 3  # the cost of the tuned model: the highest
# better: shown to be better than all that costs less; equal: dearer ones are within the margin; unproven: dearer ones
# are not shown to be better; alone: there is nothing else above guessing to choose; none: nothing is above guessing.
DecisionCode = Literal["better", "equal", "unproven", "alone", "none"]


@dataclass(frozen=True)
class Candidate:
    """A reading that could be used. cost: as `cost_of` says.

    value: its primary metric; interval: that of `value`, None for too few rows. figure: its metric on the rows that it
    answered, where those are not the others' and `value` only places it among them; None where both are the same.
    """

    name: str
    cost: int
    value: float
    interval: Interval | None
    above_guessing: bool
    figure: float | None = None

    @property
    def told(self) -> str:
        """The figure for people."""
        return decimal(self.value if self.figure is None else self.figure)


@dataclass(frozen=True)
class Decision:
    """The reading to use, None for none; why, and the sentence. weighed: the reading that it is weighed against."""

    advised: str | None
    code: DecisionCode
    weighed: str | None
    zh: str
    en: str


def decide(
    candidates: Sequence[Candidate],
    codes: Mapping[tuple[str, str], Code],
    p: Mapping[tuple[str, str], float],
    names: Mapping[str, Text],
    metric: Metric = "macro_f1",
) -> Decision:
    """The advice on `candidates`. codes and p (two-sided): of comparisons, the second reading against the first; one
    that is missing counts as undecided. names: what readings are called."""
    able = [one for one in candidates if one.above_guessing]
    word = METRIC_NAMES[metric]
    if not able:
        return Decision(
            None,
            "none",
            None,
            "不要采用这里的任何一种做法：没有一种被证实高于瞎猜。",
            "Use none of these: nothing is shown to be above guessing.",
        )
    steps = [_highest([one for one in able if one.cost <= cost]) for cost in sorted({one.cost for one in able})]
    best = steps[-1]

    def picked_from(one: Candidate) -> int:
        return sum(other.cost > one.cost for other in able)

    def beaten(one: Candidate) -> bool:
        corrected = p.get((one.name, best.name), 1.0) * picked_from(one)
        return _code(codes, one, best) == "better" and corrected < ALPHA

    advised = next(one for one in steps if one is best or not beaten(one))
    zh, en = (f"{text} {advised.told}" for text in word)
    zh_name, en_name = names.get(advised.name, Text(advised.name, advised.name))
    cheaper = [one for one in able if one.cost < advised.cost]
    if len(able) == 1:
        return Decision(
            advised.name,
            "alone",
            None,
            f"用「{zh_name}」（{zh}）：只有它被证实高于瞎猜。",
            f"Use “{en_name}” ({en}): it alone is shown to be above guessing.",
        )
    if best is advised:
        rival = max(cheaper, key=lambda one: one.value, default=None)
        against = Text("", "")
        if rival:
            other, several = names.get(rival.name, Text(rival.name, rival.name)), _several(picked_from(rival))
            against = Text(
                f"，已证实好于更便宜的「{other.zh}」（{rival.told}）{several.zh}",
                f", shown to be better than the cheaper “{other.en}” ({rival.told}){several.en}",
            )
        return Decision(
            advised.name,
            "better",
            rival.name if rival else None,
            f"用「{zh_name}」：这里{zh}最高{against.zh}。",
            f"Use “{en_name}”: the highest {en} here{against.en}.",
        )
    other = names.get(best.name, Text(best.name, best.name))
    figure, code = best.told, _code(codes, advised, best)
    equal, several = code == "equivalent", _several(picked_from(advised) if code == "better" else 1)
    return Decision(
        advised.name,
        "equal" if equal else "unproven",
        best.name,
        f"先用「{zh_name}」（{zh}）：更贵的「{other.zh}」（{figure}）"
        + ("与它的差别在容许范围之内。" if equal else f"没有被证实更好{several.zh}，也没有被证实一样。"),
        f"Start with “{en_name}” ({en}): the dearer “{other.en}” ({figure}) "
        + ("differs from it by less than the margin." if equal else "is shown neither to be better")
        + ("" if equal else f"{several.en} nor to be equal."),
    )


def cost_of(name: str) -> int:
    """What a reading costs: 0 a baseline, 1 a fine-tuned encoder, 2 the untuned model or its embedding, TUNED the tuned
    one, maybe with another. An encoder is taken to be smaller than the model: efficiency.py looks."""
    steps = {"encoder": 1, "embedding": 2, "before": 2, "after": TUNED}
    return TUNED if name == STACK else steps.get(name.split("_")[0], 0)


def _several(count: int) -> Text:
    """That a comparison was corrected, where there was a choice."""
    if count < 2:
        return Text("", "")
    return Text(f"（{count} 种里选出最高的，已作 Holm 校正）", f" (Holm, as the highest of {count})")


def _highest(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda one: (one.value, -one.cost))


def _code(codes: Mapping[tuple[str, str], Code], a: Candidate, b: Candidate) -> Code:
    return codes.get((a.name, b.name), "undecided")
