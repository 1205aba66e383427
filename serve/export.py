"""One folder to carry: what a finished run's report advises, with all that predicting and serving need (a bundle).

Run as: python -m serve.export RUN [DIR]
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import get_args

from hub.model_files import CONTENT
from plan.hardware import this_machine, used_by
from plan.provenance import current_model
from plan.resolve_infer import holds_float32
from plan.run import Run, locked_run
from plan.training_memory import is_quantised
from serve.bare_report import FOLDER as REPORT
from serve.bare_report import write_bare_report
from serve.bundle import ADAPTER, files_in
from serve.card import NAME as CARD
from serve.card import card
from serve.classifier_file import ClassifierFile, Reading, path_in
from serve.describe import describe_finished
from serve.finished_run import FinishedRun
from serve.licences import base_licence
from serve.linear import LinearScorer
from serve.push import PUSH, check_destination, push
from serve.stack import StackScorer
from train.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, best_checkpoint
from workspace.child_process import OutOfMemory
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, is_want_of_memory, run_main
from workspace.files import read_json, remove, sha256_file, write_json, write_text
from workspace.marker import is_ours, mark
from workspace.paths import shown

DEFAULT = "-bundle"  # after the name of the run's folder, beside it
TOKENIZER = tuple(name for name in CONTENT if name != "config.json")  # and how text is generated


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m serve.export", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("folder", type=given_path, nargs="?", metavar="DIR", help=f"default: RUN{DEFAULT}")
    parser.add_argument(
        "--reading", choices=get_args(Reading), help="what is exported; default: what the report advises"
    )
    parser.add_argument("--adapter", action="store_true", help="the adapter alone, without the base model's weights")
    parser.add_argument("--with-texts", action="store_true", help="a report with the texts of the test rows in it")
    parser.add_argument("--push", metavar="HUB:OWNER/NAME", help=PUSH)
    parser.add_argument("--yes", action="store_true", help="with --push: send it, rather than print what would be sent")
    args = parser.parse_args(argv)
    destination = check_destination(args.push, args.yes)
    with locked_run(args.run):
        folder = args.folder or args.run.with_name(f"{args.run.name}{DEFAULT}")
        file = export(Run.read(args.run), folder, args.reading, args.adapter, args.with_texts)
    for line in told(file, folder):
        print(f"export: {line}", flush=True)
    if destination:
        push(folder, destination, args.yes)
    return 0


def export(
    run: Run, folder: Path, reading: Reading | None = None, adapter: bool = False, with_texts: bool = False
) -> ClassifierFile:
    """Write the bundle of `run` to `folder`, whole or not at all, in place of one that is there.

    Raises `UserError` where the run is not finished, `folder` holds something else, the base model is not the one that
    was tuned, or merged weights answer otherwise.
    """
    check_place(run, folder)
    finished = FinishedRun.read(run)
    file = describe_finished(finished, reading)
    if adapter and not file.kind:
        raise UserError("--adapter: the linear model has none, so leave it out, or take --reading tuned")
    if adapter and run.text_base:
        raise UserError(f"--adapter: nobody else has {run.model} as it was after `unlabelled`: leave it out")
    name = f"{file.task}-{PurePath(file.base_model or file.reading).name if file.kind else file.reading}"
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        file = _write(finished, file, partial, name, adapter, with_texts)
        if folder.exists():
            remove(folder)
        os.replace(partial, folder)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return file


def check_place(run: Run, folder: Path) -> None:
    """Raise `UserError` where a bundle cannot be written to `folder`, or would replace something else."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{shown(folder)} is a file: name a folder")
    if run.folder.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{shown(folder)} holds the run itself: name another folder")
    if folder.exists() and any(folder.iterdir()) and not is_ours(folder, "bundle"):
        raise UserError(f"{shown(folder)} holds something other than a bundle: name another folder")


def told(file: ClassifierFile, folder: Path) -> list[str]:
    """What was exported, in lines."""
    size = sum(path.stat().st_size for path in files_in(folder).values())
    advised = "as the report advises" if file.reading == file.advice else f"the report advises {file.advice or 'none'}"
    lines = [f"{shown(folder)}: the {file.reading} model ({advised}), {size / 1e6:,.1f} MB"]
    if one := file.agreement:
        lines.append(
            f"merged in float32, stored in {one.dtype}: the same labels on {one.rows} texts ({one.ties} near ties "
            f"aside), probabilities within {one.difference:g}"
        )
    if file.weights == "adapter":
        lines.append(f"the adapter is apart: whoever uses it needs {file.base_model} beside it")
    if file.kind == "words":
        lines.append("loads with predict, serve, transformers, `swift infer` and `vllm serve`: README.md has the lines")
    elif file.kind == "head":
        lines.append("loads with predict, serve, transformers and `vllm serve`: README.md has the lines")
    else:
        lines.append("loads with predict and serve alone")
    return lines


def _write(
    finished: FinishedRun, file: ClassifierFile, folder: Path, name: str, adapter: bool, with_texts: bool
) -> ClassifierFile:
    """Write everything into `folder`; classifier.json, with the hashes of the others, comes last."""
    run = finished.run
    mark(folder, "bundle")
    base = _base(run)
    _copy(base, folder, ("config.json", *TOKENIZER))
    if file.kind:
        file = _write_weights(finished, file, base, folder, adapter)
    if file.reading != "tuned":
        LinearScorer.fit(finished).write(folder)
    if file.reading == "stack":
        StackScorer.fit(finished).write(folder)
    licence = base_licence(run) if file.kind else None
    file = replace(file, licences=file.licences | ({"base": licence.words} if licence else {}))
    write_bare_report(run.folder, finished.metrics, folder / REPORT, with_texts)
    write_text(folder / CARD, card(file, finished.metrics, name, licence))
    file = replace(file, files={path: sha256_file(at) for path, at in files_in(folder).items()})
    write_json(path_in(folder), asdict(file))
    return file


def _base(run: Run) -> Path:
    """The folder of the model that the run tuned. Raises `UserError` where it is gone, or another model by now."""
    if run.model_folder is None or not run.model_folder.is_dir():
        raise UserError(
            f"the base model {run.model} of {shown(run.folder)} is not in {shown(run.model_folder or Path('-'))} any "
            "more: put it back, or run the same `bash run_sft.sh` command again"
        )
    if current_model(run) != run.model_fingerprint:
        raise UserError(
            f"{shown(run.model_folder)} is another model than the one that was tuned: put that one back, or run the "
            "same `bash run_sft.sh` command again"
        )
    return run.model_folder


def _write_weights(
    finished: FinishedRun, file: ClassifierFile, base: Path, folder: Path, apart: bool
) -> ClassifierFile:
    run, labels, head = finished.run, file.labels, file.kind == "head"
    tuned = best_checkpoint(run.folder)
    is_adapter = (tuned / ADAPTER_WEIGHTS).is_file()
    if apart and not is_adapter:
        raise UserError(f"--adapter: {shown(run.folder)} tuned the whole model, so there is none: leave it out")
    if is_adapter and not apart and is_quantised(run.sft_values(), base):
        print("export: the base model is quantised, and merging would change it: the adapter is kept apart", flush=True)
        apart = True
    if apart:
        _copy(tuned, folder / ADAPTER, (ADAPTER_WEIGHTS,))
        settings = read_json(tuned / ADAPTER_CONFIG)
        write_json(folder / ADAPTER / ADAPTER_CONFIG, settings | {"base_model_name_or_path": file.base_model})
        return replace(file, weights="adapter", adapter_rank=settings.get("r"))

    from serve.merging import ROWS, TunedModel, write_merged
    from serve.tuned import TunedScorer  # torch, which the linear model does without

    def scorer(model: Path, adapter: Path | None) -> TunedScorer:
        tokenizer = base if model == tuned else None
        return TunedScorer(model, file.prompt, labels, adapter, head, "float32", tokenizer, machine)

    model, machine = tuned if not is_adapter else base, this_machine()
    if machine.gpu and not holds_float32(model, machine):
        print(
            f"export: {machine.gpu} does not hold the weights in float32: answers are compared on the CPU", flush=True
        )
        machine = used_by({"use_cpu": True}, machine)
    texts = (finished.test.columns or finished.test.reviews)[:ROWS]
    source = TunedModel(model, tuned if is_adapter else None, scorer, labels, head, file.calibration)
    try:
        return replace(file, agreement=write_merged(source, texts, folder))
    except Exception as error:
        if not (isinstance(error, OutOfMemory) or is_want_of_memory(error)):
            raise
        apart = is_adapter and not run.text_base
        raise OutOfMemory(
            f"memory does not hold {shown(model)} in float32, in which weights are merged and compared: end other "
            f"programs, or {'export the adapter alone with --adapter' if apart else 'use a machine with more'}"
        ) from None


def _copy(source: Path, folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


if __name__ == "__main__":
    run_main(main)
