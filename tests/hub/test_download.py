"""Real downloads with both hubs' clients from a local server that speaks their protocols, and every way it may fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hub.clients import explain
from hub.download import Hub, begun_mark
from hub.find import find_model
from hub.model_files import fingerprint, missing_parts
from tests.hub_server import FILES, WEIGHTS, HubServer, weights
from workspace.errors import UserError
from workspace.paths import ROOT

NOWHERE = "http://127.0.0.1:9"
HUBS = ("modelscope", "hugging-face")
CODE = """import sys
from hub.find import find_model
from workspace.errors import run_main
run_main(lambda: print('FOUND', find_model(sys.argv[1])))"""


def environment(hub: str, endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """An empty home and caches, one hub at `endpoint`, and three seconds of patience."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MODELSCOPE_", "USE_HF"))}
    env |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "MODELSCOPE_CACHE": str(home / "ms"), "HUB_PATIENCE": "3"}
    env["HUB_HOSTS"] = endpoint  # the company's own hub, on http and a private address
    named = {"USE_HF": "1", "HF_ENDPOINT": endpoint} if hub == "hugging-face" else {"MODELSCOPE_ENDPOINT": endpoint}
    return {**env, **named, **more}


def find(
    hub: str, endpoint: str, home: Path, model: str = "owner/tiny", **more: str
) -> subprocess.CompletedProcess[str]:
    """`find_model` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", CODE, model],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(hub, endpoint, home, **more),
    )


def whole(result: subprocess.CompletedProcess[str]) -> Path:
    """The folder that was found, after its files are compared with the hub's."""
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.split("FOUND ")[1].strip())
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert {name for name in names if not name.startswith(".")} == {"config.json", "tokenizer.json", WEIGHTS}
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        assert (folder / name).read_bytes() == FILES[name]
    return folder


def refused(result: subprocess.CompletedProcess[str], words: str) -> None:
    """One sentence with the model, the hub and the reason; status 2."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: owner/") and "127.0.0.1" in last and words in last, last


@pytest.mark.parametrize("hub", HUBS)
def test_a_model_comes_whole_without_code_or_pickles_and_is_then_found_without_the_hub(
    hub: str, tmp_path: Path
) -> None:
    with HubServer() as server:
        folder = whole(find(hub, server.url, tmp_path))
    again = find(hub, NOWHERE, tmp_path)
    assert whole(again) == folder
    assert "downloading" not in again.stdout


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(
    ("fault", "times", "at"),
    [("cut", 1, "weights"), (500, 2, "weights"), (503, 1, "listing"), ("wrong", 1, "weights"), ("html", 1, "weights")],
)
def test_a_fault_that_passes_is_tried_again(hub: str, fault: str | int, times: int, at: str, tmp_path: Path) -> None:
    with HubServer(fault, at=at, times=times) as server:
        whole(find(hub, server.url, tmp_path))


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("at", ["weights", "listing"])
def test_a_hub_that_asks_to_wait_a_second_is_waited_for(hub: str, at: str, tmp_path: Path) -> None:
    with HubServer(429, at=at, times=1, headers={"Retry-After": "1"}) as server:
        whole(find(hub, server.url, tmp_path))


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("wrong", "the hub lists"),
        ("short", "the hub lists"),
        ("html", "the hub lists"),
        (404, "HTTP 404"),
        (403, "HTTP 403"),
        ("stall", "stalled"),
        ("trickle", "stalled"),
    ],
)
def test_a_fault_that_lasts_is_one_sentence_and_no_half_model_is_taken_next_time(
    hub: str, fault: str | int, words: str, tmp_path: Path
) -> None:
    with HubServer(fault) as server:
        # The second try of a stalled transfer tells no more than the sixth.
        refused(find(hub, server.url, tmp_path, MODELSCOPE_DOWNLOAD_MAX_RETRIES="1"), words)
    offline = find(hub, NOWHERE, tmp_path)
    assert offline.returncode == 2
    assert "are not wholly on disk" in offline.stderr
    with HubServer() as server:
        whole(find(hub, server.url, tmp_path))


def test_a_day_is_not_waited(tmp_path: Path) -> None:
    with HubServer(429, headers={"Retry-After": "86400"}) as server:
        refused(find("hugging-face", server.url, tmp_path), "asks to wait 86400 s")


@pytest.mark.parametrize("hub", HUBS)
def test_an_unknown_model_is_told(hub: str, tmp_path: Path) -> None:
    with HubServer() as server:
        refused(find(hub, server.url, tmp_path, "owner/none"), "HTTP 404")


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(("fault", "words"), [("html", "not a hub's"), (401, "HTTP 401")])
def test_a_listing_that_is_none_is_told(hub: str, fault: str | int, words: str, tmp_path: Path) -> None:
    with HubServer(fault, at="listing") as server:
        refused(find(hub, server.url, tmp_path), words)


@pytest.mark.parametrize("hub", HUBS)
def test_weights_come_from_another_host_which_gets_no_token(hub: str, tmp_path: Path) -> None:
    secret = {"HF_TOKEN": "hf_secret", "MODELSCOPE_API_TOKEN": "ms-secret"}
    with HubServer() as cdn, HubServer(cdn=f"http://localhost:{cdn.port}") as server:
        whole(find(hub, server.url, tmp_path, **secret, HUB_HOSTS=f"{server.url}, {server.cdn}"))
        assert any("secret" in str(headers) for headers in server.sent_headers)
        assert cdn.asked["GET weights"] >= 1
        assert "secret" not in str(cdn.sent_headers)


@pytest.mark.parametrize("hub", HUBS)
def test_redirects_in_a_circle_end(hub: str, tmp_path: Path) -> None:
    with HubServer("loop", at="listing") as server:
        refused(find(hub, server.url, tmp_path), "redirects in a circle")


@pytest.mark.parametrize("hub", HUBS)
def test_a_certificate_that_is_not_trusted_is_told(hub: str, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    with HubServer(certificate=(str(certificate), str(key))) as server:
        refused(find(hub, server.url, tmp_path), "certificate is not trusted")
        trusted = {"SSL_CERT_FILE": str(certificate), "REQUESTS_CA_BUNDLE": str(certificate)}
        whole(find(hub, server.url, tmp_path, **trusted))


@pytest.mark.parametrize("hub", HUBS)
def test_two_at_once_both_get_the_whole_model(hub: str, tmp_path: Path) -> None:
    with HubServer() as server:
        env = environment(hub, server.url, tmp_path)
        command = [sys.executable, "-c", CODE, "owner/tiny"]
        both = [
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for one in both:
            out, err = one.communicate()
            whole(subprocess.CompletedProcess(command, one.returncode, out, err))


@pytest.mark.parametrize("hub", HUBS)
def test_a_killed_download_goes_on(hub: str, tmp_path: Path) -> None:
    with HubServer("stall") as server:
        env = environment(hub, server.url, tmp_path, HUB_PATIENCE="600")
        command = [sys.executable, "-c", CODE, "owner/tiny"]
        one = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not server.asked["GET weights"]:
            assert one.poll() is None
            server.ended.wait(0.05)
        one.kill()
        one.wait()
    assert find(hub, NOWHERE, tmp_path).returncode == 2
    with HubServer() as server:
        whole(find(hub, server.url, tmp_path))


@pytest.mark.parametrize("hub", HUBS)
def test_a_cache_that_another_program_filled_is_taken_if_it_is_whole(hub: str, tmp_path: Path) -> None:
    with HubServer() as server:
        folder = whole(find(hub, server.url, tmp_path))
    for mark in tmp_path.rglob(".download-begun"):
        mark.unlink()
    assert find(hub, NOWHERE, tmp_path).returncode == 0
    data = folder / WEIGHTS
    with open(data.resolve(), "r+b") as stream:
        stream.truncate(1000)
    assert find(hub, NOWHERE, tmp_path).returncode == 2


@pytest.mark.parametrize("hub", HUBS)
def test_a_hub_that_cannot_be_reached_is_told(hub: str, tmp_path: Path) -> None:
    result = find(hub, NOWHERE, tmp_path)
    assert result.returncode == 2
    assert f"{NOWHERE} cannot be reached: give a folder with --model PATH" in result.stderr


def test_the_network_is_left_alone_when_the_user_forbids_it(tmp_path: Path) -> None:
    with HubServer() as server:
        result = find("modelscope", server.url, tmp_path, HF_HUB_OFFLINE="1")
        assert not server.sent_headers
    assert result.returncode == 2
    assert "forbids the network" in result.stderr


def test_hugging_face_is_asked_where_modelscope_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hub import find as models

    for name in (*models.CHOSEN_BY, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    asked: list[Hub] = []
    monkeypatch.setattr(models, "cached", lambda hub, model: None)
    monkeypatch.setattr(models, "_answers", lambda endpoint: "huggingface" in endpoint)
    monkeypatch.setattr(models, "download", lambda hub, model: asked.append(hub) or tmp_path)
    assert find_model("owner/tiny") == tmp_path
    assert [hub.name for hub in asked] == ["Hugging Face"]
    assert "https://modelscope.cn cannot be reached, so Hugging Face is asked" in capsys.readouterr().out
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    monkeypatch.setenv("HUB_HOSTS", NOWHERE)
    with pytest.raises(UserError, match=f"{NOWHERE} cannot be reached"):
        find_model("owner/tiny")


def test_a_full_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import errno

    from hub import download as hub
    from workspace.errors import MachineFault

    def full(*_: object, **__: object) -> Path:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("download failed") from error

    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "snapshot", full)
    with pytest.raises(MachineFault, match="the disk is full: make room"):
        hub.download(hub.modelscope(), "owner/tiny")
    assert begun_mark(hub.modelscope(), "owner/tiny").exists()


def test_an_unknown_failure_keeps_its_words() -> None:
    assert str(explain(ValueError("something\nodd"))).startswith("something odd")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        (folder / name).write_bytes(FILES[name])
    return folder


def test_a_copy_has_the_same_fingerprint(model: Path, tmp_path: Path) -> None:
    first = fingerprint(model)
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert fingerprint(copy) == first


def test_one_byte_in_the_weights_is_seen_though_the_time_is_set_back(model: Path) -> None:
    first, path = fingerprint(model), model / WEIGHTS
    assert fingerprint(model) == first
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with open(path, "r+b") as stream:
        stream.seek(150_000)
        stream.write(b"\xff")
    os.utime(path, ns=times)
    assert path.stat().st_mtime_ns == times[1]
    assert fingerprint(model) != first


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_configuration_and_tokenizer_belong_to_the_fingerprint(model: Path, name: str) -> None:
    first = fingerprint(model)
    (model / name).write_text('{"model_type": "other"}')
    assert fingerprint(model) != first


def test_weights_are_hashed_once_and_again_without_a_cache(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub import model_files

    first = fingerprint(model)
    read: list[Path] = []
    monkeypatch.setattr(model_files, "_read", lambda path, size: read.append(path) or "x")
    assert fingerprint(model) == first
    assert not read
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(model / "config.json"))  # a file: nothing can be kept there
    fingerprint(model)
    assert read == [(model / WEIGHTS).resolve()]


@pytest.mark.parametrize(
    ("name", "content", "lacks"),
    [
        ("config.json", b"<html>Please log in</html>", "a readable config.json"),
        ("tokenizer.json", b"<html>", "a readable tokenizer.json"),
        (WEIGHTS, weights()[:-1], "whole weights (model.safetensors is torn)"),
        (WEIGHTS, b"<html>Please log in</html>", "whole weights (model.safetensors is torn)"),
    ],
)
def test_files_that_are_not_what_they_are_called_are_told(model: Path, name: str, content: bytes, lacks: str) -> None:
    (model / name).write_bytes(content)
    assert missing_parts(model) == lacks
