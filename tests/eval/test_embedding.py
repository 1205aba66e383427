"""The frozen embedding of the untuned model, and logistic regression on it, as a reading."""

import shutil

import numpy as np
import pytest

from eval import embedding
from eval.baselines import make_baselines
from eval.embedding import embed, main
from eval.evaluate import evaluate
from eval.scoring.responses import load_split
from plan.run import Run
from tests.plan.faked_machines import MACHINES, machine_of
from tests.scored_runs import make_run
from tests.tiny_models import write_folder
from workspace.errors import UserError, run_main
from workspace.files import read_json, write_json

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "qwen2", "qwen2")


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    run = make_run(tmp_path_factory.mktemp("run"), sizes=(60, 30, 40))
    write_json(run / "run.json", read_json(run / "run.json") | {"model_folder": str(model), "max_length": 256})
    (run / "infer.yaml").write_text(f"model: {model}\ntorch_dtype: float32\n", encoding="utf-8")
    return run


def test_a_text_has_the_same_embedding_whatever_is_in_its_batch(model):
    texts = ["房间干净，服务热情", "差", "早餐丰富，下次还来，位置方便", ""]
    (together, none), (alone, last) = embed(model, [texts, []], 64), embed(model, [[texts[1]], [texts[0]]], 64)
    assert together.shape == (4, 32) and none.shape == (0, 32) and np.isfinite(together).all()
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)
    np.testing.assert_allclose(together[0], last[0], atol=1e-5)
    assert np.abs(together[0] - together[2]).max() > 0.01


def test_an_embedding_is_the_mean_over_the_texts_own_tokens(model):
    import torch
    from transformers import AutoModel, AutoTokenizer

    text = "房间干净，服务热情"
    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(model, dtype=torch.float32).eval()(**tokens).last_hidden_state[0]
    np.testing.assert_allclose(embed(model, [["差", text]], 64)[0][1], states.mean(0).numpy(), atol=1e-5)
    head = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    cut = {name: ids[:, :4] for name, ids in tokens.items()}
    with torch.inference_mode():
        states = head(**cut).last_hidden_state[0]
    np.testing.assert_allclose(embed(model, [[text]], 4)[0][0], states.mean(0).numpy(), atol=1e-5)


def test_it_is_a_reading_between_the_baselines_and_the_untuned_model(run, capsys):
    make_baselines(run)
    assert main([str(run)]) == 0 and "embedding + linear: C = " in capsys.readouterr().out
    readings = evaluate(run)["readings"]
    assert list(readings)[:4] == ["majority", "tfidf_linear", "embedding_linear", "before_generate"]
    found = readings["embedding_linear"]
    test = load_split(Run.read(run).dataset, "test", ("正面", "负面"))
    assert found["n"] == len(test) == 40 and found["kind"] == "baseline"
    assert found["accuracy"] > 0.6  # the words of the two classes differ, so even random weights tell them apart
    assert found["trained_parameters"] == 33 < found["parameters"] and found["ms_per_review"] > 0
    assert main([str(run)]) == 0 and "skipped" in capsys.readouterr().out


def test_an_embedding_of_another_model_is_not_reported(run, tmp_path):
    main([str(run)])
    record = run / "stages" / "embedding_linear.json"
    kept = read_json(record)
    write_json(record, kept | {"inputs": kept["inputs"] | {"model": "another"}})
    with pytest.raises(
        UserError, match=r"answers of embedding_linear in .* \(model changed\): run `python -m eval\.embedding "
    ):
        evaluate(run)
    write_json(record, kept)


def test_weights_of_few_bits_are_refused_rather_than_read_whole(run, tmp_path):
    """Whole they are another model than was tuned, and mostly larger than the card."""
    copy = shutil.copytree(run, tmp_path / "run")
    with open(copy / "sft.yaml", "a", encoding="utf-8") as keys:
        keys.write("quant_bits: 4\nquant_method: bnb\n")
    with pytest.raises(UserError, match="tunes weights of few bits, which are not embedded: take a recipe with whole"):
        main([str(copy)])


def test_want_of_a_cards_memory_is_one_sentence(run, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "stages", ignore_errors=True)
    monkeypatch.setattr("eval.embedding.embed", full)
    with pytest.raises(SystemExit) as end:
        run_main(lambda: main([str(copy)]))
    said = capsys.readouterr().err
    assert end.value.code == 1 and "the GPU's memory does not hold this" in said and "Traceback" not in said


def test_it_is_computed_in_what_the_run_answers_in(model, monkeypatch):
    from transformers import AutoModel

    asked = []

    def loaded(folder, dtype):
        asked.append(dtype)
        raise UserError("far enough")

    monkeypatch.setattr(AutoModel, "from_pretrained", loaded)
    monkeypatch.setattr(embedding, "this_machine", lambda: machine_of(MACHINES["T4"]))
    for dtype in ("float16", "bfloat16", None):
        with pytest.raises(UserError, match="far enough"):
            embed(model, [["好"]], 64, dtype)
    assert asked == ["float16", "float32", "float32"]  # a T4 has no bfloat16


def test_without_weights_there_is_none(tmp_path):
    with pytest.raises(UserError, match="are not on disk"):
        main([str(make_run(tmp_path))])
