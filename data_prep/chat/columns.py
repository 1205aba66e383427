"""The text columns of a frame, where a task has several: each is named by its place in the prompt, such as {title}."""

import pandas as pd

from data_prep.chat.parts import joined
from data_prep.table.text_column import PIECE, text_column


def places_in(frame: pd.DataFrame) -> list[str]:
    """The columns of a frame that hold the text of one of several text columns."""
    return [name for name in map(str, frame.columns) if name.startswith("{")]


def prompt_texts(frame: pd.DataFrame) -> pd.Series:
    """What goes into each row's prompt, with the index of `frame`: the column text, or the several columns as one."""
    if not (places := places_in(frame)):
        return frame["text"]
    pieces = (frame.iloc[start : start + PIECE] for start in range(0, len(frame), PIECE))
    rows = (zip(*(piece[place].tolist() for place in places), strict=True) for piece in pieces)
    return text_column([joined(parts) for parts in piece] for piece in rows).set_axis(frame.index)
