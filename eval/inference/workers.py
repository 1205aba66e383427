"""`swift infer` over requests: as many processes side by side as the run is planned for, each with a share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from eval.inference.backends import Way
from eval.inference.journal import count_lines, deal, journal_files
from eval.inference.prompts import Request, modes
from plan import cpu_kernels as precision
from plan.distributed import device_environment, planned_processes
from plan.hardware import child_environment, this_machine
from train.checkpoints import model_options
from workspace.child_process import Child, run_children
from workspace.errors import UserError
from workspace.files import write_json, write_jsonl
from workspace.paths import shown

BATCH = "max_batch_size"


class Question(NamedTuple):
    """What is the same for every request of a stage: the run, its labels, the tuned weights if any, and the way."""

    run: Path
    stage: str
    labels: list[str]
    adapter: Path | None
    way: Way

    @property
    def journal(self) -> Path:
        """The folder of everything that came back so far."""
        return self.run / self.stage / "journal"


def ask(question: Question, attempt: str, requests: Sequence[Request], batch: int) -> None:
    """Have `swift infer` answer the requests, `batch` at a time, into the journal's files named by `attempt`.

    Each is a process of its own with a share of the rows, not a rank of torchrun: `swift infer` would write the rows
    of one rank alone on a CPU, and one that fails would take the others' answers with it.
    Raises as `run_children` does.
    """
    run, way, machine = question.run, question.way, this_machine()
    sft = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8")) if (run / "sft.yaml").is_file() else {}
    processes = planned_processes(sft)
    values = infer_values(run)
    template = values["template"]
    # The plugins of tuning stay out: the way's own plugin registers the template that it needs.
    plugins = [plugin for plugin in values.get("external_plugins", []) if plugin in precision.PLUGINS]
    children, scores = [], []
    shares = deal(requests, min(processes.per_node, machine.gpus or processes.per_node))
    for number, share in enumerate(shares):
        files = journal_files(question.journal, f"{attempt}-{number}")
        for path in files:
            path.unlink(missing_ok=True)
        write_jsonl(files.requests, ({"id": one.key, "messages": list(one.messages)} for one in share))
        config = {"template": template, "labels": question.labels, "modes": modes(share), "out": str(files.scores)}
        write_json(files.plugin, config)
        command = ["swift", "infer", str(run / "infer.yaml"), "--val_dataset", str(files.requests)]
        command += ["--result_path", str(files.results), "--load_data_args", "false", f"--{BATCH}", str(batch)]
        command += ["--external_plugins", str(way.plugin), *plugins, *way.options]
        command += model_options(question.adapter) if question.adapter else []
        env = child_environment(machine, len(shares)) | {way.variable: str(files.plugin)}
        if processes.launched:
            env |= device_environment(machine, range(number, number + 1))
        log = f"swift.{number}.log" if number else "swift.log"
        children.append(Child(command, run / question.stage / log, env))
        scores.append(files.scores)
    run_children(children, question.stage, len(requests), lambda: sum(map(count_lines, scores)))


def infer_values(run: Path) -> dict[str, Any]:
    """The keys of the run's infer.yaml. Raises `UserError` when it names no template."""
    path = run / "infer.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "template" not in values:
        raise UserError(f"{shown(path)} names no template: add the recipe's `template:` line")
    return values
