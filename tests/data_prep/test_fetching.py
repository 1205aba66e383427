"""The download, from a server on this machine: the right file, the wrong one, none, and half of one."""

import hashlib
import http.server
import threading

import pytest

from data_prep.table import fetching
from data_prep.table.fetching import fetch, find_table
from data_prep.task import Source
from tests.prep_tables import small_task
from workspace.errors import UserError

CONTENT = b"label,review\n1,a\n" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing.csv":
            self.send_error(404)
            return
        if self.path == "/busy.csv" and len(self.server.asked) < 3:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 500 if self.path == "/cut.csv" else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def source(server, name, content=CONTENT):
    return Source(f"http://127.0.0.1:{server.server_port}/{name}", hashlib.sha256(content).hexdigest())


def test_a_good_file_is_fetched_once(server, tmp_path):
    for _ in range(2):
        path = fetch(source(server, "good.csv"), "table.csv")
        assert path == tmp_path / "cache" / "data" / "table.csv"
        assert path.read_bytes() == CONTENT
    assert server.asked == ["/good.csv"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server):
    path = fetch(source(server, "good.csv"), "table.csv")
    path.write_bytes(CONTENT[:100])
    assert fetch(source(server, "good.csv"), "table.csv").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server):
    assert fetch(source(server, "busy.csv"), "table.csv").read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("name", "content", "told", "asked"),
    [
        ("good.csv", b"another", "its SHA-256 differs", 1),
        ("missing.csv", CONTENT, "the server answered 404", 1),
        ("cut.csv", CONTENT, "the connection was cut", 3),
    ],
)
def test_faults_are_one_sentence_with_a_remedy_and_leave_nothing(server, tmp_path, name, content, told, asked):
    with pytest.raises(UserError) as caught:
        fetch(source(server, name, content), "table.csv")
    message = str(caught.value)
    assert told in message
    assert f"/{name}" in message
    assert "--csv PATH" in message
    assert "\n" not in message
    assert len(server.asked) == asked
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_no_server_at_all(server, tmp_path):
    server.server_close()
    with pytest.raises(UserError, match=r"could not be downloaded \(no connection\): download it by hand"):
        fetch(source(server, "good.csv"), "table.csv")


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(source(server, "good.csv"), "table.csv")


def test_which_table_is_read(server, tmp_path):
    asked, own = tmp_path / "asked.csv", tmp_path / "own.csv"
    task = small_task(tmp_path, csv=str(own))
    with pytest.raises(UserError, match=r"there is no file .*own\.csv: give the table with --csv PATH"):
        find_table(task, None)
    with pytest.raises(UserError, match="the task small names no csv"):
        find_table(small_task(tmp_path), None)
    told = source(server, "good.csv")
    task = small_task(tmp_path, csv=str(own), source={"url": told.url, "sha256": told.sha256})
    with pytest.raises(UserError, match=r"there is no file .*asked\.csv"):  # never a download in its place
        find_table(task, asked)
    assert server.asked == []
    assert find_table(task, None) == tmp_path / "cache" / "data" / "own.csv"
    own.write_bytes(b"x")
    assert find_table(task, None) == own
    asked.write_bytes(b"x")
    assert find_table(task, asked) == asked
