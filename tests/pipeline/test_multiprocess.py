"""Several processes: shares of a batch, how they are started, and for real two processes of ms-swift on the CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from eval.inference.budget import FEWEST_ASKED
from eval.inference.journal import AttemptFiles, deal, read_journal
from eval.inference.prompts import Prompt
from plan import distributed as processes
from plan.distributed import (
    ACCUMULATION,
    BATCH,
    Processes,
    batch_line,
    launch_environment,
    left_out_line,
    planned_processes,
    rows_a_step,
    share_batch,
    steps_an_epoch,
)
from plan.hardware import Machine, child_environment
from plan.recipes import load_recipe
from plan.resolve import resolve_sft
from tests.journals import write_attempt
from train.sft import tune
from workspace.child_process import Child, run_children
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

CPU = Machine("cpu", 4, 24.0, None, 0, 0.0, False)
EIGHT = Machine("cpu", 64, 512.0, "H200", 8, 141.0, True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 2816, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def resolved(model: Path, tmp_path: Path) -> Callable:
    def resolve(*overrides: str, machine: Machine = CPU, options: dict | None = None, **environ: str) -> dict:
        recipe = load_recipe("hotel_reviews", overrides)
        return resolve_sft(recipe, options or {}, machine, model, tmp_path, tmp_path, environ)

    return resolve


# how many


def test_one_process_is_the_default_and_leaves_the_recipe_alone(resolved) -> None:
    values = resolved()
    assert "ENV" not in values and "ddp_backend" not in values
    assert planned_processes(values) == Processes(1, 1, False)
    assert launch_environment(values, CPU, {"NPROC_PER_NODE": "8"}) == {}


def test_the_environment_comes_before_the_override(resolved) -> None:
    every = resolved("multi-gpu", machine=EIGHT)
    assert every["ENV"] == {"NPROC_PER_NODE": "8"} and "ddp_backend" not in every
    assert resolved("multi-gpu", machine=EIGHT, NPROC_PER_NODE="2")["ENV"] == {"NPROC_PER_NODE": "2"}
    nodes = resolved("multi-node", machine=EIGHT, NNODES="4", NODE_RANK="0")
    assert nodes["ENV"] == {"NPROC_PER_NODE": "8", "NNODES": "4"}
    assert planned_processes(nodes).world == 32


def test_on_a_cpu_the_processes_exchange_their_gradients(resolved) -> None:
    values = resolved(NPROC_PER_NODE="2")
    assert (values["ddp_backend"], values["use_cpu"], values["ENV"]) == ("gloo", True, {"NPROC_PER_NODE": "2"})


def test_every_process_has_its_share_of_the_memory(resolved) -> None:
    machine = Machine("cpu", 4, 48.0, None, 0, 0.0, False)
    assert resolved(machine=machine)[BATCH] == 8
    shared = resolved(machine=machine, NPROC_PER_NODE="2", options={BATCH: "8", ACCUMULATION: "1"})
    assert (shared[BATCH], shared[ACCUMULATION]) == (4, 2)


@pytest.mark.parametrize(
    ("overrides", "machine", "environ", "message"),
    [
        (["multi-gpu"], CPU, {}, "no GPU is seen here: .* NPROC_PER_NODE=2"),
        ([], EIGHT, {"NPROC_PER_NODE": "9"}, "NPROC_PER_NODE is 9, but 8 GPUs are seen"),
        ([], CPU, {"NPROC_PER_NODE": "two"}, "NPROC_PER_NODE is 'two', expected a whole number from 1 on"),
        ([], CPU, {"NPROC_PER_NODE": "0"}, "NPROC_PER_NODE is '0'"),
        (["multi-node"], EIGHT, {"NODE_RANK": "1"}, r"NODE_RANK is not 0: .*python -m train.sft RUN"),
        (["zero2"], EIGHT, {}, "deepspeed needs torchrun: add `--with multi-gpu`"),
        (["fsdp2"], EIGHT, {}, "fsdp needs torchrun"),
        (["fsdp2"], CPU, {"NPROC_PER_NODE": "2"}, "fsdp needs GPUs"),
    ],
)
def test_what_cannot_be_is_one_sentence(resolved, overrides, machine, environ, message) -> None:
    with pytest.raises(UserError, match=message):
        resolved(*overrides, machine=machine, **environ)


# shares


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 1), (4, 2), (16, 1), (6, 4), (1, 8)])
@pytest.mark.parametrize("world", [2, 4, 8])
def test_all_processes_together_take_the_recipes_rows_a_step(batch: int, accumulation: int, world: int) -> None:
    wanted = {BATCH: batch, ACCUMULATION: accumulation}
    values = wanted | share_batch(wanted, {}, Processes(world, 1, True)) | {"ENV": {"NPROC_PER_NODE": str(world)}}
    assert 1 <= values[BATCH] <= batch
    if batch * accumulation % world == 0:
        assert rows_a_step(values) == batch * accumulation
        assert "as with one process" in batch_line(wanted, values)
    else:
        assert f"not the {batch * accumulation} of one process" in batch_line(wanted, values)


@pytest.mark.parametrize(("world", "rows"), [(3, 9), (5, 10), (16, 16), (12, 12)])
def test_a_batch_that_cannot_be_shared_evenly_is_the_nearest_and_told(world: int, rows: int) -> None:
    wanted = {BATCH: 8, ACCUMULATION: 1}
    values = wanted | share_batch(wanted, {}, Processes(world, 1, True)) | {"ENV": {"NPROC_PER_NODE": str(world)}}
    assert rows_a_step(values) == rows
    assert f"{rows} rows a step, not the 8 of one process" in batch_line(wanted, values)


def test_a_batch_given_by_the_user_is_that_of_each_process(resolved) -> None:
    values = resolved("multi-gpu", machine=EIGHT, options={BATCH: "4"})
    assert rows_a_step(values) == 32


def test_steps_are_counted_as_ms_swift_does() -> None:
    """ms-swift leaves out the rows that do not divide among the processes; the last batch may be short."""
    two = {BATCH: 4, ACCUMULATION: 1, "ENV": {"NPROC_PER_NODE": "2"}}
    assert [steps_an_epoch(two, rows) for rows in (48, 49, 50, 1)] == [6, 6, 7, 1]
    assert steps_an_epoch({BATCH: 8}, 49) == 7
    assert steps_an_epoch({**two, ACCUMULATION: 2}, 49) == 3
    assert left_out_line(two, 48) is None
    assert left_out_line(two, 49).startswith("1 of 49 rows left out")


# how they are started


def test_a_launcher_around_the_command_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that sets RANK and WORLD_SIZE would have `swift infer` answer a share of the rows alone."""
    for key in ("NPROC_PER_NODE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "NNODES", "NODE_RANK"):
        monkeypatch.setenv(key, "2")
    assert not {"NPROC_PER_NODE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} & child_environment(CPU).keys()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert child_environment(CPU, 2)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in child_environment(CPU)


def test_each_run_meets_at_a_port_of_its_own_and_takes_one_gpu_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"ENV": {"NPROC_PER_NODE": "2"}}
    env = launch_environment(values, CPU, {})
    assert (env["NPROC_PER_NODE"], env["MASTER_ADDR"]) == ("2", "127.0.0.1") and int(env["MASTER_PORT"]) > 0
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert launch_environment(values, EIGHT, {})["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    four = Machine("cpu", 64, 512.0, "H200", 4, 141.0, True)
    assert launch_environment(values, four, {})["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert processes.device_environment(four, range(3, 4)) == {"CUDA_VISIBLE_DEVICES": "7"}
    with pytest.raises(UserError, match="planned for 8 GPUs and 4 are seen"):
        launch_environment({"ENV": {"NPROC_PER_NODE": "8"}}, four, {})


def test_several_nodes_meet_where_the_environment_says() -> None:
    values = {"ENV": {"NPROC_PER_NODE": "8", "NNODES": "2"}}
    env = launch_environment(values, EIGHT, {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "3000"})
    assert {key: env[key] for key in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")} == {
        "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "3000",
    }  # fmt: skip
    for environ in ({}, {"MASTER_ADDR": "first"}, {"NODE_RANK": "0"}):
        with pytest.raises(UserError, match=r"set NODE_RANK .* and MASTER_ADDR"):
            launch_environment(values, EIGHT, environ)


def test_children_run_side_by_side_and_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    meet = (
        "import sys, time; from pathlib import Path; here = Path(sys.argv[1]); (here / sys.argv[2]).touch()\n"
        "while not (here / sys.argv[3]).exists(): time.sleep(0.05)"
    )
    pair = [("a", "b"), ("b", "a")]
    children = [
        Child([sys.executable, "-c", meet, str(tmp_path), *names], tmp_path / f"{names[0]}.log", dict(os.environ))
        for names in pair
    ]
    run_children(children, "t", 2, lambda: 0)
    sleeps = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    fails = (
        "import sys, time\nfrom pathlib import Path\n"
        "while not Path(sys.argv[1]).read_text().strip().endswith(tuple('0123456789')): time.sleep(0.05)\n"
        "print('the reason'); raise SystemExit(3)"
    )
    log = tmp_path / "sleeps.log"
    log.touch()
    with pytest.raises(UserError, match=r"(?s)failed with status 3; see .*fails.log.*the reason"):
        run_children(
            [
                Child([sys.executable, "-c", sleeps], log, dict(os.environ)),
                Child([sys.executable, "-c", fails, str(log)], tmp_path / "fails.log", dict(os.environ)),
            ],
            "t", 2, lambda: 0,
        )  # fmt: skip
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text().split()[-1]), 0)


# the journal


def prompts(count: int) -> list[Prompt]:
    return [Prompt("test", f"r{n}", "正面", False, ({"role": "user", "content": f"{n}"},)) for n in range(count)]


@pytest.mark.parametrize("hands", [1, 2, 3, 7, 50])
def test_prompts_are_dealt_without_loss_and_each_share_keeps_their_order(hands: int) -> None:
    every = prompts(23)
    shares = deal(every, hands)
    assert len(shares) == min(hands, 23) and all(shares)
    assert sorted(one.id for share in shares for one in share) == sorted(one.id for one in every)
    assert all(share == sorted(share, key=every.index) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_interrupted_evaluation_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    every = prompts(20)
    for number, (share, results, scores) in enumerate(zip(deal(every, 2), (8, 5), (10, 5), strict=True)):
        write_attempt(tmp_path, f"000000-{number}", share, results, scores)
    first = read_journal(tmp_path, every)
    assert len(first) == 8 + 5
    rest = [one for one in every if one.key not in first]
    for number, share in enumerate(deal(rest, 3)):
        write_attempt(tmp_path, f"000013-{number}", share)
    found = read_journal(tmp_path, every)
    assert {one.key: f"answer {one.id}" for one in every} == {key: one.text for key, one in found.items()}


# for real, with two processes

# In float32: what is compared is rounded otherwise by two processes than by one, in bfloat16 by up to 3 %.
LIMIT = ("--limit", "48", "--logging_steps", "1", "--bf16", "false")
PREP = "{python} -m plan demo {words}"


def shell(command: str, **env: str) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("NPROC_PER_NODE", "NNODES", "NODE_RANK")}
    result = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, env=clean | env)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout + result.stderr


def prepare(run: Path, *words: str, **env: str) -> None:
    shell(PREP.format(python=sys.executable, words=" ".join([*LIMIT, "--run", str(run), *words])), **env)


def log_history(run: Path) -> list[dict]:
    newest = max((run / "train").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return read_json(newest / "trainer_state.json")["log_history"]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in log_history(run) if "loss" in line]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> tuple[Path, str]:
    """The whole pipeline with NPROC_PER_NODE=2, and what it printed."""
    run = tmp_path_factory.mktemp("two") / "run"
    words = " ".join([*LIMIT, "--num_train_epochs", "1", "--run", str(run)])
    return run, shell(f"bash run_sft.sh demo {words}", NPROC_PER_NODE="2")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    """The untuned answers, and three steps of training, by one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    prepare(run, "--max_steps", "3", "--eval_strategy", "no")
    shell(f"{sys.executable} -m eval.infer {run} before && {sys.executable} -m train.sft {run}")
    return run


@pytest.mark.swift
def test_two_processes_log_the_losses_of_one(two, one: Path) -> None:
    run, printed = two
    assert "process  2, batch 4 x 1 each: 8 rows a step, as with one process" in printed
    assert len(losses(one)) == 3
    assert losses(run)[:3] == pytest.approx(losses(one), rel=1e-4)


@pytest.mark.swift
def test_steps_and_checkpoint_are_those_that_were_planned(two) -> None:
    run, _ = two
    values = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))
    state = read_json(run / "train" / "checkpoint-6" / "trainer_state.json")
    assert state["max_steps"] == steps_an_epoch(values, 48) == 6
    assert {path.name for path in (run / "train" / "checkpoint-6").glob("rng_state*")} == {
        "rng_state_0.pth", "rng_state_1.pth",
    }  # fmt: skip


@pytest.mark.swift
def test_the_validation_metric_is_that_of_the_answers(two) -> None:
    """Twelve validation rows do not fill two batches of eight: the metric counts each row once."""
    run, _ = two
    rows = read_jsonl(run / "after" / "val.jsonl")
    right = np.mean([max(row["probabilities"], key=row["probabilities"].get) == row["gold"] for row in rows])
    assert len(rows) == 12 and 0 < right < 1
    [measured] = {line["eval_label_accuracy"] for line in log_history(run) if "eval_label_accuracy" in line}
    assert measured == pytest.approx(right)
    seen = read_json(run / "train" / "label_metric.json")
    assert (seen["train_rows"], seen["val_rows"], len(seen["val_prompt_sha256"])) == (48, 12, 12)


@pytest.mark.swift
def test_no_row_is_lost_and_none_is_answered_otherwise_than_by_one_process(two, one: Path) -> None:
    run, _ = two
    assert len(list((run / "before" / "journal").glob("*.results.jsonl"))) == 2
    dataset = Path(read_json(run / "run.json")["dataset"])
    for split, names in (("test", ("before/test", "before/few_shot", "after/test")), ("val", ("after/val",))):
        ids = [row["id"] for row in read_jsonl(dataset / f"{split}.jsonl")]
        for name in names:
            answered = [row["id"] for row in read_jsonl(run / f"{name}.jsonl")]
            asked = set(answered) if name.startswith("before") else set(ids)
            assert answered == [key for key in ids if key in asked]
            assert len(answered) == (FEWEST_ASKED if name.startswith("before") else len(ids))
    same_answers(run, one)
    assert [gate["name"] for gate in read_json(run / "metrics.json")["parity"] if not gate["ok"]] == []


def same_answers(run: Path, other: Path) -> None:
    for name in ("test", "few_shot", "val"):
        mine, theirs = (read_jsonl(folder / "before" / f"{name}.jsonl") for folder in (run, other))
        for one_row, other_row in zip(mine, theirs, strict=True):
            assert {key: one_row[key] for key in ("id", "answer", "prompt_tokens")} == {
                key: other_row[key] for key in ("id", "answer", "prompt_tokens")
            }
            assert one_row["probabilities"] == pytest.approx(other_row["probabilities"], abs=1e-4)


@pytest.mark.swift
def test_an_evaluation_cut_off_in_one_process_goes_on_with_the_rows_that_are_left(two, one: Path) -> None:
    run, _ = two
    first, files = AttemptFiles.all_in(run / "before" / "journal")
    asked = len(read_jsonl(files.prompts))
    for path in (files.results, files.scores):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    (run / "stages" / "before.json").unlink()
    printed = shell(f"{sys.executable} -m eval.infer {run} before")
    total = asked + len(read_jsonl(first.prompts))
    assert f"going on after {total - asked + 5} of {total} prompts" in printed
    same_answers(run, one)


@pytest.mark.swift
@pytest.mark.all
def test_two_nodes_tune_as_one(one: Path, tmp_path: Path) -> None:
    """Two torchruns on this machine, of one process each, as on two machines that share the folder."""
    run = tmp_path / "run"
    meet = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(processes.free_port())}
    prepare(run, "--max_steps", "3", "--eval_strategy", "no", **meet, NODE_RANK="0")
    command = [sys.executable, "-m", "train.sft", str(run)]
    nodes = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | meet | {"NODE_RANK": str(rank)},
        )
        for rank in (1, 0)
    ]  # fmt: skip
    said = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "node 1 waits for the first node at 127.0.0.1" in said[0]
    assert "best checkpoint checkpoint-3" in said[1] and "best checkpoint" not in said[0]
    assert losses(run) == pytest.approx(losses(one), rel=1e-4)


# accelerate uses FSDP on GPUs alone; FSDP2 itself runs on a CPU too.
FSDP_ON_CPU = """
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

start = AcceleratorState.__init__


def start_with_fsdp(self, *args, **kwargs):
    start(self, *args, **kwargs)
    plugin = kwargs.get("fsdp_plugin") or AcceleratorState._shared_state.get("fsdp_on_cpu")
    if plugin is not None:
        AcceleratorState._shared_state["fsdp_on_cpu"] = plugin
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin


AcceleratorState.__init__ = start_with_fsdp
"""


@pytest.mark.swift
@pytest.mark.all
def test_fsdp2_trains_as_one_process_and_leaves_a_whole_adapter(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    run = tmp_path / "run"
    prepare(run, "--max_steps", "3", "--eval_strategy", "epoch", "--num_train_epochs", "1", NPROC_PER_NODE="2")
    plugin = tmp_path / "fsdp_on_cpu.py"
    plugin.write_text(FSDP_ON_CPU, encoding="utf-8")
    values = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))
    values["fsdp"] = load_recipe("demo", ["fsdp2"]).sft["fsdp"]
    values["external_plugins"].insert(0, str(plugin))
    monkeypatch.setattr("workspace.gate._plugin_fault", lambda text: None)  # one that lies outside of plugins/
    (run / "sft.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    tune(run, estimate=False)
    assert losses(run) == pytest.approx(losses(one), rel=1e-3)
    mine, theirs = (load_file(folder / "train" / "checkpoint-3" / "adapter_model.safetensors") for folder in (run, one))
    assert mine.keys() == theirs.keys()
    assert max(np.abs(mine[key] - theirs[key]).max() for key in theirs) < 1e-4
    assert any(np.abs(mine[key]).max() > 1e-3 for key in mine if "lora_B" in key)
