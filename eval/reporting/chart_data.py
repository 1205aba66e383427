"""The series that charts draw, taken from the metrics: the same in the PNGs and in the page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eval.scoring.predictions import headline_pair


class Series(NamedTuple):
    """Points of one line: xs (n,) and ys (n,). Empty, and so false in an `if`, where nothing was measured."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __bool__(self) -> bool:
        return bool(self.xs)


def series(rows: Sequence[Mapping[str, Any]], y: str, x: str = "step") -> Series:
    """The points of `rows` by rising x, without those that lack y."""
    known = sorted((row[x], row[y]) for row in rows if row.get(y) is not None)
    return Series(tuple(point[0] for point in known), tuple(point[1] for point in known))


def smoothing(points: int) -> float:
    """The weight to smooth that many points with: none for ten or fewer, where an average would only lag behind."""
    return min(0.8, max(0.0, 1 - 10 / max(points, 1)))


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with the start-up bias taken out, as in Adam (Kingma and Ba 2015, section 3)."""
    average, out = 0.0, []
    for k, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**k))
    return out


def stage_of(reading: str) -> str:
    """baseline, before or after: what decides a reading's colour."""
    head = reading.split("_")[0]
    return head if head in {"before", "after"} else "baseline"


def answer_reading(metrics: Mapping[str, Any], stage: str) -> str | None:
    """The reading that stands for the model `before` or `after`: the verdict's; without one, generated, else scored."""
    if pair := headline_pair(metrics["readings"]):
        return pair[stage == "after"]
    return next((n for n in (f"{stage}_generate", f"{stage}_score") if n in metrics["readings"]), None)


def scored(metrics: Mapping[str, Any], curve: str) -> dict[str, Mapping[str, Any]]:
    """The readings by score, before and after, that have points on `curve` (reliability or risk_coverage)."""
    readings = ((name, metrics["readings"].get(name)) for name in ("before_score", "after_score"))
    return {name: r for name, r in readings if r and r["probabilities"] and r["probabilities"].get(curve)}


def best_checkpoint(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The validation point of the checkpoint that was chosen."""
    curves = metrics.get("curves") or {}
    return next((p for p in curves.get("val", []) if p["step"] == curves.get("best_step")), None)


def split_sizes(metrics: Mapping[str, Any], *splits: str) -> str:
    """How many rows each of `splits` has: "train n = 5,590, val n = 622"; those that are not known are left out."""
    sizes = {s: (metrics.get("counts") or {}).get(s, {}).get("total") for s in splits}
    return ", ".join(f"{split} n = {size:,}" for split, size in sizes.items() if size is not None)
