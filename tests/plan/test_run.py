"""A run's folder and its record: written whole, replaced only where it is ours, and what of it decides a result."""

import json
from pathlib import Path

import pytest
import yaml

from plan.cpu_kernels import CALLBACK, KERNELS, ONEDNN
from plan.memory import bf16_as_begun
from plan.planning import Plan, carry_out, write_run
from plan.result_values import result_values
from plan.run import PLANNED, Run, check_run_folder, locked_run
from workspace.errors import UserError
from workspace.marker import MARKER, is_ours, mark
from workspace.paths import CONFIGS, ROOT

WRITTEN = [MARKER, "data.json", "infer.yaml", "packages.txt", "run.json", "sft.yaml"]
EARLIER = {"recipe": "demo/x", "task": "demo", "labels": ["A", "B"], "dataset": "d", "config_sha256": "c"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    rows = [f"{k % 2},第{k}间房{'很好' if k % 2 else '不好'}，{k * 37}元" for k in range(60)]
    path.write_text("label,review\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def planned(folder: Path, csv: Path, fresh: bool = False, **sft: object) -> Plan:
    """A plan for the demo's task and no model."""
    run = Run(
        folder / "run", "demo/x", "demo", ("正面", "负面"), folder / "data", task_file=CONFIGS / "demo" / "task.yaml",
        limit=16, prompt="original", max_length=512, machine_text="a machine", fresh=fresh,
    )  # fmt: skip
    return Plan(run, {"lora_rank": 8, **sft}, {"temperature": 0}, csv)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def test_a_run_is_written_with_its_data_and_read_as_it_was(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path, table, system="中文: é")
    write_run(plan)
    assert names(plan.run.folder) == WRITTEN and is_ours(plan.run.folder, "run")
    read = Run.read(plan.run.folder)
    assert read == plan.run.__class__(**{**plan.run.__dict__, "format": 2})
    assert (read.sft_values(), read.infer_values()) == (plan.sft, plan.infer)
    assert len((plan.run.dataset / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 16
    data = json.loads((plan.run.folder / "data.json").read_text(encoding="utf-8"))
    assert data["source"]["path"] == str(table) and data["counts"]["train"]["total"] == 16


def test_what_another_stage_wrote_stays_unless_the_start_is_fresh(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path, table)
    write_run(plan)
    (plan.run.folder / "before").mkdir()
    (plan.run.folder / "metrics.json").write_text("{}")
    write_run(planned(tmp_path, table, lora_rank=16))
    assert names(plan.run.folder) == sorted([*WRITTEN, "before", "metrics.json"])
    assert Run.read(plan.run.folder).sft_values() == {"lora_rank": 16}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years")
    (plan.run.folder / "link").symlink_to(elsewhere)
    write_run(planned(tmp_path, table, fresh=True))
    assert names(plan.run.folder) == WRITTEN and (elsewhere / "thesis.txt").exists()


def test_a_table_that_cannot_be_read_leaves_an_earlier_run_as_it_was(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path, table)
    write_run(plan)
    kept = {name: (plan.run.folder / name).read_bytes() for name in names(plan.run.folder)}
    bad = tmp_path / "bad.csv"
    bad.write_text("score,text\n5,好\n", encoding="utf-8")
    for csv in (bad, tmp_path / "none.csv"):
        with pytest.raises(UserError):
            write_run(planned(tmp_path, csv, fresh=True, lora_rank=16))
    assert kept == {name: (plan.run.folder / name).read_bytes() for name in names(plan.run.folder)}


def test_a_plan_that_is_cut_off_is_no_run_and_goes_on(tmp_path: Path, table: Path, monkeypatch) -> None:
    plan = planned(tmp_path, table)
    write_run(plan)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("plan.planning.write_packages", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        write_run(planned(tmp_path, table, lora_rank=16))
    with pytest.raises(UserError, match=r"is not a run folder \(no run\.json\)"):
        Run.read(plan.run.folder)
    write_run(plan)
    assert names(plan.run.folder) == WRITTEN


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent, ROOT / "runs" / ".."])
def test_the_repository_is_no_run_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="holds something other than a run"):
        check_run_folder(folder)


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "years"},
        {"data.json": "{}"},  # the user's own
        {"run.json": '{"experiment": {"name": "sacred"}, "command": "main", "status": "COMPLETED"}'},
        {"run.json": "[]", "lock": ""},
        {MARKER: '{"tool": "swift-sft", "kind": "dataset"}', "run.json": "{}"},
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_neither_used_nor_emptied(
    tmp_path: Path, table: Path, files: dict[str, str], fresh: bool
) -> None:
    plan = planned(tmp_path, table, fresh)
    plan.run.folder.mkdir()
    for name, text in files.items():
        (plan.run.folder / name).write_text(text)
    with pytest.raises(UserError, match="holds something other than a run"):
        check_run_folder(plan.run.folder, fresh)
    with pytest.raises(UserError, match="holds something other than a run"):
        write_run(plan)
    assert set(names(plan.run.folder)) == files.keys() - {"lock"}


def test_a_run_of_an_earlier_version_is_read_and_may_be_replaced(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path, table, fresh=True)
    (plan.run.folder / "train").mkdir(parents=True)
    (plan.run.folder / "run.json").write_text(json.dumps({**EARLIER, "prep": "of a version before", "seed": 7}))
    run = Run.read(plan.run.folder)
    assert (run.seed, run.labels, run.dataset, run.format) == (7, ("A", "B"), ROOT / "d", None)
    write_run(plan)
    assert names(plan.run.folder) == WRITTEN


def test_a_run_that_holds_another_is_not_removed(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path, table, fresh=True)
    write_run(plan)
    inner = plan.run.folder / "deep" / "inner"
    for kind in ("run", "sweep"):
        mark(inner, kind)
        with pytest.raises(UserError, match=r"--fresh would remove .*deep/inner, a run inside"):
            check_run_folder(plan.run.folder, fresh=True)
        with pytest.raises(UserError, match="would remove"):
            write_run(plan)
        assert (inner / MARKER).is_file()
    check_run_folder(plan.run.folder)  # without a fresh start it is left alone


def test_what_a_killed_plan_left_is_no_strangers_file(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.123.partial").write_text("")
    (tmp_path / "lock").write_text("")
    check_run_folder(tmp_path, fresh=True)


SFT = {
    "model": "/a", "dataset": ["/a/train.jsonl"], "output_dir": "/a/train", "lora_rank": 8, "bf16": True,
    "external_plugins": ["/p/label_metric.py"], "callbacks": ["safe_checkpoints"],
}  # fmt: skip


def test_another_measurement_of_the_machine_leaves_finished_work_valid() -> None:
    fast = SFT | {
        "attn_impl": "eager", "padding_side": "left", "dataloader_num_workers": 2, "per_device_eval_batch_size": 2,
        "external_plugins": ["/p/label_metric.py", str(KERNELS), str(ONEDNN)],
        "callbacks": ["safe_checkpoints", CALLBACK], "ENV": {"OMP_NUM_THREADS": "1"}, "report_to": "none",
    }  # fmt: skip
    moved = fast | {"model": "/b", "dataset": ["/b/train.jsonl"], "output_dir": "/b/train"}
    assert result_values(SFT) == result_values(fast) == result_values(moved)
    infer = {"temperature": 0, "max_new_tokens": 16}
    assert result_values(infer) == result_values(infer | {"external_plugins": [str(ONEDNN)], "max_batch_size": 64})


def test_a_run_of_a_checkout_that_was_moved_is_read_and_is_not_stale(tmp_path: Path, table: Path) -> None:
    here = planned(tmp_path, table, external_plugins=[str(ROOT / "plugins" / "label_metric.py")])
    write_run(here)
    values = Run.read(here.run.folder).sft_values()
    for name in ("sft", "infer"):
        path = here.run.folder / f"{name}.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace(f"{ROOT}/plugins", "/moved/from/plugins"), "utf-8")
    moved = Run.read(here.run.folder)
    assert "/moved/from" in (moved.folder / "sft.yaml").read_text(encoding="utf-8")
    assert moved.sft_values() == values and all(Path(one).is_file() for one in values["external_plugins"])
    moved.infer_values()
    there = {**values, "external_plugins": ["plugins/label_metric.py"]}
    assert result_values({**values, "external_plugins": [str(ROOT / "plugins/label_metric.py")]}) == result_values(
        there
    )


def test_another_files_plugin_is_not_taken_for_ours(tmp_path: Path, table: Path) -> None:
    here = planned(tmp_path, table, external_plugins=[str(ROOT / "plugins" / "label_metric.py")])
    write_run(here)
    other = tmp_path / "plugins" / "label_metric.py"
    other.parent.mkdir()
    other.write_text("raise SystemExit('run')", encoding="utf-8")
    path = here.run.folder / "sft.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(f"{ROOT}/plugins", str(other.parent)), "utf-8")
    with pytest.raises(UserError, match="only plugins in"):
        Run.read(here.run.folder).sft_values()


def test_stages_ask_for_what_decides_a_result(tmp_path: Path, table: Path, monkeypatch) -> None:
    from eval.inference.job import model_inputs
    from train.sft import tune
    from workspace import stages

    seen: list[dict] = []
    monkeypatch.setattr(stages, "finished", lambda run, stage, inputs: seen.append(inputs) or True)
    for sft, infer in (({}, {}), ({"attn_impl": "eager", "external_plugins": [str(KERNELS)]}, {"attn_impl": "eager"})):
        plan = planned(tmp_path, table, **sft)
        write_run(plan._replace(infer={"template": "qwen", **infer}))
        tune(plan.run.folder)
        seen.append(model_inputs(Run.read(plan.run.folder)))
    assert seen[:2] == seen[2:] and len(seen) == 4
    write_run(planned(tmp_path, table, lora_rank=16))
    tune(plan.run.folder)
    assert seen[4] != seen[0]


@pytest.mark.parametrize(
    "change",
    [
        {"lora_rank": 16}, {"bf16": False}, {"external_plugins": ["/p/other.py"]}, {"callbacks": "other"},
        {"ENV": {"NPROC_PER_NODE": "2"}}, {"max_length": 300}, {"per_device_train_batch_size": 4},
    ],
)  # fmt: skip
def test_what_changes_a_result_makes_it_stale(change: dict[str, object]) -> None:
    assert result_values(SFT) != result_values(SFT | change)


def test_bf16_stays_as_it_was_where_training_has_begun(tmp_path: Path) -> None:
    run = Run(tmp_path, "r", "t", ("A", "B"), tmp_path / "d", measured_bf16=True)
    assert bf16_as_begun(tmp_path, False) is False
    run.write()
    assert bf16_as_begun(tmp_path, False) is False  # nothing is lost yet
    (tmp_path / "train" / "checkpoint-5").mkdir(parents=True)
    assert bf16_as_begun(tmp_path, False) is True


def test_a_record_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    whole = json.dumps(EARLIER)
    for text in ("", "[]", '{"recipe": 1}', "\x00", whole.replace('"B"', '"A"'), whole.replace('"demo"', '"../x"')):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match=r"run\.json cannot be read \(.*\): run the same"):
            Run.read(tmp_path)
    (tmp_path / "sft.yaml").write_text("a: [1")
    run = Run(tmp_path, "r", "t", ("A", "B"), tmp_path / "d")
    with pytest.raises(UserError, match=r"sft\.yaml, line 1: not valid YAML"):
        run.sft_values()
    with pytest.raises(UserError, match=r"infer\.yaml is missing"):
        run.infer_values()
    (tmp_path / "infer.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(UserError, match=r"infer\.yaml: expected `key: value` lines"):
        run.infer_values()


def test_stages_do_not_go_on_with_the_plan_of_another_command(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the plan and the first stage nobody holds the folder: another command may plan the run anew."""
    answer, plan = tmp_path / "answer", planned(tmp_path, table)
    monkeypatch.setenv("RUN_SFT_ANSWER", str(answer))
    carry_out(plan)
    sha256, _, folder = answer.read_text().partition("\n")
    assert folder == str(plan.run.folder)
    monkeypatch.setenv(PLANNED, sha256)
    with locked_run(plan.run.folder):
        pass
    monkeypatch.delenv("RUN_SFT_ANSWER")
    carry_out(planned(tmp_path, table, fresh=True))
    with pytest.raises(UserError, match="was planned anew by another command"), locked_run(plan.run.folder):
        pass
