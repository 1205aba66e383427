"""By how much a row alone and in a batch differ, by dtype, on the demo's model: what eval.inference.journal allows."""

from pathlib import Path
from typing import Any

import pytest
import torch

from eval.inference.journal import TOLERANCES, Completion, tolerance
from eval.inference.summary import BatchCheck
from plugins.score_lines import ScoreLine

pytestmark = pytest.mark.torch

PARTS = (
    "房间很干净，",
    "前台态度冷淡，等了半小时，",
    "早餐一般，",
    "位置方便，出门就是地铁，",
    "空调太吵，",
    "下次还会来。",
)
# Few and short: a CPU without half precision in hardware takes seconds for each.
REVIEWS = ["".join(PARTS[(at + step) % len(PARTS)] for step in range(1 + 2 * at)) for at in range(4)]


@pytest.fixture(scope="module", params=TOLERANCES)
def scored(request, demo_model: Path) -> tuple[str, Any]:
    """A dtype, and a function from a batch's size, and whether its padding is read, to log probabilities [rows, 2]."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from plugins.word_scores import pad_left, score_words
    from plugins.word_tree import word_tokens

    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    model = AutoModelForCausalLM.from_pretrained(demo_model, dtype=getattr(torch, request.param)).eval()
    words = word_tokens(tokenizer, ("正面", "负面"))
    asked = [f"<|im_start|>user\n{one} 这条评论是正面还是负面？<|im_end|>\n<|im_start|>assistant\n" for one in REVIEWS]
    prompts = [tokenizer(one, add_special_tokens=False).input_ids for one in asked]

    def score(batch: int, padding_is_read: bool = False) -> torch.Tensor:
        found = []
        with torch.inference_mode():
            for start in range(0, len(prompts), batch):
                ids, mask = pad_left(prompts[start : start + batch], tokenizer.pad_token_id, "cpu")
                mask = torch.ones_like(mask) if padding_is_read else mask
                found.append(score_words(model, ids, mask, words)[0])
        return torch.cat(found)

    return request.param, score


def test_rounding_stays_within_what_is_allowed_and_a_fault_does_not(scored: tuple[str, Any]) -> None:
    """With float32's tolerance every report from a GPU said that its batches were wrong."""
    dtype, score = scored
    alone, together = score(1), score(len(REVIEWS))
    rounding = float((alone - together).abs().max())
    fault = float((alone - score(len(REVIEWS), padding_is_read=True)).abs().max())
    print(f"{dtype}: {rounding:.2g} by rounding, {fault:.2g} where padding is read, {tolerance(dtype):g} allowed")
    assert rounding <= tolerance(dtype) < fault
    if dtype != "float32":
        assert rounding > TOLERANCES["float32"]


@pytest.mark.parametrize(
    ("dtype", "apart", "text", "ok"),
    [
        ("float32", 0.0005, "正面", True),
        ("float32", 0.0005, "正", False),
        ("float32", 0.02, "正面", False),
        ("float16", 0.02, "正", True),
        ("float16", 0.2, "正面", False),
        ("bfloat16", 0.2, "正", True),
        ("bfloat16", 1.0, "正面", False),
    ],
)
def test_the_check_of_a_run_allows_what_its_dtype_rounds_by(dtype: str, apart: float, text: str, ok: bool) -> None:
    from eval.inference.prompts import Prompt

    def answered(purpose: str, said: str, logprob: float) -> tuple[Prompt, Completion]:
        prompt = Prompt(purpose, "1", "正面", False, ({"role": "user", "content": "好"},))
        scores = {"正面": logprob, "负面": -2.0}
        return prompt, Completion(said, ScoreLine(prompt.key, "a", "b", 5, 0.1, 0.2, scores))

    pairs = [answered("test", "正面", -1.0), answered("parity", text, -1.0 - apart)]
    check = BatchCheck.of(pairs, dtype)
    assert (check.ok, check.dtype, check.same_text) == (ok, dtype, int(text == "正面"))
    one, other = (completion for _, completion in pairs)
    assert one.same_as(other, dtype) is ok
