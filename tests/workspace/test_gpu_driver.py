"""The driver of a GPU, by nvidia-smi's and the kernel module's own words."""

import os
from pathlib import Path

import pytest

from workspace import gpu_driver

# As /proc/driver/nvidia/version says it, of the closed and the open module.
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 13.3.0\n"


@pytest.mark.parametrize(
    ("answer", "module", "files", "driver"),
    [
        ("echo 550.54.15", "", (), 550),
        ("echo 580.65.06; echo 580.65.06", "", (), 580),
        ("echo 'Warning: infoROM is corrupted at gpu 0000:65:00.0'; echo 580.65.06", "", (), 580),
        ("echo no; exit 9", "", (), None),
        ("echo '[N/A]'", CLOSED, (), 550),
        ("exit 9", OPEN, ("nvidiactl",), 580),
        ("exit 127", "", ("nvidiactl",), 0),
        ("exit 127", "", ("kfd",), 0),
        ("exit 127", "", ("dxg",), None),
        ("exit 127", "", ("dxg", "libcuda.so.1"), 0),  # WSL with a card
    ],
)
def test_the_driver_is_asked_for(
    answer: str,
    module: str,
    files: tuple[str, ...],
    driver: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line more, or a container without nvidia-smi, had the CPU's build of torch installed."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    for name in files:
        (tmp_path / name).touch()
    if module:
        (tmp_path / "version").write_text(module)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu_driver, "MODULE", tmp_path / "version")
    monkeypatch.setattr(
        gpu_driver, "CARDS", tuple(str(tmp_path / name) for name in ("nvidiactl", "nvmap", "libcuda.so.1", "kfd"))
    )
    assert gpu_driver.driver_version() == driver


@pytest.mark.parametrize(
    ("there", "torch", "has"),
    [
        ({"/dev/dxg"}, "2.13.0", False),
        ({"/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1"}, "2.13.0", True),
        ({"/dev/dxg"}, "2.13.0+rocm7.1", True),  # AMD's card has no other file there
        (set(), "2.13.0+rocm7.1", False),
    ],
)
def test_wsl_has_a_driver_where_it_has_nvidias_or_torch_is_amds(
    there: set[str], torch: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/dxg is in every WSL: who has no card was told of one, and to install another torch for it."""
    monkeypatch.setattr(gpu_driver.os.path, "exists", lambda path: path in there)
    monkeypatch.setattr(gpu_driver.importlib.metadata, "version", lambda name: torch)
    monkeypatch.setattr(gpu_driver.shutil, "which", lambda name: None)
    assert gpu_driver.has_driver() is has


@pytest.mark.parametrize(
    ("answer", "found"),
    [("echo 7.0; echo 12.0", [(7, 0), (12, 0)]), ("echo 'Warning: 1.2 bad'; echo 8.9", [(8, 9)]), ("exit 9", [])],
)
def test_the_cards_capabilities_are_asked_for(
    answer: str, found: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu_driver.capabilities() == found
