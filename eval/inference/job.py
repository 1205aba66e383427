"""`swift infer` over prompts: which backend answers, and as many processes side by side as the run is planned for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.inference.journal import AttemptFiles, count_lines, deal, new_name
from eval.inference.prompts import Prompt, modes
from plan import cpu_kernels
from plan.distributed import check_planned_for, device_environment, planned_processes, whole_number
from plan.hardware import child_environment, one_gpu, this_machine, used_by
from plan.provenance import code_sha256, current_model, made_by
from plan.resolve import HEAD_PLUGIN
from plan.resolve_infer import VLLM_SPREAD, cards_needed
from plan.resolved import is_head, resolved_values
from plan.result_values import result_values
from plan.run import Run
from train.checkpoints import best_checkpoint, model_options, settings_sha256, weights_sha256
from workspace.child_process import Child, run_children
from workspace.errors import UserError
from workspace.files import sha256_json, write_json
from workspace.paths import ROOT, shown

BATCH = "max_batch_size"


class Backend(NamedTuple):
    """What answers: the plugin that scores labels, the variable that names its settings, options of `swift infer`."""

    plugin: Path
    variable: str
    options: tuple[str, ...] = ()


TRANSFORMERS = Backend(ROOT / "plugins" / "label_scores.py", "LABEL_SCORES")
VLLM = Backend(ROOT / "plugins" / "label_scores_vllm.py", "LABEL_SCORES_VLLM")


def choose_backend(run: Path, side: str, classes: int) -> Backend:
    """What answers on the side `before` or `after`. A head starts random: before tuning, the model answers in words."""
    path = run / "infer.yaml"
    if path.is_file() and resolved_values(path).get("infer_backend") == "vllm":
        return VLLM
    if side == "before" or not is_head(run):
        return TRANSFORMERS
    options = ("--task_type", "seq_cls", "--num_labels", str(classes))
    return Backend(HEAD_PLUGIN, "LABEL_HEAD", (*options, "--logprobs", "true", "--top_logprobs", str(classes)))


class InferenceJob(NamedTuple):
    """What is the same for every prompt of a stage. `stage` is its folder below the run's: before, injection/after."""

    run: Run
    stage: str
    adapter: Path | None
    backend: Backend

    @classmethod
    def of(cls, run: Run, side: str, stage: str | None = None) -> "InferenceJob":
        """The job of asking the model as it is before tuning (`side` "before") or the tuned one ("after").

        Raises `UserError` before training has finished where the tuned one is meant.
        """
        adapter = best_checkpoint(run.folder) if side == "after" else run.start_adapter
        return cls(run, stage or side, adapter, choose_backend(run.folder, side, len(run.labels)))

    @property
    def folder(self) -> Path:
        """Where its logs and responses go."""
        return self.run.folder / self.stage

    @property
    def journal(self) -> Path:
        """The folder of everything that came back so far."""
        return self.folder / "journal"

    @property
    def dtype(self) -> str:
        """What the model computes in; float32 where the run does not say."""
        return str(infer_values(self.run).get("torch_dtype", "float32"))

    def inputs(self) -> dict[str, Any]:
        """What the responses depend on, by hash, next to the prompts: model, adapter, plugin, how text is generated."""
        return {
            **model_inputs(self.run),
            **adapter_inputs(self.adapter),
            "plugin": code_sha256([self.backend.plugin]),
        }

    def made_by(self) -> dict[str, str]:
        """What answers here and now, for the record."""
        return made_by([self.backend.plugin, *infer_values(self.run).get("external_plugins", [])])


def model_inputs(run: Run) -> dict[str, Any]:
    """What all responses depend on next to the prompts and the adapter: the model, and how text is generated.

    What changes speed alone is left out: another machine, or another measurement of this one, asks nothing again.
    """
    return {"infer_settings": sha256_json(result_values(infer_values(run))), "model": current_model(run)}


def adapter_inputs(adapter: Path | None) -> dict[str, Any]:
    """What the tuned model's responses depend on next to the untuned one's: weights, and how they are applied."""
    settings = settings_sha256(adapter) if adapter else None
    return {"adapter": weights_sha256(adapter) if adapter else None, "adapter_settings": settings}


def run_processes(job: InferenceJob, prompts: Sequence[Prompt], batch: int) -> None:
    """Have `swift infer` answer the prompts, `batch` at a time, into new files of the journal.

    Each is a process of its own with a share of the rows, not a rank of torchrun: `swift infer` would write the rows
    of one rank alone on a CPU, and one that fails would take the others' responses with it.
    Raises as `run_children` does.
    """
    run, backend, values = job.run, job.backend, infer_values(job.run)
    check_planned_for(run.machine, here := this_machine())
    tuning = run.sft_values() if (run.folder / "sft.yaml").is_file() else {}
    machine, processes = used_by(tuning, here), planned_processes(tuning)
    by_vllm = math.prod(whole_number(values, key) for key in VLLM_SPREAD)
    loaded = {"model": str(run.model_folder), **values}  # of a YAML that names none
    cards = by_vllm if backend is VLLM else cards_needed(loaded, machine)
    # The plugins of tuning stay out: the backend's own plugin registers the template that it needs.
    plugins = [plugin for plugin in values.get("external_plugins", []) if plugin in cpu_kernels.PLUGINS]
    children, scores = [], []
    shares = deal(prompts, max(1, min(processes.per_node, (machine.gpus or processes.per_node) // cards)))
    name = new_name()
    for number, share in enumerate(shares):
        files = AttemptFiles.named(job.journal, f"{name}-{number}")
        settings = {"template": values["template"], "labels": list(run.labels), "modes": modes(share)}
        write_json(files.plugin, {**settings, "out": str(files.scores)})
        files.write_prompts(share)
        command = ["swift", "infer", str(run.folder / "infer.yaml"), "--val_dataset", str(files.prompts)]
        command += ["--result_path", str(files.results), "--load_data_args", "false", f"--{BATCH}", str(batch)]
        command += ["--external_plugins", str(backend.plugin), *plugins, *backend.options]
        command += model_options(job.adapter) if job.adapter else []
        env = child_environment(machine, len(shares)) | {backend.variable: str(files.plugin)}
        own = range(number * cards, (number + 1) * cards)
        env |= device_environment(machine, own) if processes.launched or cards > 1 else one_gpu(machine)
        log = f"swift.{number}.log" if number else "swift.log"
        children.append(Child(command, job.folder / log, env))
        scores.append(files.scores)
    run_children(children, job.stage, len(prompts), lambda: sum(map(count_lines, scores)))


def infer_values(run: Run) -> dict[str, Any]:
    """The keys of the run's infer.yaml. Raises `UserError` when it names no template."""
    values = run.infer_values()
    if "template" not in values:
        raise UserError(f"{shown(run.folder / 'infer.yaml')} names no template: add the recipe's `template:` line")
    return values
