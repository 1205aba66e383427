"""`python -m serve`: what cannot be served is one sentence with status 2; a signal ends it with every answer given."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from serve.__main__ import main
from serve.http.api_key import VARIABLE, is_loopback, read_keys
from workspace.errors import UserError
from workspace.paths import ROOT

KEY = "0123456789abcdef0123"


def served(*words, **more):
    """A server in a process, and the port that its log names."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **more}
    )
    for line in process.stderr:
        if "http://" in line:
            return process, int(line.split("http://127.0.0.1:")[1].split("/")[0])
    raise AssertionError("it ended without a word")


def test_bad_words_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    short, empty, good = tmp_path / "short", tmp_path / "empty", tmp_path / "good"
    for file, text in ((short, "secret\n"), (empty, "\n"), (good, f"{KEY}\n\n{KEY}2\n")):
        file.write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = {
            (str(tmp_path / "gone"),): "gone is no folder: name that of a finished run, or of a bundle",
            (
                str(tmp_path),
                "--host",
                "0.0.0.0",
            ): f"is reached from other machines: set a key, with --api-key FILE or {VARIABLE}",
            (str(tmp_path), "--api-key", str(short)): "a key has at least 16 printable ASCII characters",
            (str(tmp_path), "--api-key", str(empty)): "is empty: write the API key into it",
            (str(tmp_path), "--api-key", str(tmp_path / "no")): "there is no such file: write the API key into it",
            (
                str(tmp_path),
                "--port",
                port,
            ): f"127.0.0.1 port {port} is in use: end what holds it, or take another with",
            (str(tmp_path), "--port", "99999"): "a whole number from 0 to 65,535",
            (str(tmp_path), "--host", "no.such.host.invalid", "--api-key", str(good)): "is no address of this machine",
            (str(tmp_path), "--host", "192.0.2.1", "--api-key", str(good)): "is no address of this machine",
        }
        for words, sentence in cases.items():
            with pytest.raises(UserError) as error:
                main(words)
            assert sentence in str(error.value) and "\n" not in str(error.value), words
    assert read_keys(good) == (KEY, f"{KEY}2")
    monkeypatch.setenv(VARIABLE, KEY)
    assert read_keys(None) == (KEY,)


def test_which_addresses_are_this_machines_alone():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.evil", "")))


@pytest.mark.slow
def test_a_folder_that_is_no_run_is_one_sentence_and_status_2(tmp_path):
    words = [sys.executable, "-m", "serve", str(tmp_path), "--port", "0"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 2 and len(errors) == 1 and str(tmp_path) in errors[0]
    assert "Traceback" not in ended.stderr


def post(port, text, answers):
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("POST", "/classify", json.dumps({"input": [text]}), {"Content-Type": "application/json"})
    answer = line.getresponse()
    answers.append((answer.status, answer.read()))
    line.close()


def get(port, path):
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("GET", path)
    answer = line.getresponse()
    status, body = answer.status, answer.read().decode()
    line.close()
    return status, body


def ready(port):
    while get(port, "/ready")[0] != 200:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_everything_under_way_is_answered(sign):
    process, port = served("tests.serve.slow_server")
    ready(port)
    answers, idle = [], socket.create_connection(("127.0.0.1", port))
    asking = [threading.Thread(target=post, args=(port, f"好{n}", answers)) for n in range(20)]
    for one in asking:
        one.start()
    while "classifier_rows_waiting 19.0" not in get(port, "/metrics")[1]:  # one is being answered
        time.sleep(0.05)
    process.send_signal(sign)
    for one in asking:
        one.join()
    assert process.wait() == 0
    assert [status for status, _ in answers] == [200] * 20
    assert all(json.loads(body)["data"][0]["label"] == "正面" for _, body in answers)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))
    idle.close()
    assert "好" not in process.stderr.read()


@pytest.mark.slow
def test_killed_it_starts_again_on_the_same_port():
    process, port = served("tests.serve.slow_server")
    ready(port)
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    process.kill()
    process.wait()
    again, same = served("tests.serve.slow_server", str(port))
    assert same == port
    ready(port)
    answers = []
    post(port, "好", answers)
    assert answers[0][0] == 200
    again.send_signal(signal.SIGTERM)
    assert again.wait() == 0
    for one in lines:
        one.close()
