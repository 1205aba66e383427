"""The validation metric of the real labels, against scoring every word outright."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.swift

WORDS = [(7, 9, 0), (11, 0), (7, 5, 0)]
IGNORED = -100


@pytest.fixture(scope="module")
def model():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.6,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def rows(count: int) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for index in range(count):
        prompt = torch.randint(12, 40, (4 + index % 9,), generator=generator).tolist()
        word = list(WORDS[index % len(WORDS)])
        made.append({"input_ids": prompt + word, "labels": [IGNORED] * len(prompt) + word})
    return made


def outright(model, row: dict[str, list[int]]) -> int:
    """The index of the most probable word, every word run in full."""
    prompt = row["input_ids"][: row["labels"].index(next(t for t in row["labels"] if t != IGNORED))]
    scores = []
    for word in sorted(WORDS):
        with torch.no_grad():
            steps = torch.log_softmax(model(input_ids=torch.tensor([prompt + list(word)])).logits[0], -1)
        scores.append(sum(steps[len(prompt) - 1 + i, token].item() for i, token in enumerate(word[:-1])))
    return int(np.argmax(scores))


def padded(model, batch: list[dict[str, list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a batch, a row each."""
    width = max(len(row["labels"]) for row in batch)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
    gold = torch.tensor([row["labels"] + [IGNORED] * (width - len(row["labels"])) for row in batch])
    return model(input_ids=ids).logits, gold


def flattened(model, batch: list[dict[str, list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a batch in one row, as ms-swift makes it with `padding_free`: no more than the answers."""
    ids = torch.tensor([[token for row in batch for token in row["input_ids"]]])
    places = torch.tensor([[place for row in batch for place in range(len(row["input_ids"]))]])
    gold = torch.tensor([token for row in batch for token in row["labels"]])
    counted = gold != IGNORED
    kept = torch.cat([counted[1:], torch.tensor([True])])
    logits = model(input_ids=ids, position_ids=places, use_cache=False, logits_to_keep=kept).logits
    return logits, torch.cat([torch.tensor([IGNORED]), gold[counted]])[None]


@pytest.mark.parametrize("batches", [padded, flattened])
def test_accuracy_and_macro_f1_equal_scoring_every_word(model, tmp_path, batches) -> None:
    from sklearn.metrics import f1_score

    from plugins.label_metric import LabelMetrics, write_rows

    data = rows(45)
    trainer = SimpleNamespace(
        train_dataset=data[:20],
        eval_dataset=data,
        model=model,
        args=SimpleNamespace(device="cpu", output_dir=str(tmp_path)),
        processing_class=SimpleNamespace(pad_token_id=0, eos_token_id=0, added_tokens_decoder={}),
        is_world_process_zero=lambda: True,
    )
    metric = LabelMetrics(trainer.args, trainer)
    predictions = []
    for start in range(0, len(data), 8):
        with torch.no_grad():
            logits, gold = batches(model, data[start : start + 8])
        predictions.append(metric.preprocess_logits_for_metrics(logits, gold).numpy())
    result = metric.compute_metrics(SimpleNamespace(predictions=np.concatenate(predictions), label_ids=None))
    best = np.array([outright(model, row) for row in data])
    gold_codes = np.array([sorted(WORDS).index(tuple(t for t in row["labels"] if t != IGNORED)) for row in data])
    assert 0 < np.mean(best == gold_codes) < 1
    assert result["label_accuracy"] == pytest.approx(np.mean(best == gold_codes))
    assert result["label_macro_f1"] == pytest.approx(f1_score(gold_codes, best, average="macro"))
    import json

    write_rows(trainer)
    seen = json.loads((tmp_path / "label_metric.json").read_text())
    assert (seen["train_rows"], seen["val_rows"], len(seen["val_prompt_sha256"])) == (20, 45, 45)


@pytest.mark.parametrize(
    ("gold", "best", "again"),
    [
        ((7, 9), (11,), False),  # all of 11 stands where the answer begins
        ((7, 9), (7, 5), False),  # 5 after the 7 of both
        ((11,), (7, 9), True),  # what follows 7 is not known
        ((11,), (11, 3), True),  # 11 is the beginning of 11 3: neither's own is known
        ((7, 9), (11, 3), True),
    ],
)
def test_only_rows_whose_winner_the_bounds_leave_open_are_run_again(gold, best, again, monkeypatch) -> None:
    from plugins.label_metric import LabelMetrics
    from plugins.word_tree import WordTree

    words = sorted({(7, 9), (7, 5), (11,)} | ({(11, 3)} if best == (11, 3) else set()))
    metric = LabelMetrics(None, SimpleNamespace(eval_dataset=[0, 0]))
    metric.tree, asked = WordTree.of(words), []
    own, other = words.index(gold), words.index(best)
    bounds = np.full((2, len(words)), -9.0)
    bounds[:, own], bounds[0, other], bounds[1, other] = -2, -1, -3  # the second row's gold word has won
    monkeypatch.setattr(metric, "exact_scores", lambda rows: asked.extend(rows.tolist()) or bounds[rows])
    given = np.concatenate([bounds, np.full((2, 1), own)], 1)
    assert metric.compute_metrics(SimpleNamespace(predictions=given))["label_accuracy"] == 0.5
    assert asked == [0] * again


def test_macro_f1_is_that_of_the_report() -> None:
    from eval.scoring.metrics import classify
    from plugins.label_metric import macro_f1
    from tests.eval.scoring.test_metrics import ABSENT, WORDS

    for gold, predicted, expected in ABSENT:
        assert macro_f1(np.array(gold), np.array(predicted)) == pytest.approx(expected)
        words = [[WORDS[code] for code in codes] for codes in (gold, predicted)]
        assert classify(*words, WORDS[:3]).macro_f1 == pytest.approx(expected)


def test_answers_in_one_row_are_told_apart_and_others_refused() -> None:
    from plugins.label_metric import split_answers

    words = sorted([*WORDS, (7, 9)])
    assert split_answers([7, 9, 0, 11, 0, 7, 5, 0, 7, 9, 0], words) == [words.index(word) for word in (
        (7, 9, 0), (11, 0), (7, 5, 0), (7, 9, 0))]  # fmt: skip
    with pytest.raises(ValueError, match=r"\[5, 0\] are no answer"):
        split_answers([11, 0, 5, 0], words)


def test_rows_that_ms_swift_left_out_end_the_training_before_it_begins(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from plugins.label_metric import RowCheck

    row = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    trainer = SimpleNamespace(
        args=arguments, train_dataset=[row] * 3, eval_dataset=[row] * 2, is_world_process_zero=lambda: True
    )
    check = RowCheck(arguments, trainer)
    for counts in ("", "3 2"):
        monkeypatch.setenv("LABEL_ROWS", counts)
        check.on_train_begin(arguments, None, None)
    monkeypatch.setenv("LABEL_ROWS", "4 2")
    with pytest.raises(ValueError, match="kept 3 of 4 train rows"):
        check.on_train_begin(arguments, None, None)
    assert '"train_rows": 3, "val_rows": 2' in (tmp_path / "label_metric.json").read_text(encoding="utf-8")
