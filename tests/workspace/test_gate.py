"""Strangers' files, in every command that reads them: refused in one sentence, nothing run, nothing lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

import data_prep.build
import doctor.__main__
import eval.baselines
import eval.infer
import eval.injection
import eval.label_audit
import eval.report
import plan.__main__
import train.rerun
import train.sft
import train.sweep
from hub.find import find_model, fingerprint
from plan.run import Run
from plan.swift_schema import known_options
from tests import hostile_folders
from tests.hostile_folders import Cases, Change
from tests.train.test_checkpoints import make
from train.checkpoints import Best, best_checkpoint, choose_best, fault, newest_whole
from workspace import gate
from workspace.errors import UserError
from workspace.files import write_json
from workspace.marker import mark
from workspace.paths import CONFIGS, ROOT

KINDS: dict[str, Cases] = {
    "model": hostile_folders.models(),
    "checkpoint": hostile_folders.checkpoints(),
    "run": hostile_folders.runs(),
    "dataset": hostile_folders.datasets(),
    "recipe": hostile_folders.recipes(),
}
PART = 8  # of how many cases the usual test run takes one
Refuse = Callable[[], object]


class World:
    """Good folders of every kind that belong together, below one folder; one of them becomes a stranger's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.model, self.run, self.data, self.task = (
            root / name for name in ("home", "model", "run", "data", "task")
        )
        self.checkpoint, self.table, self.out = self.run / "train" / "checkpoint-10", root / "table.csv", root / "out"

    def make(self) -> None:
        """Make everything."""
        (self.home / "years").mkdir(parents=True)
        (self.home / "thesis.txt").write_text("years")
        self.model.mkdir()
        save_file({"a": np.ones((2, 2), np.float32)}, self.model / "model.safetensors")
        write_json(self.model / "config.json", {"model_type": "qwen2", "_attn_implementation": "sdpa"})
        write_json(self.model / "tokenizer.json", {"added_tokens": []})
        (self.model / ".gitattributes").write_text("*.bin lfs")
        (self.model / "LICENSE").write_text("free")
        rows = [f"{k % 2},第{k}间房{'很好' if k % 2 else '不好'}，{k * 37}元" for k in range(120)]
        self.table.write_text("label,review\n" + "\n".join(rows) + "\n", encoding="utf-8")
        text = (CONFIGS / "demo" / "task.yaml").read_text(encoding="utf-8").replace("name: demo", "name: strangers", 1)
        self.task.mkdir()
        (self.task / "task.yaml").write_text(text, encoding="utf-8")
        shutil.copy(CONFIGS / "models" / "qwen1.5-0.5b-chat.yaml", self.task / "mine.yaml")
        (self.task / "over.yaml").write_text("sft: {lora_rank: 4}\n")
        data_prep.build.build(str(self.task / "task.yaml"), csv=self.table, limit=32, out=self.data)
        manifest = json.loads((self.data / "manifest.json").read_text(encoding="utf-8"))
        run = Run(
            self.run, "strangers/x", "strangers", ("正面", "负面"), self.data, limit=32,
            task_file=self.task / "task.yaml", prompt="original", max_length=512, model_folder=self.model,
            model_fingerprint=fingerprint(self.model),
        )  # fmt: skip
        mark(self.run, "run")
        run.write()
        write_json(self.run / "data.json", {"source": manifest["source"]})
        common = {"model": str(self.model), "template": "qwen", "torch_dtype": "float32"}
        rows_of = {name: [str(self.data / f"{name}.jsonl")] for name in ("train", "val", "test")}
        sft = {**common, "dataset": rows_of["train"], "val_dataset": rows_of["val"], "lora_rank": 8}
        sft |= {"output_dir": str(self.run / "train"), "external_plugins": [str(ROOT / "plugins" / "label_metric.py")]}
        (self.run / "sft.yaml").write_text(yaml.safe_dump(sft))
        (self.run / "infer.yaml").write_text(yaml.safe_dump(common | {"val_dataset": rows_of["test"]}))
        make(self.run / "train", 10)
        settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 16.0, "use_dora": False, "use_rslora": False}
        asked = {"tuner_type": "lora", "lora_rank": 8, "lora_alpha": 16.0, "use_dora": False, "use_rslora": False}
        write_json(self.checkpoint / "adapter_config.json", settings | {"megatron_core": "megatron.core"})
        write_json(self.checkpoint / "args.json", asked)
        Best(10, "checkpoint-10", None).write(self.run / "train")

    def commands(self, kind: str, case: str) -> list[Refuse]:
        """The commands that read this kind of folder."""
        run, model, new = str(self.run), ["--model", str(self.model)], ["--run", str(self.out)]
        given = ["--csv", str(self.table), "--limit", "32", *model]
        planned = [str(self.task), *given, *new]
        prep = [str(self.task / "task.yaml"), "--csv", str(self.table), "--out", str(self.out), *model]
        tuned: Refuse = lambda: train.sft.main([run])  # noqa: E731
        before: Refuse = lambda: eval.infer.main([run, "before"])  # noqa: E731
        again: Refuse = lambda: train.rerun.main([run, *new])  # noqa: E731
        scored: Refuse = lambda: eval.report.main([run])  # noqa: E731
        linear: Refuse = lambda: eval.baselines.main([run])  # noqa: E731
        if kind == "model":
            return [
                lambda: find_model(str(self.model)), lambda: plan.__main__.main(planned), tuned, before, again,
                lambda: data_prep.build.main(prep), lambda: train.sweep.main([*planned, "--vary", "rank8"]),
            ]  # fmt: skip
        if kind == "checkpoint":
            adapters = [*planned, "--adapters", str(self.checkpoint)]
            state = case.startswith(("state", "edited"))
            after = [] if case.startswith("state") else [lambda: eval.infer.main([run, "after"])]
            best = [lambda: choose_best(self.run / "train")]
            return best + after + ([] if state else [lambda: plan.__main__.main(adapters)])
        if kind == "run":
            if case.startswith(("sft", "ENV", "logging")):
                return [tuned, again]
            return [before, again] if case.startswith("infer") else [tuned, before, again, scored, linear]
        if kind == "dataset":
            audit: Refuse = lambda: eval.label_audit.main([str(self.data)])  # noqa: E731
            rebuilt = [*prep[:3], "--out", str(self.data), "--limit", "40"]
            made: list[Refuse] = [] if "with" in case else [lambda: data_prep.build.main(rebuilt)]
            return [tuned, before, linear, audit, *made]
        own = str(self.task / "mine.yaml") if case.startswith("recipe") else str(self.task)
        words = [own, *given, *new, *(["--with", str(self.task / "over.yaml")] if case.startswith("override") else [])]
        return [
            lambda: plan.__main__.main(words), lambda: train.sweep.main([*words, "--vary", "rank8"]),
            lambda: doctor.__main__.main([*words, "--no-forward", "--json"]),
        ]  # fmt: skip

    def folder(self, kind: str) -> Path:
        """The folder that is a stranger's."""
        folders = {"model": self.model, "checkpoint": self.checkpoint, "run": self.run, "dataset": self.data}
        return folders.get(kind, self.task)

    def state(self) -> dict[str, Any]:
        """Everything but what commands are asked to write."""
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif not name.startswith("out") and not name.endswith(("/lock", "evil.py")):
                found[name] = path.read_bytes() if path.is_file() else "folder"
        return found


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world, of which every case gets a copy in the same place: records name absolute paths."""
    world = World(tmp_path_factory.mktemp("strangers") / "world")
    world.make()
    shutil.copytree(world.root, world.root.with_name("kept"), symlinks=True)
    return world


@pytest.fixture(autouse=True)
def no_swift(monkeypatch: pytest.MonkeyPatch, good: World) -> None:
    """Whoever starts ms-swift with a stranger's file has let it in."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("ms-swift was started")

    monkeypatch.setattr("train.sft.run_child", started)
    monkeypatch.setattr("train.estimate.run_child", started)
    monkeypatch.setattr("eval.inference.job.run_children", started)


def restored(world: World) -> World:
    shutil.rmtree(world.root)
    shutil.copytree(world.root.with_name("kept"), world.root, symlinks=True)
    return world


def refused(world: World, kind: str, case: str, apply: Change, number: int, every: bool) -> list[str]:
    """What is wrong with how the commands take a case; all of them, or the next in turn."""
    restored(world)
    apply(world.folder(kind), world.home)
    before, found = world.state(), []
    commands = world.commands(kind, case)
    for at, command in enumerate(commands):
        if not every and at != number % len(commands):
            continue
        try:
            command()
            found.append(f"{case}: command {at} took it")
        except UserError as error:
            if "\n" in str(error) or len(str(error)) < 30:
                found.append(f"{case}: command {at}: no sentence: {error}")
        except BaseException as error:
            found.append(f"{case}: command {at}: {type(error).__name__}: {error}")
        after = world.state()
        if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            found.append(f"{case}: command {at} changed {changed[:5]}")
            break
    if (world.home / "canary").exists():
        found.append(f"{case}: was run")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_folder_is_refused(good: World, kind: str) -> None:
    cases = list(KINDS[kind].items())
    faults = []
    for number, (case, apply) in list(enumerate(cases))[::PART]:
        faults += refused(good, kind, case, apply, number // PART, every=False)
    assert not faults, "\n".join(faults)


@pytest.mark.all
@pytest.mark.parametrize("kind", KINDS)
def test_every_strangers_folder_is_refused_by_every_command(good: World, kind: str, record_property: Any) -> None:
    faults = []
    for number, (case, apply) in enumerate(KINDS[kind].items()):
        faults += refused(good, kind, case, apply, number, every=True)
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults)


def test_there_are_sixty_of_each_kind() -> None:
    assert {kind: len(cases) for kind, cases in KINDS.items() if len(cases) < 60} == {}


def test_good_folders_are_let_in(good: World) -> None:
    restored(good)
    gate.check_model(good.model)
    for name in ("pytorch_model.bin", "onnx/model.onnx", "figures/a.png", ".msc", ".git/config"):  # beside safetensors
        hostile_folders.put(good.model / name, b"x")
    find_model(str(good.model))
    gate.check_checkpoint(good.checkpoint)
    assert fault(good.checkpoint) is None and best_checkpoint(good.run) == good.checkpoint
    run = Run.read(good.run)
    assert run.sft_values()["lora_rank"] == 8 and run.infer_values()["template"] == "qwen"
    with pytest.raises(AssertionError, match="ms-swift was started"):
        train.sft.main([str(good.run)])


def test_a_model_in_a_hubs_cache_is_made_of_links(good: World) -> None:
    restored(good)
    blobs = good.root / "blobs"
    good.model.rename(blobs)
    good.model.mkdir()
    for path in blobs.iterdir():
        (good.model / path.name).symlink_to(f"../blobs/{path.name}")
    gate.check_model(good.model)


def test_a_tampered_checkpoint_is_passed_over_in_training(good: World, capsys: pytest.CaptureFixture[str]) -> None:
    for case in ("adapter auto_mapping", "edited lora_alpha", "nested default/adapter_config.json", "pickle x.pkl"):
        restored(good)
        KINDS["checkpoint"][case](good.checkpoint, good.home)
        assert newest_whole(good.run / "train") is None
        assert "is not whole" in capsys.readouterr().out


def test_every_option_of_ms_swift_that_takes_text_is_decided_on() -> None:
    """A new ms-swift brings new ones: each goes into the gate's list, or, where it may name code, into this one."""
    left_out = {
        *hostile_folders.OPTIONS, "eval_dataset", "eval_generation_config", "debug",
        "hub_revision", "hub_strategy", "hub_token", "include_for_metrics", "parallelism_config",
        "resume_from_checkpoint",
        "result_path", "swanlab_email_language", "swanlab_notification_method", "swanlab_receiver_email",
        "swanlab_secret", "swanlab_sender_email", "swanlab_token", "torch_compile_mode", "trackio_bucket_id",
        "trackio_static_space_id", "adapter_act", "reft_intervention_type", "reft_layer_key", "download_mode",
        "sglang_kv_cache_dtype", "sglang_quantization", "sglang_speculative_algorithm", "vllm_engine_kwargs",
        "vllm_reasoning_parser", "vllm_speculative_config",
    }  # fmt: skip
    texts = {
        name for command in ("sft", "infer") for name, option in known_options(command).items() if option.kind == "str"
    }
    assert texts - gate.TEXTS - left_out == set()
    assert {name for name in gate.TEXTS - texts if name not in ("ENV",)} == set()


def test_no_command_touches_another_tools_folder(good: World) -> None:
    """Sacred writes a run.json too."""
    other, sweep = restored(good).root / "sacred", ["--vary", "rank8", "rank16"]
    hostile_folders.put(other / "run.json", '{"command": "main", "status": "COMPLETED"}')
    for name in ("cout.txt", ".notes.7.partial", "source/.draft.7.partial", "source/main.py"):
        hostile_folders.put(other / name, "years")
    planned = [
        str(good.task),
        "--csv",
        str(good.table),
        "--limit",
        "32",
        "--model",
        str(good.model),
        "--run",
        str(other),
    ]
    before = good.state()
    for number, command in enumerate([
        lambda: plan.__main__.main(planned), lambda: plan.__main__.main([*planned, "--fresh"]),
        lambda: train.sweep.main([*planned, *sweep]), lambda: train.rerun.main([str(good.run), "--run", str(other)]),
        lambda: train.rerun.main([str(other)]), lambda: train.sft.main([str(other)]),
        lambda: eval.infer.main([str(other), "before"]), lambda: eval.baselines.main([str(other)]),
        lambda: eval.report.main([str(other)]), lambda: eval.injection.main([str(other)]),
    ]):  # fmt: skip
        with pytest.raises(UserError):
            command()
        assert good.state() == before, number
    assert doctor.__main__.main([*planned, "--no-forward", "--json"]) == 1 and good.state() == before


@pytest.mark.parametrize("name", [".x.partial", ".thesis.7.partial"])
def test_a_folder_named_like_a_partial_file_is_the_users(good: World, name: str) -> None:
    mine = restored(good).root / "mine"
    hostile_folders.put(mine / name / "thesis.txt", "years")
    words = [str(good.task), "--csv", str(good.table), "--model", str(good.model), "--run", str(mine)]
    for more in ([], ["--fresh"]):
        with pytest.raises(UserError, match="holds something other than a run"):
            plan.__main__.main([*words, *more])
    with pytest.raises(UserError, match="holds something other than a sweep"):
        train.sweep.main([*words, "--vary", "rank8"])
    assert (mine / name / "thesis.txt").is_file() and len(list(mine.iterdir())) == 1


@pytest.mark.parametrize("name", [".mine.old.partial", ".mine.new.partial"])
def test_a_folder_that_prep_would_use_on_the_way_is_the_users(good: World, name: str) -> None:
    mine = restored(good).root / "mine"
    hostile_folders.put(mine.with_name(name) / "thesis.txt", "years")
    words = [str(good.task / "task.yaml"), "--csv", str(good.table), "--limit", "32", "--out", str(mine)]
    try:
        data_prep.build.main(words)
    except (UserError, OSError) as error:
        assert isinstance(error, UserError), error
    assert (mine.with_name(name) / "thesis.txt").is_file()


def test_checkpoints_are_written_into_the_run_wherever_its_yaml_says(
    good: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_folders.edited(restored(good).run / "sft.yaml", output_dir=str(good.home))
    commands: list[list[str]] = []
    monkeypatch.setattr("train.sft.run_child", lambda command, *_: commands.append(command))
    train.sft._run_swift(Run.read(good.run), Run.read(good.run).sft_values(), None, good.out / "log")
    at = commands[0].index("--output_dir")
    assert commands[0][at + 1] == str(good.run / "train")


def test_again_takes_no_code_along(good: World) -> None:
    restored(good)
    evil = good.run / "evil.py"
    evil.write_text(hostile_folders.code(good.home))
    for command in ("sft", "infer"):
        hostile_folders.edited(good.run / f"{command}.yaml", external_plugins=[str(evil)])
        with pytest.raises(
            UserError, match=rf"{command}\.yaml: external_plugins names .*evil\.py, and only plugins in"
        ):
            train.rerun.main([str(good.run), "--run", str(good.out)])
        shutil.copy(good.root.with_name("kept") / "run" / f"{command}.yaml", good.run)
    hostile_folders.change(good.model / "config.json", auto_map={"AutoModel": "evil.Evil"})
    with pytest.raises(UserError, match="auto_map"):
        train.rerun.main([str(good.run), "--run", str(good.out)])


def test_an_adapter_that_was_edited_is_not_taken(good: World) -> None:
    """Alpha 16 made 1600 multiplies what was learned by a hundred."""
    restored(good)
    hostile_folders.change(good.checkpoint / "adapter_config.json", lora_alpha=1600.0)
    with pytest.raises(UserError, match=r"lora_alpha is 1600\.0, and training asked for 16\.0"):
        best_checkpoint(good.run)
    assert newest_whole(good.run / "train") is None
