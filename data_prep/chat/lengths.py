"""Reviews cut so that the whole chat fits in `max_length` tokens: ms-swift would drop the row or cut the answer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.table.text_column import texts_at
from workspace.errors import UserError

GAP = "……"  # stands where the middle of a review was cut out
SLACK = 4  # tokens: a cut this close to the limit is not refined


class Fitted(NamedTuple):
    """The reviews that were cut, by position, as they go into the prompt; whether each review was cut (bool); and the
    tokens of each whole chat before and after (int64), -1 for one that was not counted."""

    cuts: dict[int, str]
    cut: np.ndarray
    tokens_before: np.ndarray
    tokens: np.ndarray


def cut_text(review: str, keep: int, keep_head: float) -> str:
    """`review` with `keep` of its characters, the share `keep_head` from its beginning and the rest from its end."""
    if keep >= len(review):
        return review
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
    smallest = len(tokenizer.ids(chat(GAP)))
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
