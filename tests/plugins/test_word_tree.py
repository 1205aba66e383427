"""One definition of a label's probability: scoring by a tree, training's metric and plain passes agree.

Words of one to six tokens, words that begin others, 2, 77 and 200 classes, with and without masks for the tree.
"""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.swift  # label_metric imports ms-swift

VOCABULARY, END, ROWS = 60, 0, 4
TOLERANCE = 1e-3  # of a log probability; of a probability it is smaller still
IGNORED = -100


def words_of(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Words of one to six tokens over a few tokens: many begin like others, some begin others."""
    rng = random.Random(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        found[tuple(rng.randint(1, 11) for _ in range(rng.randint(1, 6)))] = None
    return list(found)


NESTED = [(7,), (7, 9), (7, 9, 4, 3), (7, 5, 5), (11, 2)]
SETS = {"two": [(7,), (11,)], "nested": NESTED, "77": words_of(77), "200": words_of(200)}


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.5, attn_implementation=request.param,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(12, VOCABULARY, (4 + 7 * row,), generator=generator).tolist() for row in range(ROWS)]


PLAIN: dict[tuple[str, str], np.ndarray] = {}


def definition(model, prompts, name: str) -> np.ndarray:
    """`plain` for one of SETS, computed once."""
    key = (model.config._attn_implementation, name)
    if key not in PLAIN:
        PLAIN[key] = plain(model, prompts, SETS[name])
    return PLAIN[key]


def plain(model, prompts, words) -> np.ndarray:
    """[rows, words] log P* as word_tree.py defines it, each word with the prompt before it."""
    found = []
    for prompt in prompts:
        filled = [[*prompt, *word, *[END] * (6 - len(word))] for word in words]  # what follows a token changes nothing
        with torch.no_grad():
            steps = torch.log_softmax(model(input_ids=torch.tensor(filled)).logits[:, len(prompt) - 1 :].double(), -1)
        own = {
            word: math.exp(sum(steps[row, at, token].item() for at, token in enumerate(word)))
            for row, word in enumerate(words)
        }
        shares = []
        for word in words:
            longer = [other for other in words if other != word and other[: len(word)] == word]
            shortest = [one for one in longer if not any(one != other == one[: len(other)] for other in longer)]
            shares.append(own[word] - sum(own[one] for one in shortest))
        found.append([math.log(max(share, 1e-30)) for share in shares])
    return np.array(found)


@pytest.mark.parametrize("name", SETS)
def test_scores_over_the_tree_are_the_definition(model, prompts, name, monkeypatch) -> None:
    from plugins import word_scores

    words = SETS[name]
    expected = definition(model, prompts, name)
    for logits in (word_scores.LOGITS, 40 * VOCABULARY):  # the tree in one pass, and in several
        monkeypatch.setattr(word_scores, "LOGITS", logits)
        with torch.inference_mode():
            scores, cache = word_scores.score_words(model, *word_scores.pad_left(prompts, END, "cpu"), words)
        assert np.abs(scores.numpy() - expected).max() < TOLERANCE
        assert cache.get_seq_length() == max(map(len, prompts))
    monkeypatch.setattr(word_scores, "sees_branches", lambda _: False)  # as for attention that takes no such mask
    with torch.inference_mode():
        scores, _ = word_scores.score_words(model, *word_scores.pad_left(prompts, END, "cpu"), words)
    assert np.abs(scores.numpy() - expected).max() < TOLERANCE


@pytest.mark.parametrize("name", SETS)
def test_every_head_is_computed_at_most_twice_and_the_prompt_once(model, prompts, name) -> None:
    """Cost: tokens that go through the model beyond the prompts', and passes, whatever the number of classes."""
    from word_tree import WordTree

    from plugins.word_scores import pad_left, score_words

    passes: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, ids, __: passes.append(ids[0].shape[1]))
    try:
        with torch.inference_mode():
            score_words(model, *pad_left(prompts, END, "cpu"), SETS[name])
    finally:
        hook.remove()
    tree = WordTree.of(SETS[name])
    assert len(passes) <= 2
    assert sum(passes) <= max(map(len, prompts)) + len(tree.heads) + len(tree.deepest())


@pytest.mark.parametrize("name", SETS)
def test_trainings_metric_chooses_what_scoring_chooses(model, prompts, name, tmp_path) -> None:
    from plugins.label_metric import LabelMetrics, macro_f1

    words = SETS[name]
    rng = random.Random(4)
    gold = [rng.randrange(len(words)) for _ in prompts]
    answers = [[*words[at], END] for at in gold]
    data = [
        {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    others = [{"input_ids": [13, *word, END], "labels": [IGNORED, *word, END]} for word in words]
    trainer = SimpleNamespace(
        train_dataset=others,
        eval_dataset=data,
        model=model,
        args=SimpleNamespace(device="cpu", output_dir=str(tmp_path)),
        processing_class=SimpleNamespace(pad_token_id=END, eos_token_id=END, added_tokens_decoder={}),
        is_world_process_zero=lambda: True,
    )
    metric = LabelMetrics(trainer.args, trainer)
    predictions = []
    for row in data:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits
        predictions.append(metric.preprocess_logits_for_metrics(logits, torch.tensor([row["labels"]])).numpy())
    found = np.concatenate(predictions)
    order = [metric.tree.words.index(word) for word in words]
    expected = definition(model, prompts, name)
    assert (found[:, :-1][:, order] >= expected - TOLERANCE)[~np.isneginf(found[:, :-1][:, order])].all()
    exact = metric.exact_scores(np.arange(len(data)))[:, order]
    assert np.abs(exact - expected).max() < TOLERANCE
    result = metric.compute_metrics(SimpleNamespace(predictions=found, label_ids=None))
    best = expected.argmax(-1)
    assert result["label_accuracy"] == pytest.approx(np.mean(best == gold))
    assert result["label_macro_f1"] == pytest.approx(macro_f1(np.array(gold), best))


def test_a_word_that_begins_another_keeps_what_the_longer_one_does_not_take(model, prompts) -> None:
    from plugins.word_scores import pad_left, score_words

    with torch.inference_mode():
        alone, _ = score_words(model, *pad_left(prompts, END, "cpu"), [(7,), (11,)])
        both, _ = score_words(model, *pad_left(prompts, END, "cpu"), [(7,), (7, 9), (11,)])
    assert torch.allclose(alone[:, 0].exp(), both[:, 0].exp() + both[:, 1].exp(), atol=1e-5)
    assert torch.allclose(alone[:, 1], both[:, 2], atol=TOLERANCE)  # another class changes nothing of a third


def test_words_of_the_same_tokens_are_refused() -> None:
    from word_tree import WordTree

    for words in ([(1, 2), (1, 2)], [(1,), ()]):
        with pytest.raises(ValueError, match="the same tokens, or one has none"):
            WordTree.of(words)


def test_an_answer_ends_before_the_first_token_that_ends_a_turn() -> None:
    from plugins.label_metric import without_end

    special = {9: SimpleNamespace(special=True), 8: SimpleNamespace(special=False)}
    tokenizer = SimpleNamespace(eos_token_id=1, added_tokens_decoder=special)
    assert without_end((5, 8, 9, 3), tokenizer) == (5, 8)
    assert without_end((5, 1), tokenizer) == (5,)
