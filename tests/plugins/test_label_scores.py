"""The label-score plugin against plain forward passes of transformers."""

import math
from types import SimpleNamespace

import pytest
import torch

from plugins.score_lines import ScoreFile, ScoreLine, chat_sha256, tokens_sha256
from tests.tiny_models import random_model
from workspace.files import read_jsonl

pytestmark = pytest.mark.swift  # the plugin imports ms-swift

ONE_TOKEN = [[7], [11]]
SEVERAL = [[7, 9], [11]]
SHARED_FIRST = [[7, 9, 4], [7, 5], [11]]
ROWS, SHORTEST, LONGEST, VOCABULARY = 20, 3, 40, 50
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model():
    return random_model("qwen2", VOCABULARY)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.linspace(SHORTEST, LONGEST, ROWS).int().tolist()
    return [torch.randint(12, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def plain(model, prompt: list[int], word: list[int]) -> float:
    """log P(word | prompt) by one forward pass over prompt and word, no cache and no padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + word])).logits[0].double()
    steps = torch.log_softmax(logits, -1)
    return sum(steps[len(prompt) - 1 + i, token].item() for i, token in enumerate(word))


@pytest.mark.parametrize("words", [ONE_TOKEN, SEVERAL, SHARED_FIRST], ids=["one-token", "several", "shared-first"])
@pytest.mark.parametrize("batch", [1, 7, ROWS], ids=["not-padded", "padded", "one-batch"])
def test_scores_equal_a_plain_forward_pass(model, prompts, words, batch) -> None:
    from plugins.word_scores import pad_left, score_words

    for start in range(0, ROWS, batch):
        part = prompts[start : start + batch]
        with torch.inference_mode():
            scores, _ = score_words(model, *pad_left(part, 0, "cpu"), words)
        for prompt, row in zip(part, scores.tolist(), strict=True):
            for word, score in zip(words, row, strict=True):
                assert abs(math.exp(score) - math.exp(plain(model, prompt, word))) < TOLERANCE
                assert score == pytest.approx(plain(model, prompt, word), abs=1e-3)


@pytest.mark.parametrize("words", [ONE_TOKEN, SHARED_FIRST], ids=["one-token", "shared-first"])
def test_scores_after_a_shared_beginning_are_the_same(model, prompts, words) -> None:
    """The few-shot path: the beginning of all prompts is run once and copied."""
    import copy

    from plugins.word_scores import pad_left, score_words, shared_prefix

    beginning = list(range(12, 32))
    whole = [beginning + prompt for prompt in prompts]
    prefix = shared_prefix(whole)
    assert prefix[:20] == beginning
    with torch.inference_mode():
        past = copy.deepcopy(model(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values)
        past.batch_repeat_interleave(ROWS)
        ids, mask = pad_left([prompt[len(prefix) :] for prompt in whole], 0, "cpu")
        scores, _ = score_words(model, ids, torch.cat([mask.new_ones(ROWS, len(prefix)), mask], 1), words, past)
    for prompt, row in zip(whole, scores.tolist(), strict=True):
        assert row == pytest.approx([plain(model, prompt, word) for word in words], abs=1e-3)


@pytest.mark.parametrize(("family", "less"), [("qwen2", True), ("qwen3", True), ("llama", True), ("lfm2", False)])
def test_the_last_mlp_computes_no_more_tokens_than_are_read(prompts, family: str, less: bool) -> None:
    from plugins.word_scores import pad_left, score_words

    model, seen = random_model(family, VOCABULARY), []
    last = model.get_decoder().layers[-1]
    projection = last.mlp.down_proj if hasattr(last, "mlp") else last.feed_forward.w2
    hook = projection.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].shape[1]))
    with torch.inference_mode():
        scores, cache = score_words(model, *pad_left(prompts, 0, "cpu"), SHARED_FIRST)
    hook.remove()
    for prompt, row in zip(prompts, scores.tolist(), strict=True):
        assert row == pytest.approx([plain(model, prompt, word) for word in SHARED_FIRST], abs=1e-3)
    assert (max(seen) < LONGEST) is less
    assert cache.get_seq_length() == LONGEST or not less


def test_the_cache_handed_on_is_the_prompts_alone(model, prompts) -> None:
    from plugins.word_scores import pad_left, score_words

    ids, mask = pad_left(prompts, 0, "cpu")
    with torch.inference_mode():
        _, cache = score_words(model, ids, mask, SHARED_FIRST)
    assert cache.get_seq_length() == LONGEST


def test_shared_prefix_leaves_every_prompt_its_last_token() -> None:
    from plugins.word_scores import shared_prefix

    assert shared_prefix([[1, 2, 3], [1, 2, 3, 4]]) == [1, 2]
    assert shared_prefix([[1, 2, 3], [1, 2, 3]]) == [1, 2]
    assert shared_prefix([[1], [2, 1]]) == []
    assert shared_prefix([[5, 6, 7], [5, 8, 7], [5, 6, 9]]) == [5]


class Words:
    """As much of a tokenizer as the plugin asks for."""

    eos_token_id, pad_token_id = 1, 0

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return {"good": [7, 9, 4], "bad": [11]}[text]

    def decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens))


class Template:
    """As much of ms-swift's template as the plugin asks for."""

    tokenizer = Words()

    def encode(self, row):
        return {"input_ids": row["input_ids"], "channel": row["channel"]}

    def data_collator(self, batch):
        from plugins.word_scores import pad_left

        ids, mask = pad_left([encoded["input_ids"] for encoded in batch], 0, "cpu")
        return {"input_ids": ids, "attention_mask": mask}

    def generate(self, model, *args, **kwargs):
        return model.generate(*args, **kwargs)


def encoded(template, prompts: list[list[int]], rows) -> list[dict]:
    """The rows with these numbers as ms-swift encodes them."""
    return [
        template.encode(
            {
                "messages": [{"role": "user", "content": f"question {row}"}],
                "channel": f"test/{row}",
                "input_ids": prompts[row],
            }
        )
        for row in rows
    ]


def score_lines(path) -> list[ScoreLine]:
    return [line for row in read_jsonl(path) if (line := ScoreLine.read(row))]


# Keys and values of all tokens; sliding windows, which the longer prompts exceed, in some or all layers; a state.
@pytest.mark.parametrize("family", ["qwen2", "gemma3", "mistral", "lfm2"])
@pytest.mark.parametrize("beginning", [0, 12], ids=["nothing-shared", "shared-beginning"])
@pytest.mark.parametrize("mode", ["generate", "score"])
def test_a_batch_of_short_and_long_prompts_is_answered_as_each_alone(
    prompts, tmp_path, monkeypatch, family, beginning, mode
) -> None:
    """More rows than one pass takes: the caches of the passes are joined, each filled up to the longest."""
    from plugins import label_scores
    from plugins.label_scores import scoring_template

    model = random_model(family, VOCABULARY)
    monkeypatch.setattr(label_scores, "PASS_TOKENS", 64)  # several passes: 20 rows of 3 to 52 tokens
    asked = [list(range(12, 12 + beginning)) + prompt for prompt in prompts]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}

    def answers(batch: int, out: str) -> list[list[int]]:
        keys = [f"test/{row}" for row in range(ROWS)]
        settings = {"labels": ["good", "bad"], "modes": {mode: keys}, "out": str(tmp_path / out)}
        template = scoring_template(Template, ScoreFile(settings))()
        found = []
        for start in range(0, ROWS, batch):
            inputs = template.data_collator(encoded(template, asked, range(start, min(start + batch, ROWS))))
            with torch.inference_mode():
                sequences = template.generate(model, **inputs, return_dict_in_generate=True, **options)["sequences"]
            found += sequences[:, inputs["input_ids"].shape[1] :].tolist()
        return found

    def rstrip(tokens: list[int]) -> list[int]:
        return tokens[: max((i for i, token in enumerate(tokens) if token), default=-1) + 1]

    together, alone = answers(ROWS, "together"), answers(1, "alone")
    assert [rstrip(one) for one in together] == [rstrip(one) for one in alone]
    assert mode == "score" or len({tuple(one) for one in alone}) > 1
    lines = {line.key: line for line in score_lines(tmp_path / "together")}
    assert len(lines) == ROWS
    for row, prompt in enumerate(asked):
        line = lines[f"test/{row}"]
        assert line.chat_sha256 == chat_sha256([{"role": "user", "content": f"question {row}"}])
        assert (line.prompt_tokens, line.prompt_sha256) == (len(prompt), tokens_sha256(prompt))
        assert line.logprobs["good"] == pytest.approx(plain(model, prompt, [7, 9, 4]), abs=1e-3)
        assert line.logprobs["bad"] == pytest.approx(plain(model, prompt, [11]), abs=1e-3)


def test_a_longer_beginning_is_shared_after_a_shorter_one(model, prompts, tmp_path) -> None:
    """Few-shot examples after the system prompt that the batches before began with as well."""
    from plugins.label_scores import scoring_template

    keys = {"score": [f"test/{row}" for row in range(ROWS)]}
    template = scoring_template(
        Template, ScoreFile({"labels": ["good", "bad"], "modes": keys, "out": str(tmp_path / "out")})
    )()
    system, examples = list(range(12, 22)), [12 + place % 12 for place in range(5, 35)]
    shared = []
    for beginning in (system, system + examples, system):
        inputs = template.data_collator(encoded(template, [beginning + prompt for prompt in prompts], range(4)))
        with torch.inference_mode():
            template.generate(model, **inputs, return_dict_in_generate=True)
        shared.append(template.prefix[0])
    assert shared == [system, system + examples, system]


def test_examples_are_read_once_in_a_batch_that_rows_without_them_are_in_too(model, prompts, tmp_path) -> None:
    """The last rows with examples share a batch with the next purpose's first ones."""
    from plugins.label_scores import scoring_template

    examples, rows = [12 + place % 12 for place in range(60)], range(4)
    purposes = {"few_shot": examples, "val": [], "few_shot_2": examples[::-1]}
    asked = {f"{purpose}/{row}": first + prompts[row] for purpose, first in purposes.items() for row in rows}
    settings = {"labels": ["good", "bad"], "modes": {"score": list(asked)}, "out": str(tmp_path / "out")}
    template = scoring_template(Template, ScoreFile(settings))()
    chat = [{"role": "user", "content": "?"}]
    batch = [{"messages": chat, "channel": key, "input_ids": tokens} for key, tokens in asked.items()]
    inputs = template.data_collator([template.encode(one) for one in batch])
    read = []
    hook = model.register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    with torch.inference_mode():
        template.generate(model, **inputs, return_dict_in_generate=True)
    hook.remove()
    longest, along = max(len(prompts[row]) for row in rows), 2  # tokens of a label word that run along
    assert sum(read) <= 2 * len(examples) + 3 * len(rows) * (longest + along)
    for line in score_lines(tmp_path / "out"):
        assert line.logprobs["good"] == pytest.approx(plain(model, asked[line.key], [7, 9, 4]), abs=1e-3)


def test_rows_are_known_by_their_keys_in_whatever_order_and_mode_they_come(model, prompts, tmp_path) -> None:
    """Modes that take turns in a batch, in an order that the settings do not have."""
    from plugins.label_scores import scoring_template

    modes = {
        mode: [f"test/{row}" for row in range(at, ROWS, 3)] for at, mode in enumerate(("generate", "single", "score"))
    }
    template = scoring_template(
        Template, ScoreFile({"labels": ["good", "bad"], "modes": modes, "out": str(tmp_path / "out")})
    )()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2)).tolist()
    inputs = template.data_collator(encoded(template, prompts, order))
    options = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}
    with torch.inference_mode():
        template.generate(model, **inputs, return_dict_in_generate=True, **options)
    lines = {line.key: line for line in score_lines(tmp_path / "out")}
    assert len(lines) == ROWS
    for row, prompt in enumerate(prompts):
        line = lines[f"test/{row}"]
        assert line.prompt_sha256 == tokens_sha256(prompt)
        assert (line.generate_seconds is None) == (row % 3 == 2)
        assert line.logprobs["bad"] == pytest.approx(plain(model, prompt, [11]), abs=1e-3)


def test_a_batch_that_is_not_the_one_put_together_is_refused(model, prompts, tmp_path) -> None:
    from plugins.label_scores import scoring_template

    keys = [f"test/{row}" for row in range(ROWS)]
    settings = {"labels": ["good", "bad"], "modes": {"score": keys}, "out": str(tmp_path / "out")}
    template = scoring_template(Template, ScoreFile(settings))()
    first = template.data_collator(encoded(template, prompts, [0, 1]))
    template.data_collator(encoded(template, prompts, [2, 3]))
    with pytest.raises(ValueError, match="other rows"):
        template.generate(model, **first)
    with pytest.raises(ValueError, match="a row has no channel"):
        template.data_collator([{"input_ids": [1]}])
    assert not (tmp_path / "out").exists()


def test_why_an_answer_ended_is_told_by_its_end_token_not_by_its_length_alone() -> None:
    from plugins.label_scores import finish_reasons

    given = {"max_new_tokens": 3, "eos_token_id": [1, 5]}
    answers = {"stop": [[7, 9, 1], [7, 9, 5], [7, 1, 0]], "length": [[7, 9, 4]]}
    for reason, rows in answers.items():
        assert finish_reasons(rows, given, Words) == [reason] * len(rows)
    assert finish_reasons([[7, 9]], given, Words) == ["stop"]  # another criterion ended it before the limit


def test_the_line_of_a_generated_answer_says_why_it_ended_and_of_a_scored_one_nothing(model, prompts, tmp_path) -> None:
    from plugins.label_scores import scoring_template

    keys = [f"test/{row}" for row in range(ROWS)]
    modes = {"generate": keys[:10], "score": keys[10:]}
    template = scoring_template(
        Template, ScoreFile({"labels": ["good", "bad"], "modes": modes, "out": str(tmp_path / "out")})
    )()
    inputs = template.data_collator(encoded(template, prompts, range(ROWS)))
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}
    with torch.inference_mode():
        sequences = template.generate(model, **inputs, return_dict_in_generate=True, **options)["sequences"]
    answers = sequences[:10, inputs["input_ids"].shape[1] :].tolist()
    lines = {line.key: line for line in score_lines(tmp_path / "out")}
    for key, answer in zip(keys, answers, strict=False):
        assert lines[key].finish_reason == ("stop" if 1 in answer else "length")
    assert all(lines[key].finish_reason is None for key in keys[10:])


def test_the_clock_is_read_when_the_result_is_on_the_host(model, prompts, tmp_path, monkeypatch) -> None:
    """A GPU's kernels are only launched until then: here a result takes ten seconds to arrive, and no time before."""
    from plugins import label_scores

    now = [0.0]

    class OnCard(torch.Tensor):
        def cpu(self):
            now[0] += 10.0
            return self.as_subclass(torch.Tensor)

        def tolist(self):
            return self.cpu().tolist()

    def launched(*args):
        found, cache = score_words(*args)
        return found.as_subclass(OnCard), cache

    score_words = label_scores.score_words
    monkeypatch.setattr(label_scores, "score_words", launched)
    monkeypatch.setattr(label_scores, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    keys = [f"test/{row}" for row in range(ROWS)]
    modes = {"generate": keys[:10], "score": keys[10:]}
    template = label_scores.scoring_template(
        Template, ScoreFile({"labels": ["good", "bad"], "modes": modes, "out": str(tmp_path / "out")})
    )()
    inputs = template.data_collator(encoded(template, prompts, range(ROWS)))
    with torch.inference_mode():
        template.generate(model, **inputs, return_dict_in_generate=True, max_new_tokens=2, do_sample=False)
    seconds = {line.key: line.score_seconds for line in score_lines(tmp_path / "out")}
    assert [seconds[key] for key in keys] == pytest.approx([10.0 / 10] * ROWS)
