"""Exact and near duplicates among the reviews of a table, and those that leak between splits."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_prep.duplicates.similarity import Comparison
from data_prep.manifest import GroupCounts, LeakCounts
from data_prep.table.text_column import Texts, text_column, text_hashes, texts_at
from data_prep.task import SPLITS, NearDuplicates
from workspace.progress import progress

CHUNK = 10_000  # texts normalised at a time
DROPPED = frozenset("PZC")  # Unicode's punctuation; separators; controls and invisible marks
ASCII_SYMBOLS = frozenset("$+<=>^`|~")  # Unicode calls them symbols; reviews use them as punctuation


@dataclass(frozen=True)
class DuplicateGroups:
    """Groups of rows, as integer arrays with one entry a row: the index of the earliest row of its group.

    `exact`: the same text after normalising. `near`: linked to it by a chain of near duplicates, so that near groups
    are made of exact ones.
    """

    exact: np.ndarray
    near: np.ndarray


class Normaliser:
    """Texts as they are compared: NFKC, lower case, without white space, punctuation and invisible characters."""

    def __init__(self) -> None:
        self._known = np.zeros(0x110000, bool)
        self._kept = np.zeros(0x110000, bool)

    def normalise(self, texts: Sequence[str]) -> list[str]:
        """The normalised texts, none of them empty.

        Symbols and emoji stay, as they carry the sentiment. A text with nothing but punctuation, which would come out
        empty and so equal to every other such text, keeps its punctuation.
        """
        result: list[str] = []
        for start in range(0, len(texts), CHUNK):
            chunk = [text.replace("\n", " ") for text in texts[start : start + CHUNK]]
            folded = unicodedata.normalize("NFKC", "\n".join(chunk)).casefold()
            points = np.frombuffer(folded.encode("utf-32-le"), np.uint32)
            self._learn(points)
            bare = points[self._kept[points]].tobytes().decode("utf-32-le").split("\n")
            result += [
                short or unicodedata.normalize("NFKC", text).casefold().strip() or " "
                for short, text in zip(bare, chunk, strict=True)
            ]
        return result

    def column(self, texts: Texts) -> pd.Series:
        """The normalised texts of a column, as another column."""
        with progress(len(texts), "prep: normalising") as bar:

            def pieces() -> Iterator[list[str]]:
                for piece in texts.pieces():
                    yield self.normalise(piece)
                    bar.update(len(piece))

            return text_column(pieces())

    def _learn(self, points: np.ndarray) -> None:
        """Look up the Unicode category of the characters not met before."""
        for point in np.unique(points[~self._known[points]]).tolist():
            char = chr(point)
            self._known[point] = True
            self._kept[point] = char == "\n" or (
                unicodedata.category(char)[0] not in DROPPED and char not in ASCII_SYMBOLS
            )


def find_duplicates(normalised: Sequence[str], settings: NearDuplicates, seed: int) -> DuplicateGroups:
    """The groups among normalised texts. Near groups are joined pairs of similarity.py."""
    exact = first_equal(normalised)
    unique, codes = np.unique(exact, return_inverse=True)
    near = _joined(texts_at(normalised, unique), settings, seed)
    return DuplicateGroups(exact=exact, near=first_of(near[codes]))


def first_equal(texts: Sequence[str]) -> np.ndarray:
    """For each text the index of the first one equal to it, by a hash of 128 bits."""
    hashes = text_hashes(texts)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # a stable sort: of equal ones the first comes first
    new = np.ones(len(order), bool)
    new[1:] = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first


def conflicting(groups: np.ndarray, labels: np.ndarray | Sequence[str]) -> np.ndarray:
    """Whether each row's group holds rows of more than one label: bool, one a row."""
    frame = pd.DataFrame({"group": groups, "label": pd.factorize(np.asarray(labels, dtype=object))[0]})
    span = frame.groupby("group")["label"]
    return (span.transform("max") != span.transform("min")).to_numpy()


def group_counts(groups: np.ndarray) -> GroupCounts:
    """How many groups hold more than one row, and how many rows are in them."""
    sizes = np.unique(groups, return_counts=True)[1]
    return GroupCounts(groups=int((sizes > 1).sum()), rows=int(sizes[sizes > 1].sum()))


@dataclass(frozen=True)
class Leaks:
    """Rows of one split that are in another too.

    `counts` has the keys test_in_train, test_in_val and val_in_train: `exact` counts the rows with the same normalised
    text in the other split, `near` those with only a near duplicate there. `pairs` holds pairs of
    rows in two splits, shape (n, 2): at least one for each row counted.
    """

    counts: dict[str, LeakCounts]
    pairs: np.ndarray


def find_leaks(normalised: Sequence[str], splits: np.ndarray, settings: NearDuplicates, seed: int) -> Leaks:
    """The leaks between splits. The near duplicates are sought with the permutations of `seed`: with another seed than
    find_duplicates had, this does not miss what that missed."""
    unique, codes = np.unique(first_equal(normalised), return_inverse=True)
    texts, count = texts_at(normalised, unique), len(unique)
    # some_row[s, t]: the first row of split s with the text t, -1: none; near_row[s, t]: that of a near duplicate.
    some_row = np.full((len(SPLITS), count), -1, np.int64)
    for at, name in enumerate(SPLITS):
        rows = np.flatnonzero(splits == name)[::-1]
        some_row[at, codes[rows]] = rows
    near_row = np.full_like(some_row, -1)
    there = some_row >= 0
    comparison = Comparison(texts, settings, seed)
    for a, b in comparison.candidates():
        apart = (there[:, a] | there[:, b]).sum(axis=0) > 1
        known = (~there[:, b] | (near_row[:, a] >= 0)).all(axis=0) & (~there[:, a] | (near_row[:, b] >= 0)).all(axis=0)
        a, b = a[apart & ~known], b[apart & ~known]
        close = comparison.similar(a, b)
        for at in range(len(SPLITS)):
            for text, other in ((a[close], b[close]), (b[close], a[close])):
                near_row[at, text[there[at, other]]] = some_row[at, other[there[at, other]]]
    counts, pairs = {}, []
    for inner, outer in (("test", "train"), ("test", "val"), ("val", "train")):
        at = SPLITS.index(outer)
        rows = np.flatnonzero(splits == inner)
        same, near = some_row[at, codes[rows]], near_row[at, codes[rows]]
        counts[f"{inner}_in_{outer}"] = LeakCounts(
            exact=int((same >= 0).sum()), near=int(((near >= 0) & (same < 0)).sum())
        )
        pairs += [np.column_stack([rows, partner])[partner >= 0] for partner in (same, near)]
    return Leaks(counts, np.concatenate(pairs))


def join(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`groups` (the index of the earliest member, one a row) with the groups of each pair of rows made one."""
    size = len(groups)
    links = coo_array((np.ones(len(pairs), np.int8), (groups[pairs[:, 0]], groups[pairs[:, 1]])), (size, size))
    _, component = connected_components(links, directed=False)
    return first_of(component[groups])


def first_of(codes: np.ndarray) -> np.ndarray:
    """For each entry of `codes` (non-negative integers) the index of the first entry that is equal to it."""
    first = np.full(codes.max(initial=0) + 1, len(codes), np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first[codes]


def _joined(texts: Sequence[str], settings: NearDuplicates, seed: int) -> np.ndarray:
    """The index of the earliest text of each text's group; no two of `texts` are equal."""
    groups = np.arange(len(texts))
    comparison = Comparison(texts, settings, seed)
    for a, b in comparison.candidates():
        apart = groups[a] != groups[b]
        a, b = a[apart], b[apart]
        close = comparison.similar(a, b)
        if close.any():
            groups = join(groups, np.column_stack([a[close], b[close]]))
    return groups
