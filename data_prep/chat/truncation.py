"""Reviews cut so that the whole chat fits in `max_length` tokens: ms-swift would drop the row or cut the answer."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.chat.columns import prompt_texts
from data_prep.chat.parts import SEPARATOR, level
from data_prep.chat.prompt import KNOWN_CONTROL_TOKENS, chat_text, control_pattern, neutralise
from data_prep.chat.token_bound import TokenBound
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.manifest import TokenLengths
from data_prep.statistics import length_histogram, spread
from data_prep.table.text_column import Texts, texts_at
from data_prep.task import Task
from workspace.errors import UserError

GAP = "……"  # in place of the middle of a review that was cut out
SLACK = 4  # tokens: a cut this close to the limit is not refined
COUNT_ALL = 100_000  # rows up to which every chat's tokens are counted
SAMPLE = 50_000  # rows of a larger table whose tokens are counted for the spread of lengths


class Fitted(NamedTuple):
    """The reviews that were cut, by position, as they go into the prompt; whether each review was cut (bool); and the
    tokens of each whole chat before and after (int64), -1 for one that was not counted."""

    cuts: dict[int, str]
    cut: np.ndarray
    tokens_before: np.ndarray
    tokens: np.ndarray


def cut_text(review: str, keep: int, keep_head: float) -> str:
    """`review` with `keep` of its characters, the share `keep_head` from its beginning and the rest from its end.

    Of several columns (data_prep.chat.parts) the short ones stay whole and the longest are cut.
    """
    if keep >= len(review):
        return review
    if SEPARATOR in review:
        parts = review.split(SEPARATOR)
        most = level([len(part) for part in parts], keep)
        return SEPARATOR.join(cut_text(part, most, keep_head) for part in parts)
    head = round(keep * keep_head)
    tail = keep - head
    return review[:head] + GAP + (review[-tail:] if tail else "")


def fit_reviews(
    reviews: Sequence[str],
    chat: Callable[[str], str],
    tokenizer: ModelTokenizer,
    max_length: int,
    keep_head: float,
    counted: np.ndarray | None = None,
) -> Fitted:
    """Cut every review whose chat has more than `max_length` tokens; question and answer stay whole.

    `chat` makes the whole text of a row from a review. `counted` are the positions of the reviews to count, in order;
    the others are known to fit. Each result is counted, so none is longer than `max_length`.
    Raises UserError when the chat is too long even without a review.
    """
    chosen = np.arange(len(reviews)) if counted is None else counted
    before = np.full(len(reviews), -1, np.int64)
    before[chosen] = tokenizer.count((chat(review) for review in texts_at(reviews, chosen)), len(chosen))
    long = np.flatnonzero(before > max_length)
    if not len(long):
        return Fitted({}, np.zeros(len(reviews), bool), before, before)
    smallest = len(tokenizer.ids(chat(SEPARATOR.join([GAP] * (reviews[int(long[0])].count(SEPARATOR) + 1)))))
    if smallest > max_length:
        raise UserError(
            f"system, prompt and answer take {smallest} tokens without a review, more than max_length = {max_length}: "
            "raise max_length or shorten the prompt"
        )
    whole, tokens = list(texts_at(reviews, long)), before.copy()
    # fits: characters that are known to fit, and with how many tokens; over: a number known not to.
    fits, fits_tokens = np.zeros(len(long), np.int64), np.full(len(long), smallest)
    over = np.array([len(review) for review in whole])
    over_tokens = before[long].astype(float)
    open_ = np.flatnonzero(over > 1)
    halve = False
    while len(open_):
        # Interpolate: tokens grow about evenly with characters. Every second step halves, lest one end never move.
        slope = (over[open_] - fits[open_]) / np.maximum(over_tokens[open_] - fits_tokens[open_], 1)
        step = (over[open_] - fits[open_]) / 2 if halve else slope * (max_length - SLACK / 2 - fits_tokens[open_])
        keep = np.clip(fits[open_] + step.astype(np.int64), fits[open_] + 1, over[open_] - 1)
        texts = (chat(cut_text(whole[at], int(k), keep_head)) for at, k in zip(open_, keep, strict=True))
        counted = tokenizer.count(texts, len(open_))
        good = (counted <= max_length) & (keep > fits[open_])
        fits[open_[good]], fits_tokens[open_[good]] = keep[good], counted[good]
        over[open_[~good]], over_tokens[open_[~good]] = keep[~good], counted[~good]
        open_ = open_[(over[open_] - fits[open_] > 1) & (max_length - fits_tokens[open_] > SLACK)]
        halve = not halve
    cuts = {int(row): cut_text(whole[at], int(fits[at]), keep_head) for at, row in enumerate(long)}
    tokens[long] = fits_tokens
    return Fitted(cuts, before > max_length, before, tokens)


def fit_frame(
    kept: pd.DataFrame, task: Task, tokenizer: ModelTokenizer | None, injected: Mapping[int, str]
) -> tuple[pd.DataFrame, dict[int, str], TokenLengths | None]:
    """`kept` with the column cut; the reviews, by position, that differ in the prompt from the table: as in `injected`,
    cut, or with control tokens neutralised; the spread of the tokens of the used rows' chats before and after cutting.

    Without a tokenizer nothing is counted or cut, and the spread is None. Of a large table the spread is that of a
    sample; which rows must be cut is looked up for every used row.
    """
    pattern = control_pattern(tokenizer.control_tokens if tokenizer else ())
    column = prompt_texts(kept)
    if injected:
        column = column.copy()
        column.iloc[list(injected)] = list(injected.values())
    texts, used = Texts(column), np.flatnonzero(kept["used"].to_numpy())  # rows that a limit leaves out are not shown
    if tokenizer is None:
        return kept.assign(cut=False), _changed(texts, used, injected, pattern), None
    # One answer for all rows, so that a row's cut does not give its label away.
    longest = max(task.label_words, key=lambda word: len(tokenizer.ids(word)))

    def chat(review: str) -> str:
        return chat_text(task, neutralise(review, pattern), longest)

    bound = tokenizer.bound() if len(used) > COUNT_ALL else None
    sample, counted = None, used
    if bound:
        sample = sample_rows(kept, task.split.seed)
        room = bound.room(chat(""), task.max_length, len(task.columns.places))
        longer = may_be_longer(texts.at(used), bound, room, tokenizer.control_tokens)
        counted = np.union1d(used[longer], sample)
    fitted = fit_reviews(texts, chat, tokenizer, task.max_length, task.keep_head, counted)
    looked_at = used if sample is None else sample
    before, after = fitted.tokens_before[looked_at], fitted.tokens[looked_at]
    splits, labels = kept["split"].iloc[looked_at], kept["label"].iloc[looked_at]
    lengths = TokenLengths(
        before=spread(before),
        after=spread(after),
        histogram=length_histogram(before, splits, labels, task.label_words, task.max_length),
        sample=None if sample is None else len(sample),
    )
    return kept.assign(cut=fitted.cut), _changed(texts, used, {**injected, **fitted.cuts}, pattern), lengths


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
    longer = [np.empty(0, bool)]
    for piece in texts.pieces():
        odd = [not unicodedata.is_normalized("NFC", text) or bool(first.search(text)) for text in piece]
        longer.append(np.array(odd, bool) | (bound.most_tokens(piece) > room))
    return np.concatenate(longer)


def _changed(texts: Texts, used: np.ndarray, changed: Mapping[int, str], pattern: re.Pattern[str]) -> dict[int, str]:
    """The reviews, by position, that are in `changed`, or among the `used` and changed by neutralising control
    tokens."""
    reviews = dict(changed)
    for at, text in zip(used.tolist(), texts.at(used), strict=True):
        if pattern.search(text):
            reviews[at] = neutralise(reviews.get(at, text), pattern)
    return reviews
