"""How many processes tune, on how many machines, what each one's share of a batch is, and how they find each other.

ms-swift starts torchrun where NPROC_PER_NODE or NNODES is set, in the environment or below `ENV:` in the YAML. A plan
settles both: its sft.yaml says how many processes there are, and the environment of the moment no longer counts, but
for what differs from node to node (NODE_RANK) and how the nodes find each other (MASTER_ADDR, MASTER_PORT).
"""

import math
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from plan.gpus import VISIBLE, choice_variable
from plan.hardware import Machine, one_gpu, visible_gpus
from plan.option_values import is_true
from workspace.errors import UserError

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
ALL_GPUS = "gpu"  # torchrun's own word for NPROC_PER_NODE
DEFAULT_PORT = 29500
POLL_SECONDS = 1.0
LAUNCHED = 8  # rows: a GPU waits for the launches of a step, which 64 rows hardly prolong (docs/results.md, H100)


class Processes(NamedTuple):
    """Processes a node and nodes. `launched`: torchrun starts them, be it one."""

    per_node: int = 1
    nodes: int = 1
    launched: bool = False

    @property
    def world(self) -> int:
        """All processes of all nodes."""
        return self.per_node * self.nodes

    def env(self) -> dict[str, str]:
        """The key `ENV` of sft.yaml."""
        nodes = {"NNODES": str(self.nodes)} if self.nodes > 1 else {}
        return {"NPROC_PER_NODE": str(self.per_node), **nodes} if self.launched else {}


def wanted_processes(values: Mapping[str, Any], machine: Machine, environ: Mapping[str, str]) -> Processes:
    """The processes that a recipe's `ENV` asks for; NPROC_PER_NODE and NNODES of the environment come first.

    Raises `UserError` for numbers that are none, for more processes than GPUs, and on a node that is not the first.
    """
    asked = {key: environ.get(key) or (values.get("ENV") or {}).get(key) for key in ("NPROC_PER_NODE", "NNODES")}
    if not any(asked.values()):
        if way := next((key for key in ("deepspeed", "fsdp") if values.get(key)), None):
            raise UserError(f"{way} needs torchrun: add `--with multi-gpu`, or set NPROC_PER_NODE")
        return Processes()
    if values.get("fsdp") and machine.gpu is None:
        raise UserError("fsdp needs GPUs: on a CPU it is left out without a word, and every process keeps all weights")
    nodes = _number("NNODES", asked["NNODES"] or 1)
    if nodes > 1 and node_rank(environ) > 0:
        raise UserError(
            "NODE_RANK is not 0: only the first node plans, prepares and evaluates; on the others run "
            "`python -m train.sft RUN`, with the run's folder"
        )
    if asked["NPROC_PER_NODE"] == ALL_GPUS:
        if machine.gpu is None:
            raise UserError("no GPU is seen here: for two processes on the CPU put NPROC_PER_NODE=2 before the command")
        return Processes(machine.gpus, nodes, True)
    per_node = _number("NPROC_PER_NODE", asked["NPROC_PER_NODE"] or 1)
    if machine.gpu is not None and per_node > machine.gpus:
        raise UserError(f"NPROC_PER_NODE is {per_node}, but {machine.gpus} GPUs are seen: one process a GPU at most")
    return Processes(per_node, nodes, True)


def planned_processes(values: Mapping[str, Any]) -> Processes:
    """The processes of a resolved sft.yaml."""
    env = values.get("ENV") or {}
    launched = "NPROC_PER_NODE" in env or "NNODES" in env
    return Processes(int(env.get("NPROC_PER_NODE", 1)), int(env.get("NNODES", 1)), launched)


def share_batch(values: Mapping[str, Any], fixed: Mapping[str, Any], processes: Processes) -> dict[str, int]:
    """Batch and accumulation of each process such that all together take the recipe's rows a step, or the nearest.

    What the user gave on the command line (`fixed`) is a process's share already: then nothing is changed.
    """
    if processes.world == 1 or BATCH in fixed or ACCUMULATION in fixed:
        return {}
    batch, accumulation = (whole_number(values, key) for key in (BATCH, ACCUMULATION))
    share = max(1, round(batch * accumulation / processes.world))
    batch = next(size for size in range(min(batch, share), 0, -1) if share % size == 0)
    return {BATCH: batch, ACCUMULATION: share // batch}


def smaller_batch(values: Mapping[str, Any]) -> dict[str, int]:
    """The next smaller batch with as many rows a step; none, an empty dictionary, from a batch of one on."""
    batch, total = whole_number(values, BATCH), whole_number(values, BATCH) * whole_number(values, ACCUMULATION)
    size = next((size for size in range(max(batch // 2, 1), 0, -1) if total % size == 0), batch)
    return {BATCH: size, ACCUMULATION: total // size} if size < batch else {}


def rows_a_step(values: Mapping[str, Any]) -> int:
    """Rows in one optimiser step of all processes together."""
    return whole_number(values, BATCH) * whole_number(values, ACCUMULATION) * planned_processes(values).world


def steps_an_epoch(values: Mapping[str, Any], rows: int) -> int:
    """Optimiser steps in a pass over `rows`, as ms-swift counts them: the rows that do not divide are left out."""
    batches = math.ceil(rows // planned_processes(values).world / whole_number(values, BATCH))
    return max(1, math.ceil(batches / whole_number(values, ACCUMULATION)))


def batch_line(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """One line on the processes and their batches; `wanted` are the keys before they were shared out."""
    processes = planned_processes(values)
    batch, accumulation = whole_number(values, BATCH), whole_number(values, ACCUMULATION)
    total, recipe = rows_a_step(values), whole_number(wanted, BATCH) * whole_number(wanted, ACCUMULATION)
    nodes = f" on {processes.nodes} nodes" if processes.nodes > 1 else ""
    text = f"{processes.world}{nodes}, batch {batch} x {accumulation} each: {total} rows a step"
    few = batch < LAUNCHED and _may_take_more(values)
    hint = "; so few rows a GPU are no sooner done than more: for throughput add --with large-batch" if few else ""
    if total == recipe:
        return f"{text}, as with one process{hint}"
    return f"{text}, not the {recipe} of one process ({processes.world} processes cannot share {recipe} evenly){hint}"


def throughput_line(values: Mapping[str, Any], machine: Machine) -> str | None:
    """A line where one GPU has so few rows a step that it waits for the launches; None where there is none to say."""
    rows = rows_a_step(values)
    if machine.gpu is None or planned_processes(values).launched or rows > LAUNCHED or not _may_take_more(values):
        return None
    return (
        f"{rows} rows a step, for which a large GPU takes nearly as long as for 64 (an H100: docs/results.md): with "
        "thousands of rows --with large-batch is sooner done; sweep --vary none large-batch tells whether it is as good"
    )


def _may_take_more(values: Mapping[str, Any]) -> bool:
    """Whether the override large-batch is for these keys: LoRA on a GPU, whole weights, activations that are kept."""
    apart = is_true(values, "use_cpu") or is_true(values, "gradient_checkpointing") or values.get("quant_bits")
    return not apart and values.get("tuner_type", "lora") == "lora"


def left_out_line(values: Mapping[str, Any], rows: int) -> str | None:
    """A line on the rows that an epoch leaves out, because every process takes as many; None when it is none."""
    world = planned_processes(values).world
    left = rows % world
    return f"{left} of {rows:,} rows left out of each epoch: {world} processes take equally many" if left else None


def node_rank(environ: Mapping[str, str]) -> int:
    """The number of this node, 0 for the first. Raises `UserError` where several nodes need it and it is no number."""
    return _number("NODE_RANK", environ.get("NODE_RANK") or 0, least=0)


def launch_environment(values: Mapping[str, Any], machine: Machine, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables from which ms-swift starts the processes of a resolved sft.yaml; for one, the card it takes.

    On one node the processes meet at a free port, so that two runs at a time do not meet each other. Raises
    `UserError` when several nodes are planned and the first is not named.
    """
    processes = planned_processes(values)
    if not processes.launched:
        return one_gpu(machine)
    env = processes.env() | device_environment(machine, range(processes.per_node))
    if processes.nodes == 1:
        return env | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    host, port = first_node(environ)
    return env | {"NODE_RANK": str(node_rank(environ)), "MASTER_ADDR": host, "MASTER_PORT": str(port)}


def device_environment(machine: Machine, which: range) -> dict[str, str]:
    """The GPUs number `which` of those that are seen, one a process: with more ms-swift would spread a model over them.

    Empty where there is no GPU. Raises `UserError` for more than are seen: the plan is from another machine.
    """
    if machine.gpu is None:
        return {}
    if which.stop > machine.gpus:
        raise UserError(
            f"the run is planned for {which.stop} GPUs and {machine.gpus} are seen: make them visible, or plan it for "
            "these by the same `bash run_sft.sh` command"
        )
    seen = visible_gpus(machine)
    return {choice_variable(): ",".join(seen[at] for at in which)}


def check_planned_for(planned: Mapping[str, Any], machine: Machine) -> None:
    """Raise `UserError` where a run was planned for a GPU (`planned`: its machine) and none is seen by now.

    ms-swift would compute on the CPU without a word, for days.
    """
    if planned.get("gpu") and machine.gpu is None:
        why = machine.gpu_fault or f"no driver of one, or {VISIBLE} hides it"
        raise UserError(
            f"the run is planned for {planned['gpu']} and no GPU is seen here ({why}): make it visible, or plan the "
            "run for the CPU by the same `bash run_sft.sh` command"
        )


def first_node(environ: Mapping[str, str]) -> tuple[str, int]:
    """Where the first node listens. Raises `UserError` when the environment does not say."""
    host = environ.get("MASTER_ADDR")
    if not host or "NODE_RANK" not in environ:
        raise UserError("several nodes are planned: set NODE_RANK (0 on the first) and MASTER_ADDR on each")
    return host, _number("MASTER_PORT", environ.get("MASTER_PORT") or DEFAULT_PORT)


def wait_for_first_node(environ: Mapping[str, str]) -> None:
    """Return when the first node tunes: its port is open only then."""
    address = first_node(environ)
    print(f"train: node {node_rank(environ)} waits for the first node at {address[0]}:{address[1]}", flush=True)
    while True:
        try:
            with socket.create_connection(address, POLL_SECONDS):
                return
        except OSError:
            time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def whole_number(values: Mapping[str, Any], key: str, default: int = 1) -> int:
    """The whole number below `key`. Raises `UserError` for what is none."""
    try:
        return int(values.get(key, default))
    except (TypeError, ValueError):
        raise UserError(f"{key} is {values[key]!r}, which is not a whole number") from None


def _number(key: str, value: Any, least: int = 1) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise UserError(f"{key} is {value!r}, expected a whole number from {least} on")
    return number
