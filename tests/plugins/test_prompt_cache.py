"""Scores from caches of any kind against plain forward passes over prompt and word."""

import pytest
import torch

from tests.tiny_models import CAUSAL, random_model

pytestmark = pytest.mark.torch

WORDS = [[7, 9, 4], [7, 5], [11], [6, 8]]
VOCABULARY = 50


def plain(model, prompt: list[int], word: list[int]) -> float:
    """log P(word | prompt) by one forward pass over prompt and word, no cache and no padding."""
    with torch.no_grad():
        steps = torch.log_softmax(model(input_ids=torch.tensor([prompt + word])).logits[0].double(), -1)
    return sum(steps[len(prompt) - 1 + i, token].item() for i, token in enumerate(word))


@pytest.mark.parametrize("family", sorted(CAUSAL))
def test_every_family_is_scored_as_by_plain_passes(family):
    """Prompts shorter and longer than a sliding window, padded, and the cache that is handed on."""
    from plugins.word_scores import pad_left, score_words

    model = random_model(family, VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(12, VOCABULARY, (n,), generator=generator).tolist() for n in (3, 9, 20)]
    for part in (prompts, prompts[2:]):
        with torch.inference_mode():
            scores, cache = score_words(model, *pad_left(part, 0, "cpu"), WORDS)
        assert cache.get_seq_length() == 20
        for prompt, row in zip(part, scores.tolist(), strict=True):
            assert row == pytest.approx([plain(model, prompt, word) for word in WORDS], abs=1e-3)


@pytest.mark.parametrize("family", sorted(CAUSAL))
def test_a_cache_goes_on_as_often_as_asked(family):
    from plugins.prompt_cache import continued, new_cache

    model = random_model(family, VOCABULARY)
    prompt, more = torch.arange(12, 32)[None], torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        cache = model(input_ids=prompt, past_key_values=new_cache(model), use_cache=True).past_key_values
        answers = []
        for _ in range(2):
            with continued(cache, 3) as branch:
                answers.append(model(input_ids=more, past_key_values=branch, use_cache=True).logits)
        whole = model(input_ids=torch.cat([prompt, more], 1)).logits[:, -3:]
    assert cache.get_seq_length() == 20
    for answer in answers:
        assert torch.allclose(answer, whole, atol=1e-4)
