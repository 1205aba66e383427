"""Ask the model: `swift infer` over the test rows before or after tuning, interrupted or not, one answer a row.

Run as: python -m eval.infer RUN before|after
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.inference.backends import way_to_ask
from eval.inference.journal import Answered, read_journal
from eval.inference.prompts import Request, make_requests
from eval.inference.workers import BATCH, Question, ask, infer_values
from plan.run import result_values
from train.checkpoints import best_checkpoint, weights_sha256
from workspace import stages
from workspace.child_process import OutOfMemory
from workspace.errors import UserError, run_main
from workspace.files import read_json, read_jsonl, sha256_file, sha256_json, write_json, write_jsonl
from workspace.folder_lock import locked_run
from workspace.paths import shown

LOGPROB_TOLERANCE = 1e-3  # between a row alone and in a batch: float32 sums in another order
PURPOSES = ("test", "parity", "few_shot", "val")
SPLITS = {"test": "test.jsonl", "few_shot": "few_shot.jsonl", "val": "val.jsonl"}


def main(argv: Sequence[str] | None = None) -> int:
    """Answer every request of a stage."""
    parser = argparse.ArgumentParser(prog="python -m eval.infer", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder, made by `python -m plan`")
    parser.add_argument("stage", choices=("before", "after"), help="the untuned model, or the one with the adapter")
    args = parser.parse_args(argv)
    with locked_run(args.run):
        infer(args.run.absolute(), args.stage)
    return 0


def infer(run: Path, stage: str) -> None:
    """Write run/<stage>/{test,val[,few_shot]}.jsonl and summary.json. What is answered already is not asked again.

    Raises `UserError` when the run or its dataset is missing, and when `swift infer` fails or loses a row.
    """
    plan = read_plan(run)
    dataset = Path(plan["dataset"])
    adapter = best_checkpoint(run) if stage == "after" else None
    way = way_to_ask(run, stage, len(plan["labels"]))
    requests = make_requests(dataset, few_shot=stage == "before", seed=plan["seed"])
    inputs = {
        **model_inputs(run, plan),
        "adapter": weights_sha256(adapter) if adapter else None,
        "plugin": sha256_file(way.plugin),
        "prompts": sha256_json([request.key for request in requests]),
        **{name: sha256_file(dataset / name) for name in ("val.jsonl", "test.jsonl")},
    }
    if stages.finished(run, stage, inputs):
        return
    stages.forget(run, stage)
    folder = run / stage
    for name in (*SPLITS.values(), "summary.json"):
        (folder / name).unlink(missing_ok=True)
    begin = time.monotonic()
    question = Question(run, stage, plan["labels"], adapter, way)
    answered = answer_all(question, requests, sha256_json(inputs), plan.get("auto_batch", False))
    asking = time.monotonic() - begin
    outputs = _write(folder, requests, answered, inputs, plan)
    spent = read_json(folder / "progress.json")["seconds"]
    stages.record(run, stage, inputs, outputs, spent + time.monotonic() - begin - asking)
    print(f"{stage}: {len(requests)} prompts answered -> {shown(folder)}", flush=True)


def model_inputs(run: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """What the answers depend on beside the rows and the adapter: the model, and how it is asked."""
    return {"infer_settings": sha256_json(result_values(infer_values(run))), "model": plan["model_fingerprint"]}


def answer_all(question: Question, requests: list[Request], digest: str, auto_batch: bool) -> list[Answered]:
    """All answers, from a journal of earlier, interrupted attempts and `swift infer` for the rest.

    `digest` names what the answers depend on; a journal of another is emptied. Raises `UserError` when `swift infer`
    fails or loses a row, and `OutOfMemory` when it is killed for that and `auto_batch` is false.
    """
    journal = question.journal
    progress = journal.parent / "progress.json"
    if not progress.exists() or read_json(progress)["inputs"] != digest:
        for path in [*journal.glob("*"), progress]:
            path.unlink(missing_ok=True)
        write_json(progress, {"inputs": digest, "seconds": 0.0})
    answered = read_journal(journal, requests)
    batch = read_json(progress).get("batch") or int(infer_values(question.run).get(BATCH, 1))
    if answered and len(answered) < len(requests):
        print(f"{question.stage}: going on after {len(answered)} of {len(requests)} prompts", flush=True)
    asked = False
    while len(answered) < len(requests) and not asked:
        begin = time.monotonic()
        rest = [request for request in requests if request.key not in answered]
        try:
            ask(question, f"{len(answered):06d}", rest, batch)
            asked = True
        except OutOfMemory as error:
            batch = _smaller(error, batch, auto_batch)
        finally:
            spent = read_json(progress)["seconds"] + time.monotonic() - begin
            write_json(progress, {"inputs": digest, "seconds": spent, "batch": batch})
        answered = read_journal(journal, requests)
    if len(answered) != len(requests):
        raise UserError(
            f"`swift infer` answered {len(answered)} of {len(requests)} prompts; "
            f"see {shown(journal.parent / 'swift.log')} and run the same command again"
        )
    return [answered[request.key] for request in requests]


def _smaller(error: OutOfMemory, batch: int, auto_batch: bool) -> int:
    """Half the batch, where that is allowed. Raises `OutOfMemory` with what to do where it is not."""
    if batch == 1:
        raise OutOfMemory(f"{error}, one row at a time: use a smaller model, or a machine with more memory") from error
    if not auto_batch:
        raise OutOfMemory(
            f"{error}: run the same command with --auto-batch, or set {BATCH}: {batch // 2} in an override"
        ) from error
    print(f"{error}; --auto-batch goes on with {batch // 2} rows at a time", flush=True)
    return batch // 2


def _write(
    folder: Path, requests: list[Request], answered: list[Answered], inputs: dict[str, Any], plan: dict[str, Any]
) -> list[Path]:
    """The answer files in the dataset's row order, and summary.json. Returns the files written."""
    outputs = []
    pairs = list(zip(requests, answered, strict=True))
    for purpose, name in SPLITS.items():
        rows = [(request, answer) for request, answer in pairs if request.purpose == purpose]
        if not rows:
            continue
        order = {row["id"]: place for place, row in enumerate(_dataset_rows(plan, purpose))}
        rows.sort(key=lambda pair: order[pair[0].id])
        write_jsonl(
            folder / name,
            (
                {
                    "id": request.id,
                    "gold": request.gold,
                    "answer": answer.text,
                    "probabilities": answer.probabilities(),
                    "cut": request.cut,
                    "prompt_tokens": answer.prompt_tokens,
                }
                for request, answer in rows
            ),
        )
        outputs.append(folder / name)
    write_json(
        folder / "summary.json",
        {
            "adapter_sha256": inputs["adapter"],
            "inputs": inputs,
            "prompts": {purpose: sum(r.purpose == purpose for r in requests) for purpose in PURPOSES},
            "ms_per_review": _speed(pairs),
            "parity": _parity(pairs),
            "no_assistant_turn": all(r.messages[-1]["role"] == "user" for r in requests)
            and not any(m["role"] == "assistant" for r in requests if r.purpose != "few_shot" for m in r.messages),
            "val_prompt_sha256": {r.id: a.prompt_sha256 for r, a in pairs if r.purpose == "val"},
        },
    )
    return [*outputs, folder / "summary.json"]


def _speed(pairs: list[tuple[Request, Answered]]) -> dict[str, float | None]:
    """Milliseconds a review of each way of reading, start-up not counted. Generation includes reading the prompt."""

    def mean(values: list[float]) -> float | None:
        return round(1000 * statistics.fmean(values), 2) if values else None

    test = [answer for request, answer in pairs if request.purpose == "test"]
    shots = [answer for request, answer in pairs if request.purpose == "few_shot"]
    return {
        "generate": mean([a.score_seconds + a.generate_seconds for a in test if a.generate_seconds is not None]),
        "score": mean([a.score_seconds for a in test]),
        "few_shot": mean([a.score_seconds for a in shots]),
    }


def _parity(pairs: list[tuple[Request, Answered]]) -> dict[str, Any]:
    """Rows asked alone against the same rows in their batch: same text (a head: same label), same probabilities?"""
    batched = {request.id: answer for request, answer in pairs if request.purpose == "test"}
    alone = {request.id: answer for request, answer in pairs if request.purpose == "parity"}
    differences = [
        abs(answer.logprobs[label] - batched[key].logprobs[label])
        for key, answer in alone.items()
        for label in answer.logprobs
    ]
    words = all(answer.text is not None for answer in alone.values())
    same = sum(_told(answer) == _told(batched[key]) for key, answer in alone.items())
    largest = max(differences, default=0.0)
    return {
        "rows": len(alone),
        "same_text" if words else "same_label": same,
        "largest_logprob_difference": largest,
        "ok": same == len(alone) and largest <= LOGPROB_TOLERANCE,
    }


def _told(answer: Answered) -> str:
    """The text; of a head, which writes none, the most probable label."""
    return max(answer.logprobs, key=answer.logprobs.__getitem__) if answer.text is None else answer.text


def _dataset_rows(plan: dict[str, Any], purpose: str) -> list[dict[str, Any]]:
    name = "val.jsonl" if purpose == "val" else "test.jsonl"
    return read_jsonl(Path(plan["dataset"]) / name)


def read_plan(run: Path) -> dict[str, Any]:
    """The run's run.json. Raises `UserError` when the folder has none."""
    if not (run / "run.json").is_file():
        raise UserError(f"{shown(run)} is not a run folder (no run.json): make one with `bash run_sft.sh`")
    return read_json(run / "run.json")


if __name__ == "__main__":
    run_main(main)
