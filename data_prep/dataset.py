"""The steps between a table and the rows of a dataset: usable rows, their groups, their splits, their prompts.

All steps pass on one frame, a line a usable row in the table's order, and add columns to it: row, line, text, label;
normalised, group; split, used; cut.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.card.histogram import length_table
from data_prep.chat.lengths import fit_reviews
from data_prep.chat.prompt import KNOWN_CONTROL_TOKENS, chat_text, control_pattern, neutralise
from data_prep.chat.token_bound import TokenBound
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.duplicates.deduplication import (
    Leaks,
    Normaliser,
    conflicting,
    find_leaks,
    find_repeats,
    first_of,
    group_counts,
    join,
)
from data_prep.manifest import spread
from data_prep.splitting import row_draws, split_rows, take_limit
from data_prep.table.checking import Checked, check_rows, set_aside_conflicts, stop_if_class_is_gone, stop_if_too_many
from data_prep.table.reading import Table
from data_prep.table.text_column import Texts, shared_strings
from data_prep.task import Task
from workspace.errors import UserError

GATE_ROUNDS = 5
COUNT_ALL = 100_000  # rows up to which every chat's tokens are counted
SAMPLE = 50_000  # rows of a larger table whose tokens are counted for the spread of lengths


def usable_rows(table: Table, task: Task) -> tuple[Checked, dict[str, Any]]:
    """The rows that can be used, with normalised and group; and what was found repeated in the table.

    The table gives up its texts: they stand in the result. Raises UserError when too many rows, or all of a class,
    cannot be used.
    """
    checked = check_rows(table, task)
    stop_if_too_many(table, task, checked.rejects)
    stop_if_class_is_gone(table, task, checked.kept)
    del table.frame["text"]
    labels = shared_strings(checked.kept["label"])
    normalised = Normaliser().column(Texts(checked.kept["text"]))
    repeats = find_repeats(Texts(normalised), task.near_duplicates, task.split.seed)
    contested = conflicting(repeats.exact, labels)
    found = {
        "exact": group_counts(repeats.exact),
        "near": group_counts(repeats.near),
        "conflicting_exact": group_counts(repeats.exact[contested]),
        "conflicting_near": group_counts(repeats.near[conflicting(repeats.near, labels)]),
    }
    checked = Checked(checked.kept.assign(normalised=normalised, group=repeats.near), checked.rejects)
    del normalised
    if task.conflicts == "set_aside":
        checked = set_aside_conflicts(checked, contested)
        checked.kept["group"] = first_of(checked.kept["group"].to_numpy())
        stop_if_too_many(table, task, checked.rejects)
    stop_if_class_is_gone(table, task, checked.kept)
    return checked, found


def split_frame(kept: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, Leaks]:
    """`kept` with split and used, and what is left of leaks between the splits.

    Under the scheme `original` leaks are only counted. Under any other none is left: pairs that were not found before
    are joined into groups and the rows split anew. Raises UserError when that does not come to an end, and for a class
    that does not reach every split.
    """
    normalised, labels = Texts(kept["normalised"]), shared_strings(kept["label"])
    draws = row_draws(normalised, task.split.seed)
    groups = kept["group"].to_numpy()
    for attempt in range(GATE_ROUNDS):
        splits = split_rows(labels, groups, draws[:, 0], task.label_words, task.split)
        leaks = find_leaks(normalised, splits, task.near_duplicates, task.split.seed + 1 + attempt)
        if task.split.scheme == "original" or not leaks.pairs.size:
            break
        groups = join(groups, leaks.pairs)
    else:
        rows = kept["row"].to_numpy()[leaks.pairs[0]]
        raise UserError(
            f"rows {rows[0]:,} and {rows[1]:,} are near copies in two splits, still after {GATE_ROUNDS} rounds of "
            "joining groups: raise near_duplicates.threshold in the task, or remove one of the rows"
        )
    used = np.ones(len(kept), bool)
    if task.limit is not None:
        used = take_limit(splits, labels, draws[:, 1], task.label_words, task.limit, task.limit_of)
    return kept.assign(split=splits, used=used), leaks


def fit_frame(
    kept: pd.DataFrame, task: Task, tokenizer: ModelTokenizer | None, orders: Mapping[int, str]
) -> tuple[pd.DataFrame, dict[int, str], dict[str, Any] | None]:
    """`kept` with the column cut; the reviews, by position, that stand otherwise in the prompt than in the table: as
    `orders` has them, cut, or with control tokens neutralised; the spread of the tokens of the used rows' chats
    before and after cutting.

    Without a tokenizer nothing is counted or cut, and the spread is None. Of a large table the spread is that of a
    sample; which rows must be cut is found out for every row.
    """
    pattern = control_pattern(tokenizer.control_tokens if tokenizer else ())
    texts = Texts(_replaced(kept["text"], orders))
    if tokenizer is None:
        return kept.assign(cut=False), _changed(texts, orders, pattern), None
    # One answer for all rows, so that a row's cut does not tell its label.
    longest = max(task.label_words, key=lambda word: len(tokenizer.ids(word)))

    def chat(review: str) -> str:
        return chat_text(task, neutralise(review, pattern), longest)

    used = kept["used"].to_numpy()
    bound = tokenizer.bound() if len(kept) > COUNT_ALL else None
    sample, counted = None, None
    if bound:
        sample = sample_rows(kept, task.split.seed)
        longer = may_be_longer(texts, bound, bound.room(chat(""), task.max_length), tokenizer.control_tokens)
        counted = np.union1d(np.flatnonzero(longer), sample)
    fitted = fit_reviews(texts, chat, tokenizer, task.max_length, task.keep_head, counted)
    looked_at = np.flatnonzero(used) if sample is None else sample
    before, after = fitted.tokens_before[looked_at], fitted.tokens[looked_at]
    table = length_table(
        before, kept["split"].iloc[looked_at], kept["label"].iloc[looked_at], task.label_words, task.max_length
    )
    lengths = {
        "before": spread(before),
        "after": spread(after),
        "histogram": table,
        "sample": None if sample is None else len(sample),  # None: every used row was counted
    }
    return kept.assign(cut=fitted.cut), _changed(texts, orders | fitted.cuts, pattern), lengths


def sample_rows(kept: pd.DataFrame, seed: int) -> np.ndarray:
    """Positions of SAMPLE used rows, drawn by `seed`, with at least one of each split and class; sorted, int64."""
    used = np.flatnonzero(kept["used"].to_numpy())
    drawn = np.random.default_rng(seed).choice(used, min(SAMPLE, len(used)), replace=False)
    groups = kept.iloc[used].groupby(["split", "label"]).indices.values()
    return np.union1d(drawn, used[[rows[0] for rows in groups]])


def may_be_longer(texts: Texts, bound: TokenBound, room: int, control_tokens: Sequence[str]) -> np.ndarray:
    """Whether each text may have more than `room` tokens: bool.

    Where the tokenizer or the neutralising of control tokens may change a text (one that is not in NFC, one that holds
    the first character of a control token), it may be longer whatever `bound` says.
    """
    first = re.compile("[" + re.escape("".join({token[0] for token in (*KNOWN_CONTROL_TOKENS, *control_tokens)})) + "]")
    found = [np.empty(0, bool)]
    for piece in texts.pieces():
        odd = [not unicodedata.is_normalized("NFC", text) or bool(first.search(text)) for text in piece]
        found.append(np.array(odd, bool) | (bound.most_tokens(piece) > room))
    return np.concatenate(found)


def _replaced(column: pd.Series, reviews: Mapping[int, str]) -> pd.Series:
    """The column with those of its texts replaced that `reviews` names by position."""
    if not reviews:
        return column
    result = column.copy()
    result.iloc[list(reviews)] = list(reviews.values())
    return result


def _changed(texts: Texts, changed: Mapping[int, str], pattern: re.Pattern[str]) -> dict[int, str]:
    """The reviews, by position, that stand in `changed` or that the neutralising of control tokens changes."""
    found = dict(changed)
    for at, text in enumerate(texts):
        if pattern.search(text):
            found[at] = neutralise(found.get(at, text), pattern)
    return found


def characters(kept: pd.DataFrame, words: Sequence[str]) -> dict[str, Any]:
    """The spread of the used rows' characters, whole and by split and class, with a histogram."""
    used = kept["used"].to_numpy()
    lengths = kept["text"].str.len().to_numpy()[used]
    return spread(lengths) | {"histogram": length_table(lengths, kept["split"][used], kept["label"][used], words)}
