"""Advisories against pins."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from workspace.paths import ROOT

SCRIPT = ROOT / ".ci" / "advisories.py"
ADVISORIES = yaml.safe_load(SCRIPT.with_suffix(".yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def advisories() -> ModuleType:
    spec = importlib.util.spec_from_file_location("advisories", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_entry_says_what_where_and_which_versions() -> None:
    for one in ADVISORIES:
        assert {"id", "package", "affected", "what", "here", "source"} <= set(one)
        SpecifierSet(one["affected"] or "")


def test_no_pin_is_affected() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0 and "0 open" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "version", "advisory", "is_open"),
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
        ("peft", "0.21.0", "CVE-2026-71281", True),  # no range is known: a new version must be read again
    ],
)
def test_an_affected_version_is_found(
    advisories: ModuleType, package: str, version: str, advisory: str, is_open: bool
) -> None:
    found = advisories.affecting(advisories.pinned(f"{package}=={version}  # a comment\n"), ADVISORIES)
    assert [state for state, line in found if line.startswith(f"{advisory} in ")] == [is_open]


def test_a_pin_that_is_affected_stops_the_command(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("torch==2.5.1 \\\n    --hash=sha256:00\n")
    done = subprocess.run([sys.executable, SCRIPT, str(pins)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "CVE-2025-32434 in torch 2.5.1" in done.stdout and "open: take another version" in done.stdout
