"""The texts of a table's column, read piece by piece.

A million reviews as a Python list take a third of a gigabyte; as a column they are packed, and a piece of them
becomes a list when it is looked at.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pandas as pd
import pyarrow as pa

PIECE = 20_000  # texts looked at together


class Texts(Sequence[str]):
    """The texts of a pandas column of strings."""

    def __init__(self, column: pd.Series):
        self._array = pa.array(column)
        self._rows: np.ndarray | None = None  # positions, int64; None: all

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        """One text, or a list of those in a slice."""
        if self._rows is None:
            return self._array[at].to_pylist() if isinstance(at, slice) else self._array[int(at)].as_py()
        rows = self._rows[at]
        return self._array.take(pa.array(rows)).to_pylist() if isinstance(at, slice) else self._array[int(rows)].as_py()

    def at(self, rows: np.ndarray) -> "Texts":
        """Those of the texts at the positions `rows`, without a copy."""
        chosen = Texts.__new__(Texts)
        chosen._array, chosen._rows = self._array, rows if self._rows is None else self._rows[rows]
        return chosen

    def pieces(self, size: int = PIECE) -> Iterator[list[str]]:
        """All texts, as lists of at most `size`."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def __iter__(self) -> Iterator[str]:
        for piece in self.pieces():
            yield from piece


def texts_at(texts: Sequence[str], rows: np.ndarray) -> Sequence[str]:
    """The texts at the positions `rows`; of a column no copy is made."""
    return texts.at(rows) if isinstance(texts, Texts) else [texts[row] for row in rows]


def text_column(pieces: Iterator[Sequence[str]]) -> pd.Series:
    """A column of the texts of all `pieces`, in order."""
    arrays = [pa.array(piece, pa.large_string()) for piece in pieces]
    return pd.Series(pd.array(pa.concat_arrays(arrays or [pa.array([], pa.large_string())]), dtype="str"))


def text_hashes(texts: Sequence[str], key: bytes = b"") -> np.ndarray:
    """A hash of 128 bits of each text, the same on every machine: uint64, shape (texts, 2)."""
    digests = bytearray()
    for text in texts:
        digests += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def shared_strings(column: pd.Series) -> np.ndarray:
    """The strings of a column with few distinct values as an object array, in which equal ones are one object."""
    codes, values = pd.factorize(column)
    return np.asarray(values, dtype=object)[codes]
