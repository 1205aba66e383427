"""Every command that a README or a page of docs shows: its module is there, its options and names are known."""

import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from plan.recipes import load_recipe, recipe_names
from plan.swift_schema import known_options
from workspace.paths import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("plugins/*/README.md")]
)
BLOCK = re.compile(r"```(?:bash|sh|console)?\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:bash [\w./]+\.sh|python -m|swift (?:sft|infer)) [^`]*)`")
# A word of a command that stands for something of the reader's: a path, an id, a variable.
OF_THE_READER = re.compile(
    r"[A-Z][A-Z_0-9]+\b|path/to|/data/|my[._]|\$|…|\.\.\.|carry|checkpoint-|runs/|dataset_jsonl/|\*"
)
MODES = {
    "init": "data_prep.init",
    "sweep": "train.sweep",
    "curve": "eval.curve",
    "again": "train.rerun",
    "doctor": "doctor",
    "serve": "serve",
    "export": "serve.export",
    "predict": "serve.predict",
    "next": "serve.next",
    "verify": "plan",
}


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line that starts a program of this project or ms-swift."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        lines += [match.replace("\n", " ") for match in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
        for line in lines:
            for part in re.split(r"&&|\$\(|\||;", line):
                match = re.search(r"(?<![\w./-])(bash [\w./]+\.sh|python -m [\w.]+|swift (?:sft|infer)\b)", part)
                if match and not re.search(r"\b(pip|venv)\b", part):
                    found.append(
                        (str(page.relative_to(ROOT)), part[match.start() :].split("  #")[0].split(" )")[0].strip(" )"))
                    )
    return sorted(set(found))


@cache
def usage(module: str, *subcommand: str) -> str:
    """What `python -m MODULE [SUBCOMMAND] --help` prints."""
    command = [sys.executable, "-m", module, *subcommand, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_options(words: list[str], known: str, swift: str | None) -> None:
    for word in words:
        if word.startswith("--"):
            name = word.split("=")[0]
            if re.search(rf"{re.escape(name)}(?![\w-])", known) is None:
                assert swift and name[2:].replace("-", "_") in known_options(swift), f"{name} is no option"


def check_names(recipe: str | None, words: list[str]) -> None:
    """The recipe, and the overrides after --with and --vary, are there."""
    if recipe and not OF_THE_READER.search(recipe) and recipe not in ("recipe", "RECIPE"):
        assert recipe in {*recipe_names(), *(name.split("/")[0] for name in recipe_names())}, f"{recipe} is no recipe"
    option = None
    for word in words:
        if word.startswith("--"):
            option = word
        elif option in ("--with", "--vary") and not OF_THE_READER.search(word) and "=" not in word:
            if (option, word) == ("--vary", "none"):  # the recipe as it is
                continue
            task = recipe if recipe and not OF_THE_READER.search(recipe) else "hotel_reviews"
            load_recipe(task, [word], ROOT)


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_documented_command_is_right(page, command):
    words = [word for word in shlex.split(command, comments=True) if word not in ("[recipe]", "[options]")]
    if words[0] == "swift":
        check_options(words[2:], "", words[1])
        return
    if words[0] == "bash":
        script, *rest = words[1:]
        assert (ROOT / script).is_file(), f"{script} is not there"
        if script != "run_sft.sh":
            text = (ROOT / script).read_text(encoding="utf-8") + (ROOT / "pyproject.toml").read_text(encoding="utf-8")
            assert all(word in text or word.startswith(("-m", "--durations")) for word in rest if word.startswith("--"))
            return
        module = MODES.get(rest[0]) if rest else None
        arguments = rest[1:] if module else rest
        of_a_run = module == "train.rerun" or (module or "").startswith("serve")
        recipe = arguments[0] if arguments and not arguments[0].startswith("-") and not of_a_run else None
        if not of_a_run:
            check_names(recipe, arguments)
        planning = "" if (module or "").startswith("serve") else usage("plan")
        check_options(arguments, usage(module or "plan") + planning, None if of_a_run else "sft")
        return
    module, arguments = words[2], words[3:]
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module not in ("venv", "pip"):
        subcommand = arguments[:1] if module == "bench" else []
        check_options(arguments, usage(module, *subcommand), "sft" if module in ("plan", "train.sweep") else None)


def test_pages_link_to_what_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("name", ["README.md", "README_CN.md"])
def test_the_readmes_are_short_and_in_one_language(name):
    lines = Path(ROOT / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    prose = [
        line for line in lines if line.strip() and not line.startswith(("```", "|", "#", "bash ", "python ", "run="))
    ]
    chinese = sum(bool(re.search(r"[一-鿿]{4}", line)) for line in prose)
    assert chinese <= 1 if name == "README.md" else chinese >= len(prose) / 2


def test_the_readmes_show_the_same_commands():
    both = [sorted(command for page, command in commands() if page == name) for name in ("README.md", "README_CN.md")]
    assert both[0] == both[1]
