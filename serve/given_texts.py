"""What a caller in Python gives as texts: a list, a column, a frame or an array, of one or several text columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.chat.parts import joined
from workspace.errors import UserError


def given_texts(given: Any, columns: Sequence[str]) -> list[str]:
    """One text a row of `given`; of several `columns` their texts, joined by data_prep.chat.parts.

    A frame has the columns by name, or just as many in their order; of several columns a list has a row's texts, in the
    columns' order or by name. Absent values are empty. Raises `UserError` for a single text, and for other columns.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UserError("one text is given where a list of texts is expected: put it in brackets, [text]")
    if isinstance(given, pd.DataFrame):
        return _rows(_columns_of(given, columns).to_numpy(object), columns)
    if isinstance(given, np.ndarray) and given.ndim == 2:
        return _rows(given, columns)
    rows = given.tolist() if isinstance(given, pd.Series | np.ndarray) else list(given)
    if len(columns) > 1 or any(isinstance(row, Mapping | list | tuple) for row in rows[:1]):
        return _rows(
            ([row.get(name) for name in columns] if isinstance(row, Mapping) else row for row in rows), columns
        )
    return [_text(row) for row in rows]


def _columns_of(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    names = [str(name) for name in frame.columns]
    if set(columns) <= set(names):
        return frame.iloc[:, [names.index(name) for name in columns]]
    if len(names) != len(columns):
        raise UserError(f"the frame has the columns {', '.join(names)}, and the texts' are {', '.join(columns)}")
    return frame


def _rows(rows: Any, columns: Sequence[str]) -> list[str]:
    found = []
    for row in rows:
        if isinstance(row, str) or len(row) != len(columns):
            raise UserError(f"a row has not the texts of the columns {', '.join(columns)}, one each")
        texts = [_text(part) for part in row]
        found.append(joined(texts) if len(columns) > 1 else texts[0])
    return found


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA else str(value)
