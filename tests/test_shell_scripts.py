"""The shell scripts keep to what macOS's bash 3.2 has, and where one is at hand its words are read by it."""

import re
import shutil
import subprocess

import pytest

from workspace.paths import ROOT

SCRIPTS = [*sorted(ROOT.glob("*.sh")), ROOT / ".ci" / "run", ROOT / ".ci" / "relock"]
SOURCED = ROOT / "setup_environment.sh"  # by zsh, too
# What came after bash 3.2, by the version that brought it (bash's CHANGES), and what macOS has no command for.
NEWER = {
    "a descriptor that bash chooses (4.1)": r"\{\w+\}[<>]",
    "mapfile, readarray (4.0)": r"\b(mapfile|readarray)\b",
    "upper and lower case in an expansion (4.0)": r"\$\{\w+(\[[^]]*\])?(\^|,)",
    "operators in an expansion (4.4)": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "associative arrays, references (4.0, 4.3)": r"\b(declare|local|typeset|readonly|export) +-[a-zA-Z]*[Ang]",
    "wait for any, or for several (4.3, 5.1)": r"\bwait +-[fnp]",
    "both streams in one operator (4.0)": r"\|&|&>>",
    "the next case as well (4.0)": r";;?&",
    "a coprocess (4.0)": r"\bcoproc\b",
    "** as any folders (4.0)": r"\bshopt +-[su] +(globstar|lastpipe|inherit_errexit)",
    "numbers of steps and leading zeros (4.0)": r"\{\d+\.\.\d+\.\.\d+\}|\{0\d+\.\.\d+\}",
    "a place counted from the end (4.3)": r"\$\{\w+\[-\d+\]\}|\$\{\w+:[^}]*:-\d+\}",
    "whether a variable is set, the time (4.2)": r"\[\[ +-v |%\([^)]*\)T",
    "variables of bash (4.0, 5.0)": r"\$\{?(BASHPID|EPOCHSECONDS|EPOCHREALTIME|SRANDOM)\b",
    "read with a fraction of a second (4.0)": r"\bread\b[^|;]*-t *\d*\.\d",
    "commands of GNU alone": r"\b(nproc|readlink +-f|realpath|sed +-i +['\"]|date +-d|timeout|tac|grep +-[a-zA-Z]*P)\b",
}
LINUX_ONLY = {".ci/run", ".ci/relock"}  # of the project's own continuous integration
BASHES = [path for path in {shutil.which(name) for name in ("bash-3.2", "bash3.2", "bash")} if path]


def version(bash: str) -> str:
    return subprocess.run([bash, "-c", "echo ${BASH_VERSION%%[^0-9.]*}"], capture_output=True, text=True).stdout.strip()


def code(path) -> list[str]:
    """The lines of a script without comments."""
    return [re.sub(r"(^|\s)#.*", "", line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("what", NEWER)
def test_no_script_has_what_macos_lacks(path, what: str) -> None:
    if what == "commands of GNU alone" and str(path.relative_to(ROOT)) in LINUX_ONLY:
        pytest.skip("runs on Linux alone")
    assert [line for line in code(path) if re.search(NEWER[what], line)] == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a descriptor that bash chooses (4.1)", 'exec {lock}<>"$run/lock"'),
        ("mapfile, readarray (4.0)", "mapfile -d '' -t words"),
        ("upper and lower case in an expansion (4.0)", "echo ${name^^} ${name,,}"),
        ("operators in an expansion (4.4)", "echo ${words[@]@Q}"),
        ("associative arrays, references (4.0, 4.3)", "local -A found"),
        ("wait for any, or for several (4.3, 5.1)", 'wait -n "$one"'),
        ("both streams in one operator (4.0)", "make |& tee log"),
        ("the next case as well (4.0)", "a) x ;;& # and the next"),
        ("a place counted from the end (4.3)", "echo ${words[-1]}"),
        ("whether a variable is set, the time (4.2)", "printf '%(%s)T'"),
        ("commands of GNU alone", "threads=$(nproc)"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, line: str) -> None:
    assert re.search(NEWER[what], line)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("bash", BASHES)
def test_it_can_be_read(bash: str, path) -> None:
    result = subprocess.run([bash, "-n", str(path)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), version(bash)


def test_what_zsh_sources_too_takes_descriptors_of_one_digit() -> None:
    numbers = [int(one) for line in code(SOURCED) for one in re.findall(r"\bexec (\d+)[<>]", line)]
    assert numbers and all(number < 10 for number in numbers)
    assert not any(re.search(r"BASH_SOURCE|\[\[|\blocal\b", line) for line in code(SOURCED))
