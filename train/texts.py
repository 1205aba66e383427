"""Language modelling on texts without labels (`swift pt`), before the tuning; done once for all runs that begin so.

Run as: python -m train.texts RUN, where the task has `unlabelled`

The model that comes of it takes the place of the run's own: "before", the tuning and all that follows go on from it. It
is kept in the cache, by the hash of the model it began as, of the texts and of the settings, and used again by every
run that has these. Interrupted, it goes on from its newest whole checkpoint.
"""

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.find import fingerprint
from hub.model_files import CONTENT
from plan.disk import check_space
from plan.hardware import this_machine, used_by
from plan.memory import found_before
from plan.provenance import current_model, made_by
from plan.result_values import result_values
from plan.run import Notice, Run, locked_run, tell_folder
from plan.texts import RECORD, TEXTS, pt_values
from plan.training_memory import weights_gib
from train.checkpoints import best_checkpoint
from train.sft import tune_run
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import remove, sha256_file, sha256_json
from workspace.folder_lock import locked
from workspace.marker import mark
from workspace.paths import cache_folder, shown
from workspace.records import read

STAGE, MODEL = "texts", "model"
MANY = 5000  # texts in all epochs: before more are read, the time is measured, which takes half a minute
KEPT_COPIES = 7  # of the weights on the disk: two checkpoints of three, while the second is written, and the model
KEPT = (*CONTENT, "README.md", "LICENSE")  # of the model it began as


@dataclass(frozen=True)
class Texts:
    """RUN/texts/texts.json: the file of texts, and how many of them became what (data_prep.unlabelled)."""

    path: str
    sha256: str
    given: int
    used: int
    held_out: int
    repeated: int

    @classmethod
    def read(cls, folder: Path) -> "Texts":
        """The record in RUN/texts. Raises `UserError` where it cannot be read."""
        return read(folder / RECORD, cls, "run the same `bash run_sft.sh` command again")


def main(argv: Sequence[str] | None = None) -> int:
    """Have the model of a run learn from texts without labels."""
    parser = Parser("python -m train.texts", __doc__)
    parser.add_argument("run", type=given_path, help="the run folder, made by `python -m plan`")
    folder = parser.parse_args(argv).run.absolute()
    with locked_run(folder), contextlib.redirect_stdout(sys.stderr):
        learn_texts(folder)
        if (folder / TEXTS).is_dir():
            tell_folder(folder)  # its record is another by now
    return 0


def learn_texts(folder: Path) -> None:
    """Have a run begin with the model that has read its texts; nothing where it has none, or begins so already.

    Raises `UserError` where `swift pt` fails.
    """
    run, texts = Run.read(folder), folder / TEXTS
    if run.text_base or not texts.is_dir():
        return
    if run.model_folder is None:
        raise UserError(f"{shown(folder)} names no model: run the same `bash run_sft.sh` command again")
    found, base = Texts.read(texts), run.model_folder
    if current_model(run) != run.model_fingerprint:
        raise UserError(
            f"{shown(base)} is another model than was planned: run the same `bash run_sft.sh` command again"
        )
    model = _learned(run, base)
    header = f"# {run.recipe}; its model is {shown(base)} after {found.used} texts without labels"
    for command, values in (("sft", run.sft_values()), ("infer", run.infer_values())):
        path = shown(folder / f"{command}.yaml")
        run.write_yaml(command, values | {"model": str(model)}, f"{header}\n# Run as: swift {command} {path}")
    notice = _notice(found, Path(str(run.model)).name)
    new = dataclasses.replace(
        run, model_folder=model, model_fingerprint=fingerprint(model), text_base=base, notice=notice
    )
    new.write()


def _learned(run: Run, base: Path) -> Path:
    """The folder of the model that has read the run's texts, trained where it is not in the cache."""
    values = pt_values(run, used_by(run.sft_values(), this_machine()), Path())
    settings = {key: value for key, value in result_values(values).items() if key != "external_plugins"}
    inputs = {
        "model": current_model(run),
        "train.jsonl": sha256_file(run.folder / TEXTS / "train.jsonl"),
        "settings": sha256_json(settings),
    }
    folder = cache_folder() / "texts" / sha256_json(inputs)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        mark(folder, "cache")
        if stages.finished(folder, STAGE, inputs):
            return folder / MODEL
        stages.forget(folder, STAGE)
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        needed = max(int(KEPT_COPIES * weights_gib(base) * 2**30) - there, 0)
        check_space({folder: needed}, {folder: "SWIFT_SFT_CACHE"})
        inner = dataclasses.replace(
            run, folder=folder, dataset=run.folder / TEXTS, start_adapter=None, auto_batch=True, seed=values["seed"]
        )
        values |= {"output_dir": str(inner.train_folder)} | found_before(folder)
        path = folder / "sft.yaml"
        inner.write_yaml("sft", values, f"# texts without labels, for {shown(run.folder)}\n# Run as: swift pt {path}")
        tune_run(inner, estimate=Texts.read(inner.dataset).used * values["num_train_epochs"] >= MANY)
        outputs = _write_model(best_checkpoint(folder), base, folder)
        seconds = stages.seconds_taken(folder, "train") or 0.0
        stages.record(folder, STAGE, inputs, outputs, seconds, made_by(values["external_plugins"]))
        stages.forget(folder, "train")
        remove(inner.train_folder)  # the optimiser's state is twice the model
    return folder / MODEL


def _write_model(checkpoint: Path, base: Path, folder: Path) -> list[Path]:
    """Write the model's folder, whole or not at all: the weights of a checkpoint, all else as the base has it.

    The checkpoint's own args.json would have ms-swift leave the chat template out, and another config.json would have
    the dataset made again; it names the base's dtype, while the weights are float32. The files.
    """
    target = folder / MODEL
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as scratch:
        built = Path(scratch) / MODEL
        built.mkdir()
        for name in KEPT:
            if (base / name).is_file():
                shutil.copyfile(base / name, built / name)
        for path in (*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.safetensors.index.json")):
            shutil.copyfile(path, built / path.name)
        if target.exists():
            remove(target)
        os.replace(built, target)
    return sorted(path for path in target.iterdir() if path.is_file())


def _notice(texts: Texts, model: str) -> Notice:
    """What "before" is in this run, and which texts were read."""
    name, left_out = Path(texts.path).name, texts.held_out + texts.repeated
    zh = (
        f"本次运行的模型先以续写方式读了 {name} 中 {texts.used} 条无标签文本（swift pt），"
        f"“调优前”就是读过之后的 {model}。"
    )
    en = (
        f"The model has read {texts.used} texts without labels of {name} first (swift pt); "
        f"“before” is {model} after that."
    )
    if not left_out:
        return {"zh": zh, "en": en}
    return {
        "zh": f"{zh}另有 {texts.held_out} 条（或其近似文本）在验证集或测试集里、{texts.repeated} 条重复，均未使用。",
        "en": f"{en} Left out: {texts.held_out} that stand in a validation or test row, word for word or nearly, and "
        f"{texts.repeated} that are there twice.",
    }


if __name__ == "__main__":
    run_main(main)
