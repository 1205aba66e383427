"""Ranges of numbers: one check for command lines, for keys of YAML files and for what a sweep varies."""

import math
from typing import Any, NamedTuple


class Range(NamedTuple):
    """The numbers from `low` to `high`. `above`, `below`: the bound itself is out. Above `whole_above` all are whole.

    NaN and infinity are in no range.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    whole_above: float = math.inf

    @property
    def is_whole(self) -> bool:
        """Whether all numbers of the range are whole."""
        return self.whole_above == -math.inf

    def fault(self, value: Any) -> str | None:
        """What is wrong with a number, or with the text of one, as the end of a sentence; None when it is right."""
        return None if self._holds(value) else f"is {value!r}, expected {self}"

    def _holds(self, value: Any) -> bool:
        try:
            # As the parser of ms-swift: "4.0" is no whole number, nor is True.
            number = int(str(value)) if self.is_whole else float(str(value))
        except ValueError:
            return False
        if not self.low <= number <= self.high or (number > self.whole_above and number != int(number)):
            return False
        return not (self.above and number == self.low) and not (self.below and number == self.high)

    def __str__(self) -> str:
        what = "a whole number" if self.is_whole else "a number"
        low, high = (f"{bound:,}" if isinstance(bound, int) else f"{bound:g}" for bound in (self.low, self.high))
        also = f", whole above {self.whole_above:g}" if 0 < self.whole_above < math.inf else ""
        return f"{what} {'above' if self.above else 'from'} {low} {'and below' if self.below else 'to'} {high}{also}"


def whole(low: int, high: int) -> Range:
    """The whole numbers from `low` to `high`."""
    return Range(low, high, whole_above=-math.inf)


SEED = whole(0, 2**32 - 1)  # what NumPy takes
ROWS = whole(1, 10**12)
TOKENS = whole(16, 1_000_000)  # of a prompt and its answer
