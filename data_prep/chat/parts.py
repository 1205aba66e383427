"""Several text columns as one text: what goes into a prompt with a place for each, such as {title} and {review}.

The parts are joined by a character that no text has, so that whatever handles one review (cutting, control tokens,
injected instructions) handles several columns in the same way. Where there is one text column it is the text itself.
"""

import re
from collections.abc import Iterable, Sequence

SEPARATOR = "\ufdd0"  # a noncharacter of Unicode, for use inside of a program alone


def joined(parts: Iterable[str]) -> str:
    """The texts of a row's columns as one; the separator in a text, where it has no meaning, becomes a space."""
    return SEPARATOR.join(part.replace(SEPARATOR, " ") for part in parts)


def parts_of(text: str, count: int) -> list[str]:
    """The texts of `count` columns; those that `text` has none of are empty."""
    parts = text.split(SEPARATOR) if count > 1 else [text]
    return [*parts, *[""] * (count - len(parts))]


def filled(template: str, places: Sequence[str], text: str) -> str:
    """`template` with the columns of `text` in their `places`."""
    texts = dict(zip(places, parts_of(text, len(places)), strict=True))
    # All at once: a text may hold what looks like a place.
    return re.sub("|".join(map(re.escape, places)), lambda place: texts[place[0]], template)


def as_read(text: str, count: int) -> str:
    """The columns as they stand in a row's `review`: those that hold something, one a line."""
    return "\n".join(filter(str.strip, parts_of(text, count))) if count > 1 else text


def level(lengths: Sequence[int], keep: int) -> int:
    """How long each of some texts may stay so that all together are at most `keep` long: short ones stay whole, and the
    longest are cut to one length."""
    ordered, left = sorted(lengths), keep
    for at, length in enumerate(ordered):
        if length * (len(ordered) - at) > left:
            return max(left, 0) // (len(ordered) - at)
        left -= length
    return ordered[-1]
