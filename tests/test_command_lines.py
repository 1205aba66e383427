"""Any command line of any command: exit status 0, 1 or 2, one sentence where it is 2, never a traceback.

The options are taken from the commands' own parsers, those of `swift sft` from ms-swift. Every command runs in this
process as it is, but for what would take hours or a network: ms-swift, trials, benches, downloads, pictures. What
run_sft.sh makes of its words is in tests/pipeline/test_environment.py.
"""

import argparse
import contextlib
import functools
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from plan.options import parse_options
from plan.swift_schema import known_options
from tests.prep_tables import reviews, write_csv, write_model, write_task
from tests.scored_runs import make_run
from train.trials import METRIC, TrialResult
from workspace.command_line import Parser
from workspace.errors import UserError, run_main

NUMBERS = ["0", "1", "2", "16", "40", "-1", "nan", "inf", "1e999", "1.5", "", "x", "٣", "9" * 400, " 4 ", "0x10", "1_0"]
PATHS = [
    "{run}", "{planned}", "{data}", "{task}", "{model}", "{table}", "{new}", "{run}/run.json", "{circle}", ".", "", " ",
    "~no_such_user_here", "~no_such_user_here/x", "x" * 300, "y/" * 2500, "/dev/null", "/dev/null/x",
    "/proc/self/mem/x",
    "a*b", "a?b", "a[b]", "a::b", "a{b}", "{{0}}", "%s", "-", "a\nb", "中文", "\udce4", "none", "gone.csv",
]  # fmt: skip
WORDS = [
    "demo", "hotel_reviews", "demo/none", "hotel_reviews/qwen3-0.6b", "rank8", "rank16", "clean", "none", "original",
    "before", "after", "train", "test", "learning_rate=1e-3", "learning_rate=nan", "seed=1", "hub_token=x", "=", "--",
    "true", "false", "no", "epoch", "steps", "[1]", "{{'a': 1}}", "null", "owner/name", "requirements.txt",
]  # fmt: skip
# What is right, by an option's name or kind: as often as all that is wrong, so that commands go on to their work.
RIGHT = {
    "csv": ["{table}"], "model": ["{model}"], "run": ["{planned}", "{run}", "{new}"], "runs": ["{run}", "{planned}"],
    "original": ["{planned}", "{run}"], "out": ["{new}"], "what": ["{data}"], "task": ["{task}"], "json": ["{new}/j"],
    "overrides": ["rank8", "rank64", "dora"], "override": ["learning-curve"], "prompt": ["original", "clean"],
    "vary": ["rank8", "none", "learning_rate=1e-3"], "pins": ["requirements.txt"], "output": ["{new}.csv"],
    "limit": ["16", "40"], "seeds": ["1", "2"], "int": ["1", "2"], "float": ["0.5", "1e-3"], "bool": ["true", "false"],
}  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=6).filter(
    lambda text: not any(0xD800 <= ord(one) < 0xDC80 or ord(one) in range(0xDD00, 0xE000) for one in text)
)
LISTS = ("train.sweep", "eval.cross_validation")  # of trials
PLANNING = ("plan.__main__", "doctor.__main__", *LISTS)  # take a run's options too
# Module -> how often; `main` takes the words, or reads them from sys.argv where it has no parameter.
COMMANDS = {
    "plan.__main__": 24, "train.sweep": 12, "eval.cross_validation": 6, "doctor.__main__": 6,
    "train.rerun": 6, "data_prep.build": 12,
    "eval.label_audit": 6, "eval.baselines": 3, "eval.infer": 6, "eval.evaluate": 3, "eval.report": 4,
    "eval.injection": 6, "train.sft": 4, "bench.__main__": 1, "demo.model": 1, "demo.reviews": 2,
    "plan.swift_interfaces": 1, "workspace.install": 2, "plan.cpu_kernels": 1,
}  # fmt: skip


class Seen(Exception):
    """A parser, when it was about to parse."""


class Option(NamedTuple):
    """A word of a command line that takes values: its flag ("" for a positional), how many, and which."""

    flag: str
    least: int
    most: int
    values: st.SearchStrategy[str]


def parsers(main: Callable[[list[str]], Any]) -> list[tuple[list[str], argparse.ArgumentParser]]:
    """A command's parser, or those of its subcommands with their names."""

    def stop(self: Parser, *_: object, **__: object) -> None:
        raise Seen(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_known_args", stop)
        try:
            main([])
        except Seen as seen:
            [parser] = seen.args
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [([name], own) for name, own in action.choices.items()]
    return [([], parser)]


def options(parser: argparse.ArgumentParser) -> list[Option]:
    found = []
    for action in parser._actions:
        pool = list(action.choices or ()) + (NUMBERS if "number" in getattr(action.type, "__qualname__", "") else PATHS)
        least, most = {0: (0, 0), "+": (1, 3), "?": (0, 1)}.get(action.nargs, (1, 1))
        right = RIGHT.get(action.dest, list(action.choices or pool))
        found += [Option(flag, least, most, value(pool, right)) for flag in action.option_strings or [""]]
    return found


def value(pool: list[str], right: list[str]) -> st.SearchStrategy[str]:
    wrong = st.one_of(st.sampled_from(pool), st.sampled_from(WORDS + PATHS + NUMBERS), TEXT)
    return st.integers(0, 3).flatmap(lambda one: wrong if one == 0 else st.sampled_from(right))


@functools.cache
def of_swift() -> list[Option]:
    found = []
    for name, one in known_options("sft").items():
        pool = NUMBERS if one.kind in ("int", "float") else one.choices + WORDS
        found.append(Option(f"--{name}", 1, 1, value(pool, one.choices or RIGHT.get(one.kind, WORDS))))
    return [Option("--learning_ra", 1, 1, TEXT), Option("--ENV", 1, 1, TEXT), *found]


def main_of(module: str) -> Callable[[list[str]], Any]:
    main = importlib.import_module(module).main
    if main.__code__.co_argcount:
        return main

    def with_argv(words: list[str]) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module, *words])
            return main()

    return with_argv


@functools.cache
def commands() -> list[tuple[str, list[str], list[Option]]]:
    """Every command with its subcommand and its options."""
    found = []
    planned = [*options(parsers(parse_options)[0][1]), Option("", 1, 1, value(WORDS, ["{task}"]))]
    for module, times in COMMANDS.items():
        if module in PLANNING:
            own = {"doctor.__main__": [Option("--json", 0, 0, st.just("")), Option("--no-forward", 0, 0, st.just(""))]}
            extra = options(parsers(main_of(module))[0][1]) if module in LISTS else own.get(module, [])
            # As often an option of ours as one of ms-swift's hundreds.
            found += [(module, [], [*(extra + planned) * 12, *of_swift()])] * times
        elif module == "plan.cpu_kernels":
            found.append((module, [], [Option("", 1, 1, TEXT)]))
        else:
            for words, parser in parsers(main_of(module)):
                found += [(module, words, options(parser))] * times
    return found


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    module, words, known = draw(st.sampled_from(commands()))
    line = list(words)
    # Mostly with the positionals that the command asks for, in their order.
    if draw(st.integers(0, 9)):
        for option in (one for one in known if not one.flag):
            line += draw(st.lists(option.values, min_size=option.least, max_size=option.most))
            if module in PLANNING:
                break
    needed = [one for one in known if one.flag == "--vary"][:1]
    for option in [*needed, *draw(st.lists(st.sampled_from(known), max_size=4))]:
        values = draw(
            st.lists(option.values, min_size=option.least, max_size=option.most + draw(st.integers(0, 9)) // 9)
        )
        if option.flag and len(values) == 1 and draw(st.booleans()):
            line.append(f"{option.flag}={values[0]}")
        else:
            line += [option.flag] * bool(option.flag) + values
    return module, line


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a task, a table, a model, a planned run and a scored one; what takes hours is stood in for."""
    place = tmp_path_factory.mktemp("lines") / "pristine"
    for name in ("task", "model"):
        (place / name).mkdir(parents=True)
    write_csv(place / "table.csv", reviews(80))
    write_task(place / "task", name="lines", csv=str(place / "table.csv"), default_recipe="minimind2-small")
    model = write_model(place / "model")
    config = {"model_type": "qwen2", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (place / "circle").symlink_to(place / "circle")
    make_run(place)
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, place)
        words = [str(place / "task"), "--model", str(model), "--run", str(place / "planned")]
        assert run("plan.__main__", words)[0] == 0
        yield place


def stand_in(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Put something quick in the place of what takes hours, draws, or asks a network."""

    def no_swift(*_: object, **__: object) -> None:
        raise UserError("`swift` is not started here")

    def no_table(*_: object, **__: object) -> None:
        raise UserError("nothing is downloaded here")

    def tried(trial: Any, plan: Any) -> TrialResult:
        return TrialResult(trial, plan.run.folder, {METRIC: 0.5}, 1.0)

    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.delenv("RUN_SFT_CALLER", raising=False)
    patch.setenv("MODELSCOPE_CACHE", str(place / "hub"))
    for name in ("train.sft.run_child", "train.estimate.run_child", "eval.inference.job.run_children"):
        patch.setattr(name, no_swift)
    patch.setattr("data_prep.table.fetching.fetch", no_table)
    patch.setattr("train.trials.run_trial", tried)
    for name in ("plan.dataset_place", "data_prep.build", "eval.label_audit", "doctor.inputs"):
        patch.setattr(f"{name}.DATASETS", place / "datasets")
    for name in ("plan.planning", "train.trials", "doctor.inputs"):
        patch.setattr(f"{name}.RUNS", place / "runs")
    patch.setattr("eval.reporting.pictures.draw_pictures", lambda *_: {})
    patch.setattr("data_prep.card.page.draw_card", lambda *_: {})
    patch.setattr("bench.__main__.publish", lambda *_, **__: 0)
    goals = importlib.import_module("bench.goals")
    patch.setattr(goals, "run", functools.wraps(goals.run)(lambda **_: 0))
    patch.setattr("demo.model.ensure_model", lambda: place / "model")
    patch.setattr("doctor.inputs.subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "not here"))
    patch.setattr("plan.swift_interfaces.missing", lambda _: [])
    patch.setattr("plan.swift_interfaces.missing_attributes", lambda: [])
    for name in ("install", "set_up"):
        patch.setattr(f"workspace.install.{name}", lambda *_: None)


def run(module: str, words: list[str]) -> tuple[int, str]:
    """The exit status of a command and what it said on stderr. Any other exception is one."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
        run_main(lambda: main_of(module)(words))
    return ended.value.code or 0, err.getvalue()


def check(pristine: Path, module: str, words: list[str]) -> None:
    case = pristine.parent / "case"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(pristine, case, symlinks=True)
    names = {name: str(case / name) for name in ("planned", "task", "model", "new", "circle")}
    names |= {
        "run": str(case / "runs" / "small"),
        "data": str(case / "data" / "made_up"),
        "table": str(case / "table.csv"),
    }
    for name, path in names.items():
        words = [word.replace(f"{{{name}}}", path) for word in words]
    with contextlib.chdir(case):
        status, said = run(module, words)
    event(f"{module}: {status}")
    assert status in (0, 1, 2)
    assert "Traceback" not in said
    assert status != 2 or said.splitlines()[-1].startswith("error: ") or "\nerror: " in f"\n{said}"


ANY = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@settings(ANY, max_examples=40)
@given(line=command_lines())
def test_no_command_line_gives_a_traceback(pristine: Path, line: tuple[str, list[str]]) -> None:
    check(pristine, *line)


@pytest.mark.all
@settings(ANY, max_examples=int(os.environ.get("COMMAND_LINES", "1000")))
@given(line=command_lines())
def test_nor_does_one_of_a_thousand(pristine: Path, line: tuple[str, list[str]]) -> None:
    check(pristine, *line)
