"""A fine-tuned encoder (BERT and its kind) as a rung of the ladder: what a smaller, older model gets out of the rows.

Run as: python -m eval.encoder RUN --model PATH_OR_ID, then python -m eval.report RUN. Optional, because it needs other
weights than the run's. `swift sft` tunes all of them on the run's train rows, the checkpoint is chosen on the
validation rows by the task's primary metric, and `swift infer` answers validation and test rows, as it does for the
run's model. The texts are those that the language model is shown, without its prompt, and cut further where the encoder
takes less.

All of it is in RUN/encoder, which is like a run's folder (docs/architecture.md) and is gone on with where it stopped.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eval.baselines import primary_metric, splits_as_shown
from eval.infer import infer_run
from eval.inference.encoder import (
    EPOCHS,
    LEARNING_RATE,
    Encoder,
    infer_values,
    read_encoder,
    sft_values,
    write_encoder_rows,
)
from eval.inference.summary import Summary
from eval.scoring.baseline_records import ANSWERS, ENCODER, ENCODER_RECORD, EncoderBaseline
from eval.scoring.consistency import consistency_checks
from eval.scoring.efficiency import count_parameters
from eval.scoring.responses import Response, Split, load_responses, write_responses
from hub.find import find_model, fingerprint
from plan.hardware import Machine, check_usable, this_machine
from plan.memory import found_before
from plan.option_values import RANGES
from plan.provenance import made_by
from plan.result_values import result_values
from plan.run import Run, locked_run
from train.checkpoints import Best, best_checkpoint, keep_best_alone
from train.sft import tune_run
from workspace import stages
from workspace.child_process import OutOfMemory
from workspace.command_line import Parser, given_number, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, write_json
from workspace.paths import shown

STAGE = ENCODER
FOLDER, ROWS = "encoder", "rows"
UNUSED = ("c", "label")  # of the other baselines
OPTIONS = {  # of `swift sft`, where the usual values do not fit
    "num_train_epochs": f"passes over the train rows ({EPOCHS})",
    "learning_rate": f"of all weights ({LEARNING_RATE:g})",
}


def make_encoder_baseline(folder: Path, model: str, changes: dict[str, Any]) -> EncoderBaseline | None:
    """Tune the encoder `model` on the rows of the run in `folder` and save what it answers; None where that is done.

    `changes`: keys of `swift sft` in place of the usual ones. Raises `UserError` where `model` is no encoder that can
    be loaded, the train rows are all of one label, or ms-swift fails.
    """
    run = Run.read(folder)
    splits = splits_as_shown(run)
    if len(set(splits["train"].gold)) < 2:
        raise UserError(f"{shown(splits['train'].path)} has rows of one label only: an encoder needs rows of two")
    encoder = read_encoder(find_model(model))
    metric = primary_metric(run)
    rows, out = run.folder / FOLDER / ROWS, run.folder / FOLDER / "train"
    check_usable(machine := this_machine())
    validated = len(splits["val"]) > 0
    values = sft_values(encoder, rows, out, len(run.labels), validated, machine, metric, run.seed) | changes
    inputs = {name: sha256_file(split.path) for name, split in splits.items()} | {
        "labels": list(run.labels),
        "encoder": fingerprint(encoder.folder),
        "settings": result_values(values),
    }
    if stages.finished(run.folder, STAGE, inputs):
        return None
    stages.forget(run.folder, STAGE)
    cut = write_encoder_rows(rows, run.dataset, splits, run.labels, encoder)
    inner = _as_run(run, encoder, rows, machine)
    values |= found_before(inner.folder)
    for command, keys in (("sft", values), ("infer", infer_values(encoder, rows, machine))):
        path = shown(inner.folder / f"{command}.yaml")
        inner.write_yaml(command, keys, f"# the encoder of {shown(run.folder)}\n# Run as: swift {command} {path}")
    try:
        tune_run(inner, estimate=False)
        infer_run(inner, "after")
    except OutOfMemory as error:
        raise OutOfMemory(
            "the encoder needs more memory than there is, one row at a time: take a smaller one"
        ) from error
    _check(inner, splits["val"])
    keep_best_alone(out)
    answers = [_write(run, inner, split) for name, split in splits.items() if name != "train"]
    made = _record(inner, encoder, model, cut, sum(map(len, splits.values())), metric)
    write_json(run.folder / ENCODER_RECORD, {key: value for key, value in asdict(made).items() if key not in UNUSED})
    outputs, seconds = [run.folder / ENCODER_RECORD, *answers], made.train_seconds
    stages.record(run.folder, STAGE, inputs, outputs, seconds, made_by(values["external_plugins"]))
    return made


def _as_run(run: Run, encoder: Encoder, rows: Path, machine: Machine) -> Run:
    """The encoder's tuning as a run, for the stages that tune and ask; it has no run.json. It is planned for `machine`,
    whatever the run was planned for. Where memory is short it goes on with a smaller batch."""
    found = fingerprint(encoder.folder)
    own = replace(run, folder=run.folder / FOLDER, dataset=rows, model_folder=encoder.folder, model_fingerprint=found)
    own = replace(own, machine=machine.as_dict(), machine_text=machine.describe())
    return replace(own, max_length=encoder.max_length, start_adapter=None, auto_batch=True)


def _check(inner: Run, val: Split) -> None:
    """Raise `UserError` where the encoder was not asked as it was tuned, or not alone as in a batch."""
    for check in consistency_checks(inner.folder, val.ids):
        if not check.ok:
            raise UserError(f"the encoder's answers in {shown(inner.folder)} cannot be used: {check.detail.en}")


def _write(run: Run, inner: Run, split: Split) -> Path:
    """The answers to a split, in the order of the run's own rows, without the prompts that only the encoder has."""
    path = run.folder / ANSWERS[ENCODER] / split.path.name
    found = load_responses(inner.folder / "after" / path.name, replace(split, chats=()), run.labels)
    rows = found.probabilities.tolist() if found and found.probabilities is not None else []
    shares = (dict(zip(run.labels, row, strict=True)) for row in rows)
    answered = zip(split.ids, split.gold, shares, strict=True)
    write_responses(path, (Response(key, gold, probabilities=share) for key, gold, share in answered))
    return path


def _record(inner: Run, encoder: Encoder, model: str, cut: int, rows: int, metric: str) -> EncoderBaseline:
    best, summary = Best.read(inner.train_folder), Summary.read(inner.folder / "after")
    return EncoderBaseline(
        parameters=count_parameters(best_checkpoint(inner.folder)) or 0,
        train_seconds=stages.seconds_taken(inner.folder, "train") or 0.0,
        ms_per_review=summary.ms_per_review.get("score") if summary else None,
        model=model,
        max_length=encoder.max_length,
        cut=cut,
        rows=rows,
        metric=metric if best.value is not None else None,
        value=best.value,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.encoder", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the run's folder; its run.json names the dataset")
    for option, what in OPTIONS.items():
        parser.add_argument(f"--{option}", type=given_number(RANGES[option]), help=what)
    parser.add_argument("--model", required=True, metavar="PATH_OR_ID", help="the encoder: a folder, or a hub's id")
    options = parser.parse_args(argv)
    changes = {option: value for option in OPTIONS if (value := getattr(options, option)) is not None}
    with locked_run(options.run):
        made = make_encoder_baseline(options.run, options.model, changes)
    if made:
        speed = f"{made.ms_per_review or 0:.0f} ms a row"
        print(f"encoder: {made.parameters:,} parameters, {made.train_seconds:.1f} s, {speed}; {made.cut} rows cut")
    return 0


if __name__ == "__main__":
    run_main(main)
