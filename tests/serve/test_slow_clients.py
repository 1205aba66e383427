"""Clients that are slow, go away, or never say what they want: none keeps a place, and the others are answered."""

import json
import socket
import time

import httpx
import pytest

from serve.http.limits import Limits
from tests.serve.made_up import MadeUp, running

HTTP = httpx.Client(timeout=None)
HEAD = "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


def connected(server, text=""):
    line = socket.create_connection(("127.0.0.1", server.listener.port))
    line.sendall(text.encode())
    return line


def received(line):
    """All that comes until the other side ends."""
    parts = []
    try:
        while part := line.recv(4096):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts).decode()


def test_half_a_head_and_half_a_body_are_waited_for_no_longer_than_the_limit():
    with running(limits=Limits(seconds=3600, reading=0.5)) as server:
        silent, half = connected(server), connected(server, "POST /classify HT")
        body = connected(server, HEAD.format(100) + '{"input"')
        later = connected(server, HEAD.format(16) + '{"input": "好"}')
        while b"data" not in later.recv(4096):
            pass
        later.sendall(b"GET /hea")
        assert HTTP.get(f"{server.url}/health").status_code == 200
        assert received(silent) == received(half) == received(later) == ""
        answer = body.recv(4096).decode()
        assert " 408 " in answer.split("\r\n")[0] and "did not arrive within 0.5 seconds" in answer


def test_whoever_goes_away_frees_the_place_of_his_rows():
    classifier = MadeUp()
    with running(classifier) as server:
        classifier.gate.clear()
        first = connected(server, HEAD.format(16) + '{"input": "好"}')
        while server.service.batcher.taken != 1:
            time.sleep(0.01)
        body = json.dumps({"input": ["走了"] * 100})
        gone = connected(server, HEAD.format(len(body)) + body)
        while server.service.batcher.waiting != 100:
            time.sleep(0.01)
        gone.close()
        while server.service.batcher.waiting:
            time.sleep(0.01)
        classifier.gate.set()
        assert b"200 OK" in first.recv(4096)
        first.close()
        text = HTTP.get(f"{server.url}/metrics").text
        assert 'classifier_requests_total{route="/classify",status="499"} 1.0' in text
        assert "走了" not in classifier.texts


@pytest.mark.slow
def test_three_hundred_idle_lines_keep_nobody_from_an_answer():
    with running() as server:
        lines = [connected(server, "POST /classify HTTP/1.1\r\n") for _ in range(300)]
        for n in range(20):
            assert HTTP.post(f"{server.url}/classify", json={"input": f"好{n}"}).status_code == 200
        for line in lines:
            line.close()
