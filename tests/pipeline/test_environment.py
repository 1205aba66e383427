"""run_sft.sh under odd environments and with odd words, its stages stood in for: each gets what was meant."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workspace.paths import ROOT

# In place of `python` after the set-up: what is started is noted down; the plan alone is made up, as any folder.
PYTHON = """#!/bin/bash
if [ "$2" = workspace.install ]; then exec {python} "$@"; fi
printf '%q ' "$@" >>{log}; echo "| ${{PYTHONOPTIMIZE-}}${{PYTHONINSPECT-}}${{PYTHONSAFEPATH-}}${{PYTHONHOME-}}" >>{log}
bytecode="${{PYTHONPYCACHEPREFIX-}}|${{PYTHONDONTWRITEBYTECODE-}}"
printf '%s %s %s\n' "${{RUN_SFT_GPUS-}}" "${{RUN_SFT_LOCK-}}" "$bytecode" >>{log}.shared
if [ "$2" = plan ]; then exec {python} {plan}; fi
"""
PLAN = """import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from plan.run import tell_folder
tell_folder(Path({run!r}))
"""
ODD = {"PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2", "PYTHONHOME": "/nowhere", "PYTHONINSPECT": "1"}
CHATTY = "import atexit\nprint('a site that talks')\natexit.register(print, 'to the end')\n"


def started(folder: Path, words: list[str], bash: str = "bash", **environ: str) -> list[list[str]]:
    """The words that each stage of run_sft.sh was started with."""
    shims, run, log = folder / "bin", folder / "run\nof mine", folder / "log"
    for place in (shims, run):
        place.mkdir(exist_ok=True)
    log.write_text("")
    plan = folder / "plan.py"
    plan.write_text(PLAN.format(root=str(ROOT), run=str(run)))
    quoted = {name: shlex.quote(str(path)) for name, path in (("python", sys.executable), ("log", log), ("plan", plan))}
    (shims / "python").write_text(PYTHON.format(**quoted))
    (shims / "python").chmod(0o755)
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{shims}:{os.environ['PATH']}", "SWIFT_SERVER": "off"}
    env |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environ}
    command = [bash, str(ROOT / "run_sft.sh"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    lines = log.read_text().splitlines()
    assert not done.returncode, done.stderr
    assert all(line.endswith("| ") for line in lines), lines
    # bash writes a newline in a word as $'\\n', which shlex does not know
    return [shlex.split(line[:-2].replace("$'", "'").replace("\\n", "\n")) for line in lines]


@pytest.mark.parametrize("environ", [*([{name: value}] for name, value in ODD.items()), [ODD]], ids=[*ODD, "all"])
def test_variables_of_python_do_not_reach_the_stages(tmp_path: Path, environ: list[dict[str, str]]) -> None:
    stages = started(tmp_path, ["demo"], **environ[0])
    assert [stage[1] for stage in stages] == [
        "plan", "eval.baselines", "eval.infer", "train.sft", "eval.infer", "eval.report"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "kept"),
    [
        ({"SWIFT_SFT_CACHE": "/cache"}, "/cache/bytecode"),
        ({"SWIFT_SFT_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/swift-sft/bytecode"),
        ({"SWIFT_SFT_CACHE": "~/mine", "HOME": "/home/me"}, "/home/me/mine/bytecode"),
        ({"PYTHONPYCACHEPREFIX": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_where_python_writes_no_bytecode_it_is_kept_in_the_cache(
    tmp_path: Path, environ: dict[str, str], kept: str
) -> None:
    """Each stage, and each `swift`, would compile ms-swift and torch again."""
    started(tmp_path, ["demo"], PYTHONDONTWRITEBYTECODE="1", **environ)
    compiled = [line.split(" ")[2] for line in (tmp_path / "log.shared").read_text().splitlines()]
    assert compiled == [f"{kept}|"] * 6


def test_what_a_site_prints_is_not_taken_for_the_runs_folder(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CHATTY)
    stages = started(tmp_path, ["demo"], PYTHONPATH=str(tmp_path / "site"))
    assert {stage[2] for stage in stages[1:]} == {str(tmp_path / "run\nof mine")}


@pytest.mark.parametrize(
    "words",
    [["demo", "--model", "", "--csv", "*"], ["a b", "--prompt", "$(touch canary) `x` 'it\"s"], ["--limit=\\"], []],
)
def test_words_reach_the_plan_as_they_were_typed(tmp_path: Path, words: list[str]) -> None:
    stages = started(tmp_path, words)
    assert stages[0] == ["-m", "plan", *words]
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("words", "planned"),
    [
        (["verify"], ["hotel_reviews", "--with", "original-split"]),
        (["verify", "--fresh"], ["hotel_reviews", "--with", "original-split", "--fresh"]),
        (["verify", "demo"], ["demo"]),
    ],
)
def test_verify_is_a_whole_run_and_a_look_at_what_came_out(
    tmp_path: Path, words: list[str], planned: list[str]
) -> None:
    stages = started(tmp_path, words)
    assert stages[0] == ["-m", "plan", *planned]
    assert [stage[1] for stage in stages[-2:]] == ["eval.report", "eval.verify"] and stages[-1][2] == stages[-2][2]


def test_all_stages_share_one_answer_about_the_gpus_and_one_lock(tmp_path: Path) -> None:
    started(tmp_path, ["demo"])
    shared = [line.split(" ") for line in (tmp_path / "log.shared").read_text().splitlines()]
    (place,) = {gpus for gpus, *_ in shared}
    assert place.endswith("/gpus.json") and not Path(place).parent.exists()
    assert [lock for _, lock, _ in shared] == ["", *["9"] * 5]


@pytest.mark.skipif(not shutil.which("bash-3.2"), reason="no bash-3.2 on PATH: macOS's own, or one that was built")
@pytest.mark.parametrize("words", [["demo"], ["a b", "--prompt", 'it"s'], []])
def test_bash_3_2_runs_it_as_well(tmp_path: Path, words: list[str]) -> None:
    stages = started(tmp_path, words, bash="bash-3.2")
    assert stages[0] == ["-m", "plan", *words] and [stage[1] for stage in stages][-1] == "eval.report"
