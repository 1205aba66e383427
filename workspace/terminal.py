"""Text from strangers on a terminal: shown, never obeyed."""

import unicodedata

# Control characters (escape sequences, carriage returns), those that turn the direction, lone surrogates, line ends.
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, keep: str = "") -> str:
    """`text` with what a terminal would obey written out, as `\\x1b`; all but the characters of `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(ascii(one)[1:-1] if unicodedata.category(one) in OBEYED and one not in keep else one for one in text)
