"""Ask the model: `swift infer` over the test rows before or after tuning, interrupted or not, one response a row.

Run as: python -m eval.infer RUN before|after
"""

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from data_prep.rows import read_rows
from eval.inference.budget import budget_of, part_of
from eval.inference.collect import collect
from eval.inference.job import InferenceJob, adapter_inputs, model_inputs
from eval.inference.prompts import VARIANTS, Prompt, by_length, make_prompts
from eval.inference.summary import Pairs, Summary
from eval.inference.variants import variant_prompts
from eval.scoring.baseline_records import EMBEDDING, ENCODER
from eval.scoring.responses import VARIANTS_FILE, Response, write_responses
from plan.provenance import current_model
from plan.resolve import HEAD_PLUGIN
from plan.resolved import is_head
from plan.run import Run, locked_run
from train.checkpoints import best_checkpoint
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, sha256_json
from workspace.folder_lock import kept
from workspace.paths import shown

SIDES = ("before", "after")
ROWS_OF = {"test": "test.jsonl", "few_shot": "test.jsonl", "val": "val.jsonl"}  # the dataset's rows, by purpose
OWN_CHAT = ("test", "val")  # purposes whose prompts are the rows' own, with no turns before them
DATA_FILES = ("test.jsonl", "val.jsonl")


def main(argv: Sequence[str] | None = None) -> int:
    """Answer every prompt of a stage."""
    parser = Parser("python -m eval.infer", __doc__)
    parser.add_argument("run", type=given_path, help="the run folder, made by `python -m plan`")
    parser.add_argument("stage", choices=SIDES, help="the untuned model, or the one with the adapter")
    args = parser.parse_args(argv)
    with locked_run(args.run):
        infer(args.run, args.stage)
    return 0


def infer(folder: Path, side: str) -> None:
    """Write RUN/<side>/{test,val[,few_shot]}.jsonl and summary.json. What is answered already is not asked again.

    Raises `UserError` when the run or its dataset is missing, and when `swift infer` fails or loses a row.
    """
    infer_run(Run.read(folder), side)


def infer_run(run: Run, side: str) -> None:
    """The same for a run at hand, which may have no record of its own (eval/encoder.py)."""
    job = InferenceJob.of(run, side)
    prompts = stage_prompts(run, side)
    inputs = _inputs(job, prompts)
    if stages.finished(run.folder, side, inputs):
        return
    stages.forget(run.folder, side)
    begin = time.monotonic()
    with kept(run.dataset):
        completions = collect(job, prompts, sha256_json(inputs))
        collecting = time.monotonic() - begin
        pairs = list(zip(prompts, completions, strict=True))
        stages.check_unchanged(side, inputs, _inputs(InferenceJob.of(run, side), prompts))
        outputs = [
            *_write(job.folder, run.dataset, pairs, job.backend.plugin == HEAD_PLUGIN),
            Summary.of(pairs, inputs, job.dtype).write(job.folder),
        ]
    progress = stages.Progress.read(job.folder)
    spent = (progress.seconds if progress else collecting) + time.monotonic() - begin - collecting
    stages.record(run.folder, side, inputs, outputs, spent, job.made_by())
    print(f"{side}: {len(prompts)} prompts answered -> {shown(job.folder)}", flush=True)


def stage_prompts(run: Run, side: str, asked: Collection[str] | None = None) -> list[Prompt]:
    """Every prompt that the model `before` or `after` is asked, in the order in which they are answered.

    asked: the ids of the test rows that were asked in every way, where that is known; else as many as the run affords.
    """
    train, val, test = (read_rows(run.dataset / f"{name}.jsonl") for name in ("train", "val", "test"))
    head = is_head(run.folder)  # after tuning it writes no text
    afforded = budget_of(run, len(train), len(val), len(test))
    part = part_of(test, afforded.asked) if asked is None else frozenset(asked)
    whole = len(part) == len(test) or (side == "after" and head)
    prompts = make_prompts(run.dataset, side == "before", run.seed, None if whole else part)
    if side == "after" or not afforded.variants:
        return prompts
    others = variant_prompts(test, train, run.labels, afforded.variants, run.seed)
    return prompts + [prompt for name in VARIANTS for prompt in by_length(one for one in others if one.purpose == name)]


def prompts_sha256(prompts: Sequence[Prompt]) -> str:
    """A hash of the prompts, in their order, and of how they are answered."""
    return sha256_json([[one.key, one.chat_sha256, *([] if one.text else [one.mode])] for one in prompts])


def _inputs(job: InferenceJob, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """All that a stage's responses depend on, by hash."""
    files = {name: sha256_file(job.run.dataset / name) for name in DATA_FILES}
    return {**job.inputs(), "prompts": prompts_sha256(prompts), **files}


def check_responses_are_current(run: Run) -> None:
    """Raise `UserError` when the responses before or after tuning were made from something else than is there now.

    A report of old responses under a new plan, or next to new texts, would be believed. What they were made from is in
    their summary.json; an earlier version wrote less into it.
    """
    for side in SIDES:
        summary = Summary.read(run.folder / side)
        if summary is None or not summary.inputs:
            continue
        now = model_inputs(run) | {name: sha256_file(run.dataset / name) for name in DATA_FILES}
        if side == "after" or run.start_adapter:
            now |= adapter_inputs(best_checkpoint(run.folder) if side == "after" else run.start_adapter)
        if changed := sorted(name for name in now.keys() & summary.inputs.keys() if summary.inputs[name] != now[name]):
            raise UserError(
                f"the answers in {shown(run.folder / side)} are not to what the run now has ({', '.join(changed)} "
                "changed): run the same command again"
            )
    now = {name: sha256_file(run.dataset / f"{name}.jsonl") for name in ("train", "val", "test")}
    now["model"] = current_model(run)
    for name, again in ((EMBEDDING, "eval.embedding {}"), (ENCODER, "eval.encoder {} --model PATH_OR_ID")):
        record = stages.read_record(run.folder, name)
        known = record.inputs if record else {}
        if changed := sorted(key for key in now.keys() & known.keys() if known[key] != now[key]):
            raise UserError(
                f"the answers of {name} in {shown(run.folder)} are not to what the run now has ({', '.join(changed)} "
                f"changed): run `python -m {again.format(shown(run.folder))}` again"
            )


def _write(folder: Path, dataset: Path, pairs: Pairs, head: bool) -> list[Path]:
    """The response files, each in the row order of the dataset's file, and that of the variants. Returns them all."""

    def responses(purposes: Sequence[str]) -> list[Response]:
        return [
            Response(
                id=prompt.id,
                gold=prompt.gold,
                answer=completion.text,
                probabilities=completion.probabilities(),
                cut=prompt.cut,
                prompt_tokens=completion.score.prompt_tokens,
                key=prompt.key,
                chat_sha256=prompt.chat_sha256 if prompt.purpose in OWN_CHAT else None,
                prompt_sha256=completion.score.prompt_sha256,
                finish_reason=completion.score.finish_reason,
                label_mass=None if head else completion.label_mass(),
            )
            for prompt, completion in pairs
            if prompt.purpose in purposes
        ]

    outputs = []
    for purpose, rows in ROWS_OF.items():
        if found := {one.id: one for one in responses([purpose])}:
            outputs.append(folder / f"{purpose}.jsonl")
            write_responses(outputs[-1], (found[row.id] for row in read_rows(dataset / rows) if row.id in found))
    if others := responses(VARIANTS):
        outputs.append(folder / VARIANTS_FILE)
        write_responses(outputs[-1], others)
    return outputs


if __name__ == "__main__":
    run_main(main)
