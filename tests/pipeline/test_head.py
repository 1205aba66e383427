"""A classification head: its recipe, what the head is shown, and the whole pipeline for real, with ten classes."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from eval.inference.job import TRANSFORMERS, choose_backend
from eval.reporting.compare_runs import compare_runs
from eval.reporting.render import render_html, render_markdown
from eval.reporting.wording import HEAD_NOTE
from eval.scoring.consistency import consistency_checks
from plan.recipes import load_recipe
from plan.resolve import HEAD_PLUGIN as PLUGIN
from plan.resolve import head_values
from plan.resolved import is_head
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json, write_text
from workspace.paths import ROOT

RECIPE = "hotel_reviews/qwen1.5-0.5b-seqcls"
TEN = ("书籍", "平板", "手机", "水果", "洗发水", "热水器", "蒙牛", "衣服", "计算机", "酒店")
LIMIT = 40
HEAD_READINGS = (
    "majority", "tfidf_linear", "before_generate", "before_score", "before_score_calibrated", "before_score_threshold",
    "before_few_shot", "after_score", "after_score_threshold",
)  # fmt: skip


def run_sft(*words: str) -> str:
    result = subprocess.run(["bash", "run_sft.sh", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


# the recipe


def test_the_recipe_differs_from_the_one_in_words_in_the_head_alone() -> None:
    head, words = load_recipe(RECIPE).sft, load_recipe("hotel_reviews/qwen1.5-0.5b-chat").sft
    different = {key for key in head.keys() | words.keys() if head.get(key) != words.get(key)}
    assert different == {"task_type", "num_labels", "optim", "acc_strategy", "external_plugins", "output_dir"}
    assert (head["task_type"], head["num_labels"], head["optim"]) == ("seq_cls", 2, "adamw_torch")
    assert [head[key] for key in ("lora_rank", "lora_alpha", "num_train_epochs", "eval_strategy")] == [
        8,
        16,
        3,
        "epoch",
    ]
    assert head["external_plugins"] == ["plugins/label_head.py", *words["external_plugins"]]


def test_the_head_has_an_output_a_class_of_the_task_and_never_lacks_its_plugin() -> None:
    recipe = {"task_type": "seq_cls", "num_labels": 2, "external_plugins": ["/elsewhere/label_metric.py"]}
    assert head_values(recipe, {}, 10) == {
        "num_labels": 10,
        "external_plugins": [str(PLUGIN), "/elsewhere/label_metric.py"],
    }
    kept = {**recipe, "external_plugins": ["/a/label_head.py", "/a/label_metric.py"]}
    assert head_values(kept, {"num_labels": "2"}, 2)["external_plugins"] == kept["external_plugins"]
    assert head_values({"external_plugins": []}, {}, 2) == {}
    assert head_values({"task_type": "causal_lm"}, {}, 2) == {}


@pytest.mark.parametrize(
    ("values", "overrides", "told"),
    [
        ({"task_type": "seq_cls"}, {"num_labels": "3"}, "--num_labels 3: the task has 2 labels"),
        ({"task_type": "reranker"}, {}, "task_type reranker cannot be evaluated here: use one of causal_lm, seq_cls"),
        ({"task_type": "seq_cls", "problem_type": "regression"}, {}, "problem_type regression"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(values, overrides, told) -> None:
    with pytest.raises(UserError, match=told) as caught:
        head_values(values, overrides, 2)
    assert "\n" not in str(caught.value)


def test_only_a_tuned_head_is_asked_as_one(tmp_path) -> None:
    assert not is_head(tmp_path) and choose_backend(tmp_path, "after", 2) == TRANSFORMERS
    write_text(tmp_path / "sft.yaml", "template: qwen\n")
    assert not is_head(tmp_path) and choose_backend(tmp_path, "after", 2) == TRANSFORMERS
    write_text(tmp_path / "sft.yaml", "template: qwen\ntask_type: seq_cls\n")
    assert is_head(tmp_path) and choose_backend(tmp_path, "before", 2) == TRANSFORMERS
    backend = choose_backend(tmp_path, "after", 10)
    assert backend.plugin == PLUGIN and backend.options[2:4] == ("--num_labels", "10")


# the report


def test_the_report_says_what_before_is_and_compares_with_the_words_by_score(tmp_path) -> None:
    from tests.report_runs import make_run

    head = make_run(tmp_path / "head", head=True, readings=HEAD_READINGS, n=150)
    words = make_run(tmp_path / "words", n=150)
    rows = {name: read_jsonl(tmp_path / name / "rows.jsonl") for name in ("head", "words")}
    for render in (lambda m, rows: render_markdown(m, rows, []), render_html):
        text = render(head, rows["head"])
        assert HEAD_NOTE.zh in text and HEAD_NOTE.en.split("“")[0] in text
        assert HEAD_NOTE.zh not in render(words, rows["words"])
    text = render_markdown(head, rows["head"], [])
    classes = text[text.index("## 各类别") : text.index("## 概率")]
    # the classes shown before and after are those of the verdict's two readings, not generated text beside scores
    assert "before · score, calibrated |" in classes and "after · score |" in classes and "generate" not in classes
    assert "Where the gain comes from" not in text


def test_a_head_and_words_are_compared_on_the_same_rows(tmp_path) -> None:
    from tests.report_runs import make_run

    make_run(tmp_path / "head", head=True, readings=HEAD_READINGS, n=150, seed=1)
    make_run(tmp_path / "words", n=150)
    text = compare_runs([tmp_path / "head", tmp_path / "words"])
    assert "| 分类头 head |" in text and "| 词 words |" in text
    [line] = [line for line in text.split("\n") if line.startswith("| A → B |") and "after · score |" in line]
    assert "| 150 |" in line
    assert not [line for line in text.split("\n") if line.startswith("| A → B |") and "generate" in line]


def test_the_batch_gate_of_a_head_counts_labels(tmp_path) -> None:
    found = {"rows": 6, "same_label": 5, "largest_logprob_difference": 0.5, "ok": False}
    summary = {"parity": found, "no_assistant_turn": True, "prompts": {"test": 6}}
    write_json(tmp_path / "after" / "summary.json", summary)
    gate = consistency_checks(tmp_path, ())[0]
    assert not gate.ok and "5 of 6 labels" in gate.detail.en and "5 条标签相同" in gate.detail.zh


# what the head is shown


@pytest.mark.swift
def test_the_answer_is_in_no_encoded_row(demo_model: Path) -> None:
    """Without the plugin ms-swift shows the head the answer: the same row, encoded both ways."""
    from swift.infer_engine import InferRequest
    from swift.model import get_model_processor
    from swift.template import Template, TemplateInputs, get_template

    import plugins.label_head  # noqa: F401

    _, tokenizer = get_model_processor(
        str(demo_model), load_model=False, model_type="qwen2", task_type="seq_cls", num_labels=2
    )
    template = get_template(tokenizer, template_type="qwen")
    assert template.leaves_answer_out and not getattr(Template, "leaves_answer_out", False)
    bare = next(cls for cls in type(template).__mro__ if not getattr(cls, "leaves_answer_out", False))
    question = [{"role": "system", "content": "甲"}, {"role": "user", "content": "房间好吗？"}]
    row = {"messages": [*question, {"role": "assistant", "content": "负面"}], "label": 1, "id": "3", "review": "负面"}
    text = "<|im_start|>system\n甲<|im_end|>\n<|im_start|>user\n房间好吗？<|im_end|>\n<|im_start|>assistant\n"
    for mode in ("train", "transformers"):
        template.set_mode(mode)
        for given in (row, TemplateInputs.from_dict(row), InferRequest(row["messages"])):
            encoded = template.encode(given)
            assert tokenizer.decode(encoded["input_ids"]) == text
            assert encoded.get("labels") == (None if isinstance(given, InferRequest) else 1)
        assert "负面" in tokenizer.decode(bare.encode(template, row)["input_ids"])
    assert row["messages"][-1]["content"] == "负面"  # the row itself is left as it was
    template.set_mode("train")
    template.task_type = "causal_lm"  # in words the answer is learnt, and the number beside it changes nothing
    encoded = template.encode(row)
    assert "负面" in tokenizer.decode(encoded["input_ids"])
    assert encoded == template.encode({key: value for key, value in row.items() if key != "label"})


@pytest.mark.swift
def test_the_heads_metric_is_accuracy_and_macro_f1(tmp_path) -> None:
    from types import SimpleNamespace

    import torch
    from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

    from plugins.label_metric import LabelMetrics, label_metrics, write_rows

    rows = [{"input_ids": [5, 6, 7 + k], "labels": k % 3} for k in range(9)]
    trainer = SimpleNamespace(
        template=SimpleNamespace(task_type="seq_cls"),
        train_dataset=rows[:4],
        eval_dataset=rows,
        args=SimpleNamespace(output_dir=str(tmp_path)),
        is_world_process_zero=lambda: True,
    )
    metric = label_metrics(trainer.args, trainer)
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    gold = np.array([row["labels"] for row in rows])
    best = metric.preprocess_logits_for_metrics((logits, None), torch.tensor(gold)).numpy()
    found = metric.compute_metrics(SimpleNamespace(predictions=best, label_ids=gold))
    assert 0 < found["label_accuracy"] < 1
    assert found["label_accuracy"] == pytest.approx(np.mean(logits.argmax(-1).numpy() == gold))
    assert found["label_macro_f1"] == pytest.approx(f1_score(gold, logits.argmax(-1).numpy(), average="macro"))
    assert found["label_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(gold, logits.argmax(-1).numpy()))
    assert found["label_mcc"] == pytest.approx(matthews_corrcoef(gold, logits.argmax(-1).numpy()))
    assert metric.compute_metrics(SimpleNamespace(predictions=gold, label_ids=gold))["label_mcc"] == pytest.approx(1)
    assert metric.compute_metrics(SimpleNamespace(predictions=0 * gold, label_ids=gold))["label_mcc"] == 0
    write_rows(trainer)
    seen = read_json(tmp_path / "label_metric.json")
    assert (seen["train_rows"], seen["val_rows"]) == (4, 9)
    assert seen["val_prompt_sha256"][0] == hashlib.sha256(json.dumps([5, 6, 7]).encode()).hexdigest()
    trainer.template.task_type = "causal_lm"
    assert isinstance(label_metrics(trainer.args, trainer), LabelMetrics)


@pytest.mark.swift
def test_an_encoders_batch_is_padded_on_the_right() -> None:
    """BERT would take padding on the left for its first token, and count positions from there."""
    import torch

    from plugins.label_head import padded_right

    batch = {
        "input_ids": torch.tensor([[0, 0, 7, 8], [5, 0, 6, 9], [0, 4, 0, 3]]),  # 0 is a token of the second and third
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]),
        "labels": torch.tensor([1, 0, 1]),
    }
    found = padded_right(batch)
    assert found["input_ids"].tolist() == [[7, 8, 0, 0], [5, 0, 6, 9], [4, 0, 3, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert found["labels"].tolist() == [1, 0, 1]


# the whole pipeline


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    """A finished run of the head's recipe, on a task of ten classes in a folder of its own."""
    from demo.reviews import ensure_reviews

    folder = tmp_path_factory.mktemp("ten classes")
    with open(ensure_reviews(folder / "reviews.csv"), encoding="utf-8", newline="") as stream:
        reviews = [row["review"] for row in csv.DictReader(stream)]
    with open(folder / "ten.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("review", "label"))
        writer.writerows((review, k % 10) for k, review in enumerate(reviews[:1000]))
    source = ROOT / "swift_configs" / "hotel_reviews"
    task = yaml.safe_load((source / "task.yaml").read_text(encoding="utf-8"))
    task |= {"name": "ten_classes_test", "labels": {str(k): word for k, word in enumerate(TEN)}, "synonyms": {}}
    task |= {"prompts": {"original": "{review} 属于哪一类？"}, "prompt": "original", "default_recipe": "head"}
    write_text(folder / "task.yaml", yaml.safe_dump({**task, "max_reject_share": 0.9}, allow_unicode=True))
    recipe = source.parent / "models" / f"{RECIPE.split('/')[1]}.yaml"
    write_text(folder / "head.yaml", recipe.read_text(encoding="utf-8"))
    run = folder / "run"
    run_sft(
        str(folder), "--model", str(demo_model), "--csv", str(folder / "ten.csv"), "--limit", str(LIMIT),
        "--num_train_epochs", "1", "--run", str(run),
        "--bf16", "false",  # what training measures is compared with float32 answers
    )  # fmt: skip
    return run


def chat_prompts(run: Path, tokenizer) -> dict[str, list[int]]:
    """Token ids of each validation and test question in ChatML, written out here, not taken from ms-swift."""
    dataset = Path(read_json(run / "run.json")["dataset"])
    prompts = {}
    for split in ("val", "test"):
        for row in read_jsonl(dataset / f"{split}.jsonl"):
            system, user, _ = (turn["content"] for turn in row["messages"])
            text = (
                f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
            )
            prompts[row["id"]] = tokenizer.encode(text, add_special_tokens=False)
    return prompts


@pytest.mark.swift
def test_a_head_goes_from_csv_to_report(tuned: Path) -> None:
    import jsonschema

    metrics = read_json(tuned / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert metrics["head"] is True and metrics["gain"] is None
    assert tuple(metrics["readings"]) == HEAD_READINGS
    assert [gate["name"] for gate in metrics["parity"] if not gate["ok"]] == []
    assert {gate["name"] for gate in metrics["parity"]} >= {"batch_after", "prompt", "no_assistant_turn_after"}
    assert ("before_score", "after_score") in {(c["a"], c["b"]) for c in metrics["comparisons"]}
    assert "the tuned one by its head's" in metrics["verdict"]["en"]
    assert HEAD_NOTE.zh in (tuned / "report.html").read_text(encoding="utf-8")
    assert metrics["curves"]["val"][0]["label_macro_f1"] is not None
    answers = read_jsonl(tuned / "after" / "test.jsonl")
    assert all(row["answer"] is None and list(row["probabilities"]) == list(TEN) for row in answers)


@pytest.mark.swift
def test_training_saw_each_question_and_no_answer(tuned: Path, demo_model: Path) -> None:
    from transformers import AutoTokenizer

    prompts = chat_prompts(tuned, AutoTokenizer.from_pretrained(demo_model))
    dataset = Path(read_json(tuned / "run.json")["dataset"])
    ids = [row["id"] for row in read_jsonl(dataset / "val.jsonl")]
    seen = read_json(tuned / "train" / "label_metric.json")
    assert seen["train_rows"] == LIMIT == len(read_jsonl(dataset / "train.jsonl"))
    expected = [hashlib.sha256(json.dumps(prompts[key]).encode()).hexdigest() for key in ids]
    assert len(expected) > 1 and seen["val_prompt_sha256"] == expected


@pytest.mark.swift
def test_probabilities_equal_plain_transformers_and_peft_to_1e_4(tuned: Path, demo_model: Path) -> None:
    """Also what training measured: rows padded on the right there, on the left in `swift infer`, not at all here."""
    import torch
    from peft import PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    best = read_json(tuned / "train" / "best.json")
    adapter = tuned / "train" / best["path"]
    base = AutoModelForSequenceClassification.from_pretrained(demo_model, num_labels=10, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    prompts = chat_prompts(tuned, AutoTokenizer.from_pretrained(demo_model))
    right = {"val": 0, "test": 0}
    for split in right:
        rows = read_jsonl(tuned / "after" / f"{split}.jsonl")
        assert len({row["prompt_tokens"] for row in rows}) > 1  # so that there was padding
        for row in rows:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompts[row["id"]]])).logits[0]
            assert row["prompt_tokens"] == len(prompts[row["id"]])
            assert torch.softmax(logits, -1).tolist() == pytest.approx(list(row["probabilities"].values()), abs=1e-4)
            right[split] += TEN[int(logits.argmax())] == row["gold"]
    metrics = read_json(tuned / "metrics.json")
    [measured] = [point["label_accuracy"] for point in metrics["curves"]["val"] if point["step"] == best["step"]]
    assert measured == pytest.approx(right["val"] / len(read_jsonl(tuned / "after" / "val.jsonl")))
    reading = metrics["readings"]["after_score"]
    assert reading["correct"] == right["test"]
    with safe_open(adapter / "adapter_model.safetensors", "pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    [head] = [tensor for name, tensor in tensors.items() if "score" in name]
    assert tuple(head.shape) == (10, 512)
    assert reading["trained_parameters"] == sum(tensor.numel() for tensor in tensors.values())


@pytest.mark.swift
def test_swift_infer_alone_answers_the_same_and_is_shown_no_answer(tuned: Path) -> None:
    """test.jsonl holds the answers; the checkpoint names the plugin that leaves them out."""
    out = tuned / "by_hand.jsonl"
    best = read_json(tuned / "train" / "best.json")["path"]
    command = ["swift", "infer", str(tuned / "infer.yaml"), "--adapters", str(tuned / "train" / best)]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run([*command, "--result_path", str(out)], capture_output=True, text=True, env=env, cwd=tuned)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    ours = {row["id"]: list(row["probabilities"].values()) for row in read_jsonl(tuned / "after" / "test.jsonl")}
    dataset = Path(read_json(tuned / "run.json")["dataset"])
    for row, answer in zip(read_jsonl(dataset / "test.jsonl"), read_jsonl(out), strict=True):
        shares = ours[row["id"]]
        assert row["messages"][-1]["content"] == TEN[row["label"]]
        assert (answer["response"], answer["labels"]) == (shares.index(max(shares)), row["label"])
        [told] = answer["logprobs"]["content"]
        assert np.exp(told["logprobs"]) == pytest.approx(max(shares), abs=1e-4)
