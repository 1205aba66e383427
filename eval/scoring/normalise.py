"""The form in which an answer and the label words are compared: step 1 of the rules in eval.scoring.parse."""

import re
import unicodedata

from eval.scoring.answer_words import TRADITIONAL

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_ARTICLE = re.compile(r"(?<![A-Za-z])a(?=\s+[A-Za-z])")  # before case-folding: "a good one" is not label A
_TURN_TOKEN = re.compile(r"<\|[^<>|\s]{1,40}\|>(?:\s*(?:system|user|assistant)(?![a-z]))?|</s>|\[/?inst\]")
_THINK_TAG = re.compile(r"(</?think(?:ing)?>)")
_TAG = re.compile(r"</?[a-z][a-z0-9]{0,15} ?/?>")
_SPACE_IN_CHINESE = re.compile(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])")
_QUOTES = " \n\"'“”‘’「」『』"


def normal(text: str) -> str:
    """Bring a text (an answer or a label word) to the form in which the words are compared."""
    text = _ARTICLE.sub("", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))
    text = text.casefold().translate(TRADITIONAL).replace("n’t", "n't").replace("it’s", "it's")
    text = next((turn for turn in _TURN_TOKEN.split(text) if turn.strip()), "")
    text = _TAG.sub(" ", _without_thinking(text)).replace("*", "").replace("`", "")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _SPACE_IN_CHINESE.sub("", "\n".join(line for line in lines if line))


def _without_thinking(text: str) -> str:
    """Remove `<think>` blocks; a block that is not closed ends the answer."""
    kept: list[str] = []
    thinking = False
    for piece in _THINK_TAG.split(text):
        if not _THINK_TAG.fullmatch(piece):
            kept += [] if thinking else [piece]
        elif piece.startswith("</"):
            if not thinking:  # its opening tag was in the prompt: all before it was thought
                kept.clear()
            thinking = False
        else:
            thinking = True
    return "".join(kept)


def strip_marks(text: str) -> str:
    """Take quotes, white space and closing punctuation off a normalised text."""
    return text.strip(_QUOTES).rstrip(_QUOTES + "。.!,;:、~…")
