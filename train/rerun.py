"""Run a finished run once more from what is in its folder, and say whether the same weights came out.

Run as: python -m train.rerun RUN [--run DIR], then, when it is tuned, python -m train.rerun --compare NEW
(bash run_sft.sh again RUN does both). The resolved YAMLs are taken as they are, so a recipe that changed since does not
count. On one machine, on a CPU, the adapter's bytes come out the same.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.chat.frame import check_template
from hub.find import fingerprint
from plan.hardware import this_machine, used_by
from plan.planning import Plan, carry_out
from plan.provenance import DATA_FILE, read_source, software
from plan.run import RECORD, Run, check_no_pattern, check_run_folder
from train.checkpoints import ADAPTER_WEIGHTS, best_checkpoint, weights_sha256
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file
from workspace.gate import check_model, check_name
from workspace.paths import DATASETS, ROOT, shown

NEEDED = (RECORD, "sft.yaml", "infer.yaml", DATA_FILE)


def main(argv: Sequence[str] | None = None) -> None:
    """Plan and prepare the repetition and print its folder, or compare it with its original."""
    parser = Parser("bash run_sft.sh again", __doc__)
    parser.add_argument("original", type=given_path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--run", type=given_path, metavar="DIR", help="folder of the repetition (default: RUN-again)")
    parser.add_argument("--compare", action="store_true", help="RUN is a repetition: compare it with its original")
    options = parser.parse_args(argv)
    original = options.original.resolve()
    if options.compare:
        print(compare(original))
        return
    again = options.run or original.with_name(f"{original.name}-again")
    carry_out(plan_again(original, again.absolute()))


def plan_again(original: Path, again: Path) -> Plan:
    """The plan for AGAIN from the files of `original`; what is different on this machine goes to stderr.

    Raises `UserError` when `original` is no whole run, its table or its model is not what it was, or no GPU is here and
    it had one.
    """
    if missing := [name for name in NEEDED if not (original / name).is_file()]:
        raise UserError(f"{shown(original)} is not a run that was planned and prepared (no {missing[0]})")
    if again == original:
        raise UserError(f"--run {shown(again)} is the run itself: name another folder")
    check_run_folder(again)
    run, source = Run.read(original), read_source(original)
    if (tuned := stages.read_record(original, "train")) and "soup" in tuned.inputs:
        raise UserError(f"{shown(original)} is the average of several runs, which no run makes again: repeat those")
    here = this_machine()
    if run.machine.get("gpu") and here.gpu is None:
        raise UserError(
            f"{shown(original)} was tuned on {run.machine['gpu']} and no GPU is seen here: repeat it where one is, or "
            "tune anew for the CPU by `bash run_sft.sh`"
        )
    table = ROOT / source.path
    if not table.is_file() or sha256_file(table) != source.sha256:
        raise UserError(
            f"{shown(table)} is not the table that {shown(original)} was made from (sha256 "
            f"{source.sha256[:12]}...): put that one back"
        )
    model = run.model_folder
    if model is None or run.task_file is None:
        raise UserError(
            f"{shown(original)} is from an earlier version, which did not keep what is needed: run it again"
        )
    if model.is_dir():
        check_model(model)
    if run.text_base and not model.is_dir():
        raise UserError(
            f"{shown(model)}, the model that has read the texts without labels, is gone: the command that made "
            f"{shown(original)} makes it again ({run.command})"
        )
    if not model.is_dir() or fingerprint(model) != run.model_fingerprint:
        raise UserError(f"{shown(model)} is not the model that {shown(original)} was made with: put that one back")
    if (start := run.start_adapter) and not (start / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"{shown(start)}, the adapter that {shown(original)} went on from, is gone: put it back")
    machine = used_by(run.sft_values(), here)
    now = {**software(), "machine_text": machine.describe(), "machine": machine.as_dict()}
    for line in differences(dataclasses.asdict(run), now):
        print(f"again: {line}", file=sys.stderr)
    sft = run.sft_values() | {"output_dir": str(again / "train")}
    if template := sft.get("template"):
        check_template(str(template), shown(original / "sft.yaml"))
    # The dataset is made here, whatever place the original's record names.
    dataset = DATASETS / check_name(run.dataset.name, "dataset", shown(original / RECORD))
    check_no_pattern(dataset)
    repetition = dataclasses.replace(run, folder=again, dataset=dataset, fresh=False, again_of=original, **now)
    return Plan(repetition, sft, run.infer_values(), table)


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, one line each: packages, Python, git revision, machine."""
    found = []
    versions = then["versions"] | {"python": then["python"]}, now["versions"] | {"python": now["python"]}
    for name in sorted(versions[0].keys() | versions[1].keys()):
        before, after = (listed.get(name, "absent") for listed in versions)
        if before != after:
            found.append(f"{name} was {before} and is {after}")
    for key, name in (("git", "the repository"), ("machine_text", "the machine")):
        if then[key] != now[key]:
            found.append(f"{name} was {then[key]} and is {now[key]}")
    return found


def compare(again: Path) -> str:
    """One sentence: whether the tuned weights of the run `again` have the bytes of its original's.

    Raises `UserError` when `again` is no repetition, or one of the two is not tuned.
    """
    again_of = Run.read(again).again_of if (again / RECORD).is_file() else None
    if again_of is None:
        raise UserError(f"{shown(again)} is not a repetition: make one with `bash run_sft.sh again RUN`")
    one, other = best_checkpoint(again_of), best_checkpoint(again)
    same = weights_sha256(one) == weights_sha256(other)
    verdict = "holds the same weights, byte for byte, as" if same else "holds other weights than"
    return f"again: {shown(other)} {verdict} {shown(one)}"


if __name__ == "__main__":
    run_main(main)
