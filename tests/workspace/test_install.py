"""The set-up: lock files that cover the pins, the right build of torch, one sentence where it fails, one at a time."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from workspace import install
from workspace.errors import UserError
from workspace.installer import NO_SPACE, Installer, reason
from workspace.paths import ROOT

LOCKS = sorted(ROOT.glob("requirements-*.lock"))
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
HASHES = ("--require-hashes", "--no-deps", "--requirement")


def pinned(*names: str) -> dict[str, str]:
    """Package to version, in the words of an index, of files of pins."""
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s#]+)", text, re.MULTILINE)
    }


def make_wheel(folder: Path, name: str = "tiny", payload: bytes = b"") -> Path:
    """A wheel without a line of code."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", b"DATA = '''" + payload + b"'''\n")
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def uv(tmp_path: Path) -> Installer:
    """uv with nothing set but a cache of its own."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("uv is not installed: pip install -r requirements-dev.txt")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
    environ |= {"UV_CACHE_DIR": str(tmp_path / "uv-cache"), "NO_PROXY": "127.0.0.1"}
    return Installer((found, "pip"), ("--python", sys.executable), environ)


def test_pins_are_exact_and_met_here() -> None:
    assert install.misses(ROOT / "requirements.txt") == []
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    assert all("==" in package for package in packages)


def test_a_missed_pin_is_named(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("pytest==0.0.1  # old\nno-such-package==1\n")
    found = install.misses(tmp_path / "pins.txt")
    assert found[0].startswith("pytest: ") and found[0].endswith("wanted 0.0.1")
    assert found[1] == "no-such-package: missing, wanted 1"


@pytest.mark.parametrize("build", ["cpu", "gpu"])
def test_the_locks_have_every_pin_with_its_version(build: str) -> None:
    locked = pinned(f"requirements-{build}.lock", "requirements-dev.lock")
    for name, version in pinned("requirements.txt", "requirements-dev.txt").items():
        assert locked[name].split("+")[0] == version
    assert pinned("requirements-uv.lock")["uv"] == pinned("requirements-dev.txt")["uv"]


def test_vllm_has_the_tested_set_but_for_what_it_cannot_take() -> None:
    """Into the usual environment it brought another numpy and fastapi, and the next set-up failed."""
    usual, own = pinned("requirements.txt"), pinned("requirements-vllm.txt")
    assert {name for name in usual | own if usual.get(name) != own.get(name)} == {"vllm", "numpy", "fastapi"}
    assert install.constraints("requirements-vllm.txt") == (
        "--constraint",
        str(ROOT / "requirements-vllm-constraints.txt"),
    )
    every = pinned("requirements-vllm-constraints.txt")
    assert {name: every.get(name) for name in own} == own
    assert install.constraints("requirements.txt") == ()


def test_the_set_with_vllm_has_an_environment_of_its_own(tmp_path: Path) -> None:
    shutil.copy(ROOT / "setup_environment.sh", tmp_path)
    for name in (".venv", ".venv-vllm"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "activate").write_text(f"echo {name}\n")
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    for pins, venv in (("requirements.txt", ".venv"), ("requirements-vllm.txt", ".venv-vllm")):
        (tmp_path / pins).write_text("")
        words = ["bash", "-c", "source ./setup_environment.sh"]
        env |= {"PYTHON": "true", "REQUIREMENTS": pins}
        assert subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True).stdout == f"{venv}\n"


def test_the_locks_agree_but_for_torch_and_its_libraries() -> None:
    cpu, gpu = pinned("requirements-cpu.lock"), pinned("requirements-gpu.lock")
    differing = {name for name in cpu | gpu if cpu.get(name) != gpu.get(name)}
    assert all(re.match(r"torch$|nvidia-|cuda-|triton$", name) for name in differing)
    assert cpu["torch"] == f"{gpu['torch']}+cpu"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_hashes_and_no_lock_an_address_or_an_option(lock: Path) -> None:
    entries = install.read_lock(lock)
    assert entries
    for entry in entries.values():
        assert re.fullmatch(r"[\w.-]+==[^\s;]+( ;[^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry
    assert "://" not in lock.read_text(encoding="utf-8")


def test_without_hashes_is_said_why() -> None:
    assert install.not_covered("requirements.txt", {"NO_HASHES": "1"}) == "NO_HASHES is set"
    assert "PIP_NO_INDEX" in str(install.not_covered("requirements.txt", {"PIP_NO_INDEX": "1"}))
    assert "no lock file" in str(install.not_covered("other.txt", {}))


@pytest.mark.parametrize(
    ("driver", "locked", "there", "words", "cards"),
    [
        (None, True, "", "--no-deps --require-hashes --requirement {file}", ()),
        (None, True, "--torch-backend=cpu", "--no-deps --require-hashes --requirement {file} --torch-backend=cpu", ()),
        (None, False, "torch==1.2+cpu", "--no-deps torch==1.2+cpu", ()),
        (None, True, "nothing", None, ()),
        (install.CUDA_13_DRIVER, True, "", None, ()),  # what the index has fits
        (install.CUDA_13_DRIVER, True, "", "torch==1.2 --torch-backend=cu126", [(7, 0)]),  # it has nothing for a V100
        (install.CUDA_13_DRIVER, True, "", None, [(6, 1), (8, 9)]),
        (550, True, "", "torch==1.2 --torch-backend=cu126", [(7, 0)]),
        (570, True, "", "torch==1.2 --torch-backend=auto", [(12, 0)]),  # uv knows which builds a driver takes
        (550, True, "--torch-backend=auto", "torch==1.2 --torch-backend=auto", ()),
        (550, True, "nothing", None, ()),
        (0, True, "--torch-backend=auto", "torch==1.2 --torch-backend=auto", ()),
    ],
)
def test_the_build_of_torch(
    driver: int | None,
    locked: bool,
    there: str,
    words: str | None,
    cards: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Installer, "finds", lambda self, *asked: not there or there in asked)
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    build = install.torch_build(Installer(("uv", "pip")), driver, "1.2", tmp_path if locked else None, cards)
    assert (build and " ".join(build.words)) == (words and words.format(file=tmp_path))
    assert not build or build.locked is ("--require-hashes" in build.words)


def test_a_full_disk_is_one_sentence() -> None:
    said = f"error: Failed to install: a.whl\n  cause: {NO_SPACE} (os error 28)\n"
    assert reason(said).startswith("the disk is full: free 3 GB")


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_wheel_with_another_hash_is_not_installed(tool: str, tmp_path: Path, request, capfd) -> None:
    installer = Installer(PIP) if tool == "pip" else request.getfixturevalue("uv")
    make_wheel(tmp_path)
    (tmp_path / "a.lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    words = ["--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "to"), *HASHES]
    with pytest.raises(UserError, match="SHA-256 differs"):
        installer.install(*words, str(tmp_path / "a.lock"))
    (tmp_path / "a.lock").write_text("tiny==1.0\n")  # no hash at all
    with pytest.raises(UserError, match="SHA-256 differs"):
        installer.install(*words, str(tmp_path / "a.lock"))
    assert not (tmp_path / "to" / "tiny.py").exists()
    assert capfd.readouterr().err


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_package_that_is_nowhere_is_one_sentence(tool: str, tmp_path: Path, request) -> None:
    installer = Installer(PIP) if tool == "pip" else request.getfixturevalue("uv")
    assert not installer.finds("--no-index", "no-such-package")
    with pytest.raises(UserError, match="connect to a package index"):
        installer.install("--no-index", "--target", str(tmp_path / "to"), "no-such-package")


def test_a_stalled_download_is_said_and_begun_again(uv: Installer, tmp_path: Path, capfd) -> None:
    data = make_wheel(tmp_path, payload=os.urandom(2_000_000).hex().encode()).read_bytes()
    over, downloads = Event(), []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>'
            if self.path.endswith(".whl") and "Range" not in self.headers:
                downloads.append(self.path)
                body = data
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if body is data and len(downloads) == 1:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                over.wait()
            else:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    Thread(target=server.serve_forever, daemon=True).start()
    index = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        patient = uv._replace(environment={**uv.environment, "UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "3"})
        patient.install("--no-deps", "--default-index", index, "--target", str(tmp_path / "to"), "tiny")
    finally:
        over.set()
        server.shutdown()
    assert (tmp_path / "to" / "tiny.py").exists()
    assert "the download of tiny stalled or broke off; again:" in capfd.readouterr().err


def test_a_file_of_pins_that_is_not_there_is_one_sentence() -> None:
    words = [sys.executable, "-m", "workspace.install", "requirements-none.txt", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "requirements-none.txt" in done.stderr and "REQUIREMENTS" in done.stderr


@pytest.mark.slow
def test_two_set_ups_at_once_leave_one_whole_environment_and_a_third_does_nothing(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "workspace", project / "workspace")
    shutil.copy(ROOT / "setup_environment.sh", project)
    for lock in LOCKS:
        shutil.copy(lock, project)
    (project / "requirements.txt").write_text("tiny==1.0\n")
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels")
    outside = ("VIRTUAL_ENV", "CONDA_PREFIX", "REQUIREMENTS", "NO_HASHES")
    environ = {key: value for key, value in os.environ.items() if key not in outside}
    environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    environ |= {"PYTHON": sys.executable, "UV_CACHE_DIR": str(tmp_path / "uv-cache")}
    script = "source ./setup_environment.sh && python -c 'import tiny, sys; print(sys.prefix)'"

    def start() -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(["bash", "-c", script], cwd=project, env=environ, text=True, **pipes)

    ended = [(process.communicate(), process.returncode) for process in [start(), start()]]
    assert [status for _, status in ended] == [0, 0], ended
    assert {out.strip() for (out, _), _ in ended} == {str(project / ".venv")}
    said = sorted((err for (_, err), _ in ended), key=len)
    assert "waiting for it" in said[0] and "installing" not in said[0]
    assert "without hashes" in said[1] and "PIP_NO_INDEX is set" in said[1]

    assert start().communicate() == (f"{project / '.venv'}\n", "")

    (project / ".venv" / "bin" / "python").unlink()  # what an interrupted start, or a removed Python, leaves
    for stamp in (project / ".venv").glob("pins-*"):
        stamp.unlink()
    again = start()
    out, err = again.communicate()
    assert again.returncode == 0 and out.strip() == str(project / ".venv"), err


def test_a_check_of_the_environment_that_was_killed_makes_no_other_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "setup_environment.sh", tmp_path)
    (tmp_path / "python").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "python").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VIRTUAL_ENV": "/somewhere", "PYTHON": "true"}
    result = subprocess.run(
        ["bash", "-c", "set -e; source ./setup_environment.sh; echo went on"],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 137 and result.stdout == ""


def test_no_set_up_changes_an_environment_that_a_run_uses(tmp_path: Path) -> None:
    shutil.copy(ROOT / "setup_environment.sh", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / ".venv.lock").write_text("")
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    shell = subprocess.Popen(
        ["bash", "-c", "source ./setup_environment.sh; echo runs; read -r _"],
        cwd=tmp_path, env=env | {"PYTHON": "true"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert shell.stdout is not None and shell.stdout.readline() == "runs\n"
    with open(tmp_path / ".venv.lock") as lock:
        with pytest.raises(BlockingIOError):  # as a set-up takes it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shell.communicate("\n")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_environment_that_is_linked_to_is_not_emptied(tmp_path: Path, monkeypatch) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "package").write_text("kept")
    (tmp_path / ".venv").symlink_to(others)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"\.venv is a link to .*others.*: remove the link, or activate"):
        install.set_up("requirements.txt", Path(".venv/pins"))
    assert (others / "package").read_text() == "kept"
