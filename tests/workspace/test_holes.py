"""Known holes against pins, and lock files that cover the pins, each with a hash."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workspace import holes, locked
from workspace.errors import UserError
from workspace.paths import ROOT


def test_no_pin_and_no_installed_version_has_an_open_hole() -> None:
    known = holes.read_holes()
    for path in [*ROOT.glob("requirements*.txt"), *ROOT.glob("requirements*.lock")]:
        assert [one.line() for one in holes.find(holes.pinned(path), known) if one.open] == [], path.name
    assert [one.line() for one in holes.find(holes.installed(known), known) if one.open] == []


@pytest.mark.parametrize(
    ("package", "version", "hole", "is_open"),
    [
        ("transformers", "5.2.9", "CVE-2026-4372", True),
        ("transformers", "5.0.0rc2", "CVE-2026-1839", True),
        ("torch", "2.5.1+cpu", "CVE-2025-32434", True),
        ("torch", "2.9.1", "CVE-2026-24747", True),
        ("ms_swift", "3.6.3", "CVE-2025-50460", True),
        ("ms-swift", "2.6.1", "CVE-2025-50472", True),
        ("modelscope", "1.26.0", "CVE-2025-51427", True),
        ("modelscope", "1.40.2", "CVE-2026-84202", False),
        ("peft", "0.20.0", "CVE-2026-71281", False),
        ("peft", "0.21.0", "CVE-2026-71281", True),  # no range known: a new version is looked at anew
    ],
)
def test_an_affected_version_is_found(package: str, version: str, hole: str, is_open: bool) -> None:
    found = {one.hole.id: one.open for one in holes.find({package: version}, holes.read_holes())}
    assert found[hole] is is_open


def test_a_pin_with_a_hole_stops_the_command(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("torch==2.5.1  # old\n")
    command = [sys.executable, "-m", "workspace.holes", str(pins)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "open: CVE-2025-32434 in torch 2.5.1" in done.stdout


@pytest.mark.parametrize(("pins", "locks"), locked.OF_PINS.items())
def test_the_lock_has_every_pin_with_its_version(pins: str, locks: tuple[str, ...]) -> None:
    found: dict[str, str] = {}
    for lock in locks:
        found |= {holes.canonical(name): version for name, (version, _) in locked.read_lock(ROOT / lock).items()}
    for name, version in holes.pinned(ROOT / pins).items():
        assert found[holes.canonical(name)] == version


def test_the_locks_name_no_address() -> None:
    for lock in locked.LOCKS:
        assert not re.search(r"://|--(extra-)?index|--find-links", (ROOT / lock).read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", ["six==1.0\n", "--index-url x\n", "six==1 \\\n    --hash=md5:00\n"])
def test_a_lock_with_a_line_without_hash_is_refused(line: str, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(line)
    with pytest.raises(UserError, match="no package with hashes"):
        locked.read_lock(lock)


def test_without_hashes_is_told() -> None:
    assert locked.not_covered("requirements.txt", {"NO_HASHES": "1"}) == "NO_HASHES is set"
    assert "PIP_NO_INDEX" in str(locked.not_covered("requirements.txt", {"PIP_NO_INDEX": "1"}))
    assert "no lock file" in str(locked.not_covered("other.txt", {}))
