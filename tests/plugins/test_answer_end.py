"""An answer is ended when it is decided or repeats itself, and what is kept of it reads as the whole answer would."""

import pytest
import torch

from eval.scoring.parse import parse_answer

pytestmark = pytest.mark.swift  # the plugin imports transformers

LABELS = ["正面", "负面", "正面偏中"]


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("正面。这条", True),
        ("“正面”。\n因为", True),
        ("**负面**\n\n理由", True),
        ("正面偏中！房", True),
        ("正面。", False),  # it may be all there is: the bare label word
        ("正面", False),
        ("正面评价。这条", False),
        ("负面：房间太小。还", False),
        ("这条评论是正面的。它", False),  # the parser weighs what else is said
        ("不是正面。这", False),
    ],
)
def test_an_answer_is_decided_once_its_first_sentence_is_the_label_word_alone(text: str, ended: bool) -> None:
    from plugins.answer_end import decided

    assert decided(text, LABELS) is ended
    if ended:
        parsed = parse_answer(text, LABELS)
        assert parsed.label in LABELS and not parsed.strict  # the model went on: no bare label word


def test_only_a_sequence_that_comes_three_times_to_the_end_is_a_repetition() -> None:
    from plugins.answer_end import REPEATED, repeats

    assert repeats([1] * REPEATED)
    assert repeats([9, 9, *[1, 2, 3] * 8])
    assert repeats([5, *range(8), *range(8), *range(8)])
    assert not repeats([*range(8), *range(8), *range(8), 99])
    assert not repeats([1] * (REPEATED - 1))
    assert not repeats(list(range(60)))


class Characters:
    """A tokenizer with a token for each character."""

    eos_token_id, pad_token_id = 1, 0

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(one) for one in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


def test_each_row_of_a_batch_ends_by_itself_and_says_why() -> None:
    """What a row says does not depend on the others: the batch makes no difference."""
    from plugins.answer_end import AnswerEnd

    texts = [
        "正面。因为这里的房间很大" + "，窗户朝南" * 4,
        "好" * 40,
        "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未",
    ]
    rows = [[7, 7, 7, *Characters().encode(text)[:28]] for text in texts]
    stopped = [*rows[0][:5], 1, *[0] * 25]  # ended by the model
    end = AnswerEnd(Characters(), LABELS, 3, 4)
    seen = {}
    for length in range(4, 32):
        done = end(torch.tensor([row[:length] for row in [*rows, stopped]]), None).tolist()
        for row, is_done in enumerate(done):
            if is_done:
                seen.setdefault(row, length - 3)
    assert end.reasons == ["decided", "repeats", None, None]
    assert seen == {0: 4, 1: 24}
