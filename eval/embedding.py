"""The baseline of the untuned model's own knowledge: its frozen embedding of each text, and logistic regression on it.

Run as: python -m eval.embedding RUN, then python -m eval.report RUN. Optional, because it reads every train row once:
in passes over a row an eighth (3 epochs) to a fifth (the demo) of all that a run costs. It tells what tuning adds from
what a linear model gets out of the untuned one, whatever words that one would say.

An embedding is the mean of the last hidden states of a text's tokens (Reimers and Gurevych 2019: mean pooling), of the
text alone as the model is shown it, with no prompt around it; without an adapter that the run may start from.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from eval.baselines import choose_classifier, primary_metric, splits_as_shown, spread
from eval.scoring.baseline_records import ANSWERS, EMBEDDING, EMBEDDING_RECORD, Baseline
from eval.scoring.cross_fit import FOLDS
from eval.scoring.responses import Response, Split, write_responses
from plan.hardware import computing_device, this_machine
from plan.provenance import current_model, made_by
from plan.resolve_infer import answers_dtype
from plan.run import Run, locked_run
from plan.training_memory import is_quantised
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, write_json
from workspace.gate import check_model
from workspace.paths import shown
from workspace.progress import progress

STAGE = EMBEDDING
BATCH = 16  # texts of about equal length
# Standardised features: weaker regularisation than this only fits the train rows.
C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
DEFAULT_C = 0.01  # of a run without validation rows


def make_embedding_baseline(folder: Path) -> Baseline | None:
    """Embed all rows of the run in `folder`, fit, and save what it answers; None where that is done already.

    Raises `UserError` when the run has no model folder, or one of few bits, or its train rows are all of one label.
    """
    run = Run.read(folder)
    if run.model_folder is None or not run.model_folder.is_dir():
        raise UserError(f"the weights of {run.model} are not on disk: run the same `bash run_sft.sh` command again")
    check_model(run.model_folder)
    if is_quantised(run.sft_values(), run.model_folder):  # whole, they are another model, and may not fit
        raise UserError(
            f"{shown(run.folder)} tunes weights of few bits, which are not embedded: take a recipe with whole weights, "
            "or leave this baseline out"
        )
    splits = splits_as_shown(run)
    metric = primary_metric(run)
    inputs = {name: sha256_file(split.path) for name, split in splits.items()} | {
        "labels": list(run.labels),
        "model": current_model(run),
        "settings": [*C_GRID, DEFAULT_C, FOLDS, metric, run.max_length],
        "scikit-learn": sklearn.__version__,
    }
    if stages.finished(run.folder, STAGE, inputs):
        return None
    stages.forget(run.folder, STAGE)
    begin = time.perf_counter()
    dtype = run.infer_values().get("torch_dtype")
    embeddings = embed(run.model_folder, [split.reviews for split in splits.values()], run.max_length, dtype)
    train, val, test = splits.values()
    ms_per_review = 1000 * (time.perf_counter() - begin) / max(1, sum(map(len, splits.values())))
    scaler = StandardScaler().fit(embeddings[0])
    features = [scaler.transform(part) if len(part) else part for part in embeddings]
    choice = choose_classifier(train, features[0], val, features[1], run.labels, C_GRID, DEFAULT_C, metric)
    outputs = [run.folder / EMBEDDING_RECORD]
    answers = [spread(choice.classifier, part, len(run.labels)) for part in features[1:]]
    answers[0] = answers[0] if choice.held_out is None else choice.held_out
    for split, shares in zip((val, test), answers, strict=True):
        outputs.append(_write(run.folder, split, shares, run.labels))
    seconds = time.perf_counter() - begin
    made = Baseline(choice.parameters, seconds, ms_per_review, choice.c)
    write_json(outputs[0], {name: value for name, value in asdict(made).items() if name != "label"})
    stages.record(run.folder, STAGE, inputs, outputs, seconds, made_by([]))
    return made


def embed(
    model_folder: Path, groups: Sequence[Sequence[str]], max_length: int | None, dtype: str | None = None
) -> list[NDArray[np.float32]]:
    """The embeddings of each group of texts, each [texts, hidden size], in their order.

    `dtype`: torch's name of what the run answers in (plan.resolve_infer.answers_dtype). A text is cut after
    `max_length` tokens.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    machine = this_machine()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModel.from_pretrained(model_folder, dtype=answers_dtype(dtype, model_folder, machine)).eval()
    model = model.to(computing_device(machine))
    texts = [text for group in groups for text in group]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found: dict[int, NDArray[np.float32]] = {}
    with progress(len(texts), "embedding", "row") as bar, torch.inference_mode():
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = tokenizer(
                [texts[at] or " " for at in places],
                padding=True,
                padding_side="right",
                truncation=max_length is not None,
                max_length=max_length,
                return_tensors="pt",
            ).to(model.device)
            states = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            found |= zip(places, means.cpu().numpy(), strict=True)
            bar.update(len(places))
    rows = iter(range(len(texts)))
    parts = [[found[next(rows)] for _ in group] for group in groups]
    return [np.stack(part) if part else np.zeros((0, model.config.hidden_size), np.float32) for part in parts]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.embedding", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the run's folder; its run.json names the model")
    options = parser.parse_args(argv)
    with locked_run(options.run):
        made = make_embedding_baseline(options.run)
    if made:
        print(f"embedding + linear: C = {made.c:g}, {made.train_seconds:.1f} s, {made.ms_per_review or 0:.0f} ms a row")
    return 0


def _write(run: Path, split: Split, shares: NDArray[np.float64], labels: Sequence[str]) -> Path:
    path = run / ANSWERS[EMBEDDING] / split.path.name
    rows = zip(split.ids, split.gold, (dict(zip(labels, row, strict=True)) for row in shares.tolist()), strict=True)
    write_responses(path, (Response(key, gold, probabilities=share) for key, gold, share in rows))
    return path


if __name__ == "__main__":
    run_main(main)
