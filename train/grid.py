"""The points of a sweep: every combination of what may vary, each an override or a value of an option."""

import random
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from workspace.errors import UserError

AS_IT_IS = "none"  # the recipe without an override


class Point(NamedTuple):
    """One combination: names of overrides, and options of `swift sft` with their values as text."""

    overrides: tuple[str, ...]
    values: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """What the point is called in tables and folders."""
        parts = [*self.overrides, *(f"{key}={value}" for key, value in self.values)]
        return "+".join(part.replace("/", "-") for part in parts) or AS_IT_IS


def grid(dimensions: Sequence[Sequence[str]], trials: int | None, seed: int) -> list[Point]:
    """All combinations of one choice from each of `dimensions`, or `trials` of them drawn by `seed`.

    A choice is the name of an override, `key=value` for an option of `swift sft`, or `none`. Raises `UserError` for
    a choice that stands twice.
    """
    for choices in dimensions:
        if len(set(choices)) < len(choices):
            raise UserError(f"--vary {' '.join(choices)} names a choice twice: name each once")
    points = [_point(choices) for choices in product(*dimensions)]
    if trials is not None and trials < len(points):
        points = [points[at] for at in sorted(random.Random(seed).sample(range(len(points)), trials))]
    return points


def _point(choices: Sequence[str]) -> Point:
    overrides = tuple(one for one in choices if "=" not in one and one != AS_IT_IS)
    pairs = (one.partition("=") for one in choices if "=" in one)
    return Point(overrides, tuple((key.lstrip("-").replace("-", "_"), value) for key, _, value in pairs))
