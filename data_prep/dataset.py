"""The steps between a table and the rows of a dataset: usable rows, their groups, their splits, their prompts.

All steps pass on one frame, a line a usable row in the table's order, and add columns to it: row, line, text, label;
normalised, group; split, used; shown (the review as it stands in the prompt), cut.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.checking import Checked, check_rows, set_aside_conflicts, stop_if_class_is_gone, stop_if_too_many
from data_prep.histogram import length_table
from data_prep.lengths import fit_reviews
from data_prep.manifest import spread
from data_prep.prompt import chat_text, control_pattern, neutralise
from data_prep.reading import Table
from data_prep.repeats import Leaks, Normaliser, conflicting, find_leaks, find_repeats, first_of, group_counts, join
from data_prep.splitting import row_draws, split_rows, take_limit
from data_prep.task import Task
from data_prep.tokenizer import ModelTokenizer
from workspace.errors import UserError

GATE_ROUNDS = 5


def usable_rows(table: Table, task: Task) -> tuple[Checked, dict[str, Any]]:
    """The rows that can be used, with normalised and group; and what was found repeated in the table.

    Raises UserError when too many rows, or all of a class, cannot be used.
    """
    checked = check_rows(table, task)
    stop_if_too_many(table, task, checked.rejects)
    labels = checked.kept["label"].to_numpy()
    normalised = Normaliser().normalise(checked.kept["text"].tolist())
    repeats = find_repeats(normalised, task.near_duplicates, task.split.seed)
    contested = conflicting(repeats.exact, labels)
    found = {
        "exact": group_counts(repeats.exact),
        "near": group_counts(repeats.near),
        "conflicting_exact": group_counts(repeats.exact[contested]),
        "conflicting_near": group_counts(repeats.near[conflicting(repeats.near, labels)]),
    }
    kept = checked.kept.assign(normalised=pd.Series(normalised, dtype="str"), group=repeats.near)
    checked = Checked(kept, checked.rejects)
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
    normalised, labels = kept["normalised"].tolist(), kept["label"].to_numpy(dtype=object)
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
        used = take_limit(splits, labels, draws[:, 1], task.label_words, task.limit)
    return kept.assign(split=splits, used=used), leaks


def fit_frame(
    kept: pd.DataFrame, task: Task, tokenizer: ModelTokenizer | None
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """`kept` with shown and cut, and the spread of the tokens of the used rows' chats before and after cutting.

    Control tokens are neutralised in `shown`. Without a tokenizer nothing is counted or cut, and the spread is None.
    """
    pattern = control_pattern(tokenizer.control_tokens if tokenizer else ())
    texts = kept["text"].tolist()
    if tokenizer is None:
        return kept.assign(shown=[neutralise(text, pattern) for text in texts], cut=False), None
    # One answer for all rows, so that a row's cut does not tell its label.
    longest = max(task.label_words, key=lambda word: len(tokenizer.ids(word)))
    fitted = fit_reviews(
        texts,
        lambda review: chat_text(task, neutralise(review, pattern), longest),
        tokenizer,
        task.max_length,
        task.keep_head,
    )
    used = kept["used"].to_numpy()
    before = fitted.tokens_before[used]
    table = length_table(before, kept["split"][used], kept["label"][used], task.label_words, task.max_length)
    lengths = {"before": spread(before), "after": spread(fitted.tokens[used]), "histogram": table}
    return kept.assign(shown=[neutralise(text, pattern) for text in fitted.reviews], cut=fitted.cut), lengths


def characters(kept: pd.DataFrame, words: Sequence[str]) -> dict[str, Any]:
    """The spread of the used rows' characters, whole and by split and class, with a histogram."""
    used = kept["used"].to_numpy()
    lengths = kept["text"].str.len().to_numpy()[used]
    return spread(lengths) | {"histogram": length_table(lengths, kept["split"][used], kept["label"][used], words)}
