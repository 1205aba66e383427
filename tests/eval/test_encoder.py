"""A fine-tuned encoder as a reading: its rows, its place in the ladder and the advice, and the whole of it for real."""

from dataclasses import replace

import jsonschema
import pytest

from data_prep.chat.tokenizer import ModelTokenizer
from eval.baselines import make_baselines
from eval.encoder import main
from eval.evaluate import evaluate
from eval.inference.encoder import Encoder, infer_values, read_encoder, sft_values, write_encoder_rows
from eval.reporting.context import reading_notes
from eval.scoring.baseline_records import EncoderBaseline
from eval.scoring.decision import TUNED, Candidate, decide
from eval.scoring.efficiency import Efficiency, costs
from eval.scoring.reading_names import READINGS
from eval.scoring.responses import as_shown, load_split
from plan.hardware import Machine, this_machine
from plan.run import Run
from plan.swift_schema import check_values
from tests.scored_runs import BAD, BINARY, GOOD, answer, make_dataset, make_plan, make_run
from tests.tiny_models import write_bert, write_folder
from workspace import stages
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, sha256_file, write_json
from workspace.gate import check_options
from workspace.paths import ROOT

TEXTS = (GOOD, BAD, "酒店地铁旁前台，。词甲乙")
LIMIT = 40  # tokens that the tiny encoder takes


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("models") / "bert", TEXTS, LIMIT)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, sizes=(60, 30, 40))


def splits_of(run, labels=BINARY):
    dataset = Run.read(run).dataset
    names = ("train", "val", "test")
    return dict(zip(names, as_shown(*(load_split(dataset, name, labels) for name in names)), strict=True))


# what it takes, and what is refused


@pytest.mark.torch
def test_an_encoder_says_how_long_a_text_may_be(bert):
    found = read_encoder(bert)
    assert (found.kind, found.max_length, found.own_tokens) == ("bert", LIMIT, 2)


@pytest.mark.torch
@pytest.mark.parametrize(("family", "padding", "limit"), [("roberta", 1, LIMIT - 2), ("bert", 0, LIMIT)])
def test_positions_that_begin_behind_the_padding_are_not_taken_for_tokens(family, padding, limit, bert, tmp_path):
    """RoBERTa's config says 514 for 512; a tokenizer need not say any limit."""
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config, settings = (read_json(tmp_path / name) for name in ("config.json", "tokenizer_config.json"))
    write_json(tmp_path / "config.json", config | {"model_type": family, "pad_token_id": padding})
    del settings["model_max_length"]
    write_json(tmp_path / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    assert read_encoder(tmp_path).max_length == limit


@pytest.mark.torch
def test_a_language_model_is_no_encoder(run, tmp_path):
    model = write_folder(tmp_path / "qwen2", "qwen2")
    with pytest.raises(UserError, match=r"a model of the kind qwen2, which is no encoder: name a BERT"):
        main([str(run), "--model", str(model)])
    assert not (run / "encoder").exists()


@pytest.mark.torch
def test_a_run_that_was_planned_for_a_gpu_has_its_encoder_tuned_where_none_is(run, bert, monkeypatch):
    write_json(run / "run.json", read_json(run / "run.json") | {"machine": {"gpu": "A100"}})
    planned = []
    monkeypatch.setattr("eval.encoder.tune_run", lambda inner, estimate: planned.append(inner.machine) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([str(run), "--model", str(bert)])
    assert planned == [this_machine().as_dict()]


def test_where_another_device_is_the_cpu_computes_both(tmp_path):
    """ms-swift would load the model onto Apple's GPU, and train on the CPU all the same."""
    machine = Machine("Apple M3", 8, 16.0, None, 0, 0.0, False, other_device="Apple's GPU (MPS)")
    encoder = Encoder(tmp_path, "bert", LIMIT, 2)
    sft = sft_values(encoder, tmp_path, tmp_path, 2, True, machine, "accuracy", 1)
    assert sft["device_map"] == infer_values(encoder, tmp_path, machine)["device_map"] == "cpu"


@pytest.mark.torch
def test_without_a_tokenizer_there_is_one_sentence(run, bert, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((bert / name).read_bytes())
    with pytest.raises(UserError, match=r"bare lacks its tokenizer \(tokenizer.json\)"):
        main([str(run), "--model", str(folder)])
    (folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no tokenizer\.json: load it with transformers' AutoTokenizer"):
        main([str(run), "--model", str(folder)])


@pytest.mark.torch
def test_rows_of_one_label_teach_nothing(tmp_path, bert):
    dataset = make_dataset(tmp_path / "data" / "made_up", sizes=(1, 4, 4))
    run = make_plan(tmp_path / "run", dataset)
    assert len(set(splits_of(run)["train"].gold)) == 1
    with pytest.raises(UserError, match="has rows of one label only: an encoder needs rows of two"):
        main([str(run), "--model", str(bert)])


@pytest.mark.torch
def test_no_folder_and_a_number_out_of_range_are_one_sentence(run, bert):
    with pytest.raises(UserError, match="there is no such folder"):
        main([str(run), "--model", "/nowhere/bert"])
    with pytest.raises(UserError, match=r"--learning_rate is '0', expected a number above 0"):
        main([str(run), "--model", str(bert), "--learning_rate", "0"])


# its rows


@pytest.mark.torch
def test_its_rows_are_the_shown_texts_cut_to_its_own_limit(run, bert, tmp_path):
    splits, encoder = splits_of(run), read_encoder(bert)
    cut = write_encoder_rows(tmp_path / "rows", Run.read(run).dataset, splits, BINARY, encoder)
    tokenizer = ModelTokenizer(bert)
    shortened = 0
    for name, split in splits.items():
        rows = read_jsonl(tmp_path / "rows" / f"{name}.jsonl")
        assert [row["id"] for row in rows] == list(split.ids)
        for row, text, gold in zip(rows, split.reviews, split.gold, strict=True):
            [question, told] = row["messages"]
            assert (told["content"], row["label"]) == (gold, BINARY.index(gold))
            assert len(tokenizer.ids(question["content"])) + 2 <= LIMIT
            long = len(tokenizer.ids(text)) + 2 > LIMIT
            assert row["cut"] == long and (question["content"] == text) != long
            shortened += long
    assert 0 < shortened == cut < sum(map(len, splits.values()))
    files = read_json(tmp_path / "rows" / "manifest.json")["files"]
    assert files["val.jsonl"] == sha256_file(tmp_path / "rows" / "val.jsonl")


@pytest.mark.torch
def test_a_control_token_of_the_encoder_in_a_text_stays_text(run, bert, tmp_path):
    splits = splits_of(run)
    split = splits["test"]
    splits["test"] = replace(split, reviews=("好[SEP]差", "", *split.reviews[2:]))
    write_encoder_rows(tmp_path, Run.read(run).dataset, splits, BINARY, read_encoder(bert))
    first, second = (row["messages"][0]["content"] for row in read_jsonl(tmp_path / "test.jsonl")[:2])
    assert first.replace("\u2060", "") == "好[SEP]差" and 3 not in ModelTokenizer(bert).ids(first)
    assert second == " "


# its place


@pytest.fixture
def answered(run):
    """A run with the answers and the record of an encoder."""
    make_baselines(run)
    dataset = Run.read(run).dataset
    for at, name in enumerate(("test", "val")):
        answer(run, dataset, f"baselines/encoder/{name}.jsonl", right=0.9, texts=False, seed=7 + at)
    made = {"parameters": 1000, "train_seconds": 9.5, "ms_per_review": 1.5, "model": "made-up/bert", "max_length": 40}
    made |= {"cut": 7, "rows": 130, "metric": "macro_f1", "value": 0.875}
    write_json(run / "encoder.json", made)
    inputs = {name: sha256_file(dataset / f"{name}.jsonl") for name in ("train", "val", "test")}
    stages.record(run, "encoder", inputs, [run / "encoder.json"], 9.5)
    return run


def test_it_is_a_reading_between_the_baselines_and_the_untuned_model(answered):
    metrics = evaluate(answered)
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert list(metrics["readings"])[:4] == ["majority", "tfidf_linear", "encoder", "before_generate"]
    found = metrics["readings"]["encoder"]
    assert (found["kind"], found["parameters"], found["trained_parameters"]) == ("baseline", 1000, 1000)
    assert (found["train_seconds"], found["ms_per_review"]) == (9.5, 1.5)
    assert found["probabilities"] and found["accuracy"] == pytest.approx(0.9, abs=0.1)
    assert ("encoder", "after_generate") in {(c["a"], c["b"]) for c in metrics["comparisons"]}
    assert metrics["encoder"] == {
        "model": "made-up/bert",
        "max_length": 40,
        "cut": 7,
        "rows": 130,
        "metric": "macro_f1",
        "value": 0.875,
    }
    [note] = [one for one in reading_notes(metrics) if "made-up/bert" in one.en]
    assert "chosen by macro F1 on the validation rows (0.875)" in note.en and "7 of all 130 were cut" in note.en
    assert "按验证集的宏平均 F1选定（0.875）" in note.zh and "130 条中另有 7 条" in note.zh


def test_the_page_shows_it_with_what_was_cut(answered):
    from eval.report import main as report

    assert report([str(answered)]) == 0
    for name in ("report.html", "report.md"):
        text = (answered / name).read_text(encoding="utf-8")
        assert "fine-tuned encoder" in text and "7 of all 130 were cut" in text, name


def test_without_one_nothing_is_said_of_it(run):
    metrics = evaluate(run)
    assert metrics["encoder"] is None and "encoder" not in metrics["readings"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_answers_from_other_rows_are_not_reported(answered, split):
    record = answered / "stages" / "encoder.json"
    kept = read_json(record)
    write_json(record, kept | {"inputs": kept["inputs"] | {split: "other"}})
    with pytest.raises(UserError, match=rf"the answers of encoder .* \({split} changed\): run `python -m eval.encoder"):
        evaluate(answered)


def test_a_damaged_record_names_the_command(answered):
    write_json(answered / "encoder.json", {"parameters": "many"})
    with pytest.raises(UserError, match=r"run `python -m eval\.encoder RUN --model PATH_OR_ID` again"):
        evaluate(answered)


def test_it_costs_more_than_a_linear_model_and_less_than_a_larger_language_model():
    def of(parameters):
        sizes = {"tfidf_linear": 50, "encoder": parameters, "before_score": 500, "after_score": 500}
        return costs({name: Efficiency(size, None, None, None) for name, size in sizes.items()})

    small, large = of(100), of(500)
    assert small["tfidf_linear"] < small["encoder"] < small["before_score"] < small["after_score"] == TUNED
    assert large["encoder"] == large["after_score"]  # where the language model is the smaller one


@pytest.mark.parametrize(
    ("better", "advised"),
    [
        ({}, "tfidf_linear"),
        ({("tfidf_linear", "after_score")}, "encoder"),
        ({("tfidf_linear", "after_score"), ("encoder", "after_score")}, "after_score"),
    ],
)
def test_the_advice_weighs_it_between_the_linear_and_the_tuned_model(better, advised):
    steps = {"tfidf_linear": (0, 0.80), "encoder": (1, 0.87), "before_score": (2, 0.6), "after_score": (3, 0.88)}
    able = [Candidate(name, cost, value, None, True) for name, (cost, value) in steps.items()]
    found = decide(able, dict.fromkeys(better, "better"), dict.fromkeys(better, 0.001), READINGS)
    assert found.advised == advised


# for real


@pytest.mark.torch
def test_ms_swift_knows_every_key(bert, tmp_path):
    machine = this_machine()
    for validated in (True, False):
        values = sft_values(read_encoder(bert), tmp_path, tmp_path / "train", 2, validated, machine, "mcc", 42)
        check_values(values, "sft", "{}".format)
        check_options(values, "{}".format)
        assert values["eval_strategy"] == ("epoch" if validated else "no")
    check_values(infer_values(read_encoder(bert), tmp_path, machine), "infer", "{}".format)


@pytest.mark.swift
def test_a_row_in_a_batch_is_asked_as_its_tokenizer_writes_it(bert, tmp_path):
    """[CLS] text [SEP], padded on the right: ms-swift's own padding would put [PAD] where BERT looks for [CLS]."""
    import copy

    import torch
    from swift.model import get_model_processor
    from swift.template import get_template
    from swift.template.register import TEMPLATE_MAPPING, register_template
    from transformers import AutoTokenizer

    from plugins.label_head import ScoreFile, head_template, recording_template

    texts = ["早餐丰富", "房间太脏，服务冷淡，隔音很差，再也不来", "差"]
    rows = [{"messages": [{"role": "user", "content": text}], "channel": f"test/{at}"} for at, text in enumerate(texts)]
    modes = {"generate": [row["channel"] for row in rows]}
    scores = ScoreFile({"template": "dummy", "labels": BINARY, "modes": modes, "out": str(tmp_path / "scores.jsonl")})
    kept = TEMPLATE_MAPPING["dummy"]
    meta = copy.copy(kept)
    meta.template_cls = recording_template(head_template(kept.template_cls), scores)
    options = {"model_type": "bert", "task_type": "seq_cls", "num_labels": 2, "torch_dtype": torch.float32}
    model, processor = get_model_processor(str(bert), **options)
    register_template(meta, exist_ok=True)
    try:
        template = get_template(processor, template_type="dummy")
    finally:
        register_template(kept, exist_ok=True)
    answered = [{**row, "messages": [*row["messages"], {"role": "assistant", "content": "正面"}]} for row in rows]
    plain = AutoTokenizer.from_pretrained(bert)
    encoded = [template.encode(row) for row in rows]
    assert [one["input_ids"] for one in encoded] == [plain(text)["input_ids"] for text in texts]
    assert [template.encode(row)["input_ids"] for row in answered] == [one["input_ids"] for one in encoded]
    template.model = model
    batch = template.data_collator(encoded)
    assert batch["input_ids"][:, 0].tolist() == [plain.cls_token_id] * 3
    with torch.inference_mode():
        together = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        alone = torch.cat([model(**plain(text, return_tensors="pt")).logits for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, demo_model):
    """A run on a few of the demo's rows; the tiny encoder tuned beside it; what was said; the same command again."""
    import subprocess
    import sys

    from data_prep.build import build
    from demo.reviews import DEFAULT_TARGET, ensure_reviews

    ensure_reviews(DEFAULT_TARGET)
    folder = tmp_path_factory.mktemp("encoder")
    build("demo", model=demo_model, limit=48, out=folder / "data" / "demo")
    dataset = folder / "data" / "demo"
    run = make_plan(folder / "run", dataset, tuple(read_json(dataset / "manifest.json")["labels"]))
    texts = [row["review"] for row in read_jsonl(dataset / "train.jsonl")]
    model = write_bert(folder / "bert", texts, LIMIT)
    command = [sys.executable, "-m", "eval.encoder", str(run), "--model", str(model)]
    command += ["--num_train_epochs", "3", "--learning_rate", "3e-3"]

    def ask():
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    first = ask()
    assert first.returncode == 0, first.stderr[-3000:]
    return run, model, first.stdout, ask


@pytest.mark.swift
def test_an_encoder_is_tuned_asked_and_reported(tuned):
    run, _, said, _ = tuned
    made = EncoderBaseline(**read_json(run / "encoder.json"))
    assert made.metric == "macro_f1" and 0 < made.value <= 1 and made.max_length == LIMIT
    assert 0 < made.cut < made.rows and made.parameters > 10_000 and made.train_seconds > 0 < made.ms_per_review
    assert f"encoder: {made.parameters:,} parameters" in said
    seen = read_json(run / "encoder" / "train" / "label_metric.json")
    assert seen["train_rows"] == 48
    make_baselines(run)
    metrics = evaluate(run)
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert list(metrics["readings"]) == ["majority", "tfidf_linear", "encoder"]
    assert metrics["readings"]["encoder"]["parameters"] == made.parameters


@pytest.mark.swift
def test_its_probabilities_are_those_of_plain_transformers(tuned):
    """Which tokenizes with [CLS] and [SEP] by itself: the model is asked just as it is used elsewhere."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run, model, _, _ = tuned
    train = run / "encoder" / "train"
    best = train / read_json(train / "best.json")["path"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    plain = AutoModelForSequenceClassification.from_pretrained(best, dtype=torch.float32).eval()
    for split in ("val", "test"):
        rows = read_jsonl(run / "encoder" / "rows" / f"{split}.jsonl")
        answers = read_jsonl(run / "baselines" / "encoder" / f"{split}.jsonl")
        for row, given in zip(rows, answers, strict=True):
            assert (row["id"], row["messages"][1]["content"]) == (given["id"], given["gold"])
            tokens = tokenizer(row["messages"][0]["content"], return_tensors="pt")
            assert tokens["input_ids"].shape[1] <= LIMIT
            with torch.inference_mode():
                shares = torch.softmax(plain(**tokens).logits[0], -1).tolist()
            assert list(given["probabilities"].values()) == pytest.approx(shares, abs=1e-4)


@pytest.mark.swift
def test_its_checkpoint_is_the_best_on_validation(tuned):
    from sklearn.metrics import f1_score

    run, *_ = tuned
    train = run / "encoder" / "train"
    best = read_json(train / "best.json")
    states = sorted(train.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name[11:]))
    log = [line for line in read_json(states[-1])["log_history"] if "eval_label_macro_f1" in line]
    assert len(log) == 3  # ms-swift keeps the best with eight digits
    assert best["value"] == pytest.approx(max(line["eval_label_macro_f1"] for line in log), abs=1e-7)
    assert {"eval_label_balanced_accuracy", "eval_label_mcc", "eval_label_accuracy"} <= log[0].keys()
    answers = read_jsonl(run / "baselines" / "encoder" / "val.jsonl")
    said = [max(row["probabilities"], key=row["probabilities"].__getitem__) for row in answers]
    assert f1_score([row["gold"] for row in answers], said, average="macro") == pytest.approx(best["value"])
    assert [path.parent.name for path in train.glob("checkpoint-*/model.safetensors")] == [best["path"]]


@pytest.mark.swift
def test_what_is_done_is_not_done_again(tuned):
    """Neither after the end, nor where the last step alone was cut off."""
    run, _, _, ask = tuned
    answers = (run / "baselines" / "encoder" / "test.jsonl").read_bytes()
    again = ask()
    assert again.returncode == 0 and "encoder: finished on" in again.stdout
    (run / "stages" / "encoder.json").unlink()
    (run / "baselines" / "encoder" / "test.jsonl").unlink()
    gone_on = ask()
    assert gone_on.returncode == 0, gone_on.stderr[-3000:]
    assert "train: finished on" in gone_on.stdout and "after: finished on" in gone_on.stdout
    assert (run / "baselines" / "encoder" / "test.jsonl").read_bytes() == answers
