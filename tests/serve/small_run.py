"""A finished run of a tiny random model with a random adapter, answered by the project's own scorer: seconds."""

from pathlib import Path
from typing import Any

import yaml

from data_prep import build
from data_prep.manifest import Manifest
from eval.baselines import make_baselines
from eval.evaluate import evaluate
from eval.scoring.responses import Response, load_split, write_responses
from hub.model_files import fingerprint
from plan.run import Run
from serve.classifier_file import Prompt
from serve.describe import frame_of
from serve.tuned import TunedScorer
from tests.prep_tables import reviews, write_csv, write_task
from tests.tiny_models import write_folder
from workspace.files import write_json, write_text

LABELS = ("正面", "负面")
ROWS = 240
STEP = 4


def small_run(root: Path, head: bool = False) -> Path:
    """The run's folder below `root`, with everything that a report needs; the report itself has no pictures."""
    model, data, run = root / "model", root / "data", root / "runs" / "small"
    write_folder(model, "qwen2")
    (root / "small").mkdir()
    rows = [(label, text * 6 if at % 10 < 2 else text) for at, (label, text) in enumerate(reviews(ROWS))]
    task = write_task(
        root / "small",
        csv=str(write_csv(root / "table.csv", rows)),
        licence="CC-BY-4.0",
        near_duplicates={"threshold": 1.0},
        split={"val": 0.3, "test": 0.3},
        max_length=128,  # so that some are cut
        synonyms={"正面": ["好评"]},
        selective={"target": 0.6},
    )
    given = ["--csv", str(root / "table.csv"), "--out", str(data), "--model", str(model), "--template", "qwen2_5"]
    build.main([str(root / "small"), *given])
    Run(
        folder=run,
        recipe="small/tiny",
        task="small",
        labels=LABELS,
        dataset=data,
        task_file=task,
        model=str(model),
        model_folder=model,
        model_fingerprint=fingerprint(model),
        csv=str(root / "table.csv"),
        versions={"torch": "2"},
        config_sha256="c0" * 32,
    ).write()
    values: dict[str, Any] = {"model": str(model), "model_type": "qwen2", "template": "qwen2_5"}
    kind = {"task_type": "seq_cls" if head else "causal_lm"}
    write_text(run / "sft.yaml", yaml.safe_dump(values | kind | {"seed": 42, "lora_rank": 4}))
    write_text(run / "infer.yaml", yaml.safe_dump(values))
    adapter = write_adapter(model, run / "train", head)
    make_baselines(run)
    answer(run, model, adapter, head)
    evaluate(run)
    return run


def write_adapter(model: Path, train: Path, head: bool) -> Path:
    """A checkpoint with a random adapter, and the choice of it."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    kind = "AutoModelForSequenceClassification" if head else "AutoModelForCausalLM"
    base = getattr(transformers, kind).from_pretrained(model, **({"num_labels": len(LABELS)} if head else {}))
    config = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS" if head else "CAUSAL_LM"
    )
    checkpoint = train / f"checkpoint-{STEP}"
    get_peft_model(base, config).save_pretrained(checkpoint)
    write_json(checkpoint / "args.json", {"model_type": "qwen2", "tuner_type": "lora"})
    write_json(train / "best.json", {"step": STEP, "path": checkpoint.name, "value": 0.7, "metric": "macro_f1"})
    return checkpoint


def answer(run: Path, model: Path, adapter: Path, head: bool) -> None:
    """Write what the untuned and the tuned model say of the test and validation rows."""
    planned = Run.read(run)
    manifest = Manifest.read(planned.dataset)
    parts = frame_of(planned, manifest.system, manifest.inputs["chat"]).parts
    prompt = Prompt(
        manifest.template, manifest.system, ("{review}",), ("review",), parts, "qwen2_5", manifest.max_length,
        manifest.keep_head,
    )  # fmt: skip
    sides = {"after": TunedScorer(model, prompt, LABELS, adapter, head)}
    if not head:  # an untrained head answers in words
        sides["before"] = TunedScorer(model, prompt, LABELS)
    for side, scorer in sides.items():
        for name in ("test", "val"):
            split = load_split(planned.dataset, name, LABELS)
            found = scorer.score(split.reviews).probabilities.tolist()  # whole, as `swift infer`'s are: logs are taken
            shares = [dict(zip(LABELS, row, strict=True)) for row in found]
            rows = zip(split.ids, split.gold, shares, split.cut, strict=True)
            write_responses(run / side / f"{name}.jsonl", (Response(a, b, None, p, cut) for a, b, p, cut in rows))
