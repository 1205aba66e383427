"""Real downloads of a model from a local server that speaks the Hugging Face hub's protocol."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workspace.paths import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "modeling_evil.py": b"open('canary', 'w')",
    "pytorch_model.bin": b"pickle",
}


class Hub(BaseHTTPRequestHandler):
    """Serves one repository, owner/tiny; `broken` repositories answer 500 to every file."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path == "/":
            return self.send(200, b"", {}, body)
        if path.startswith("/api/models/owner/"):
            if "/tree/" in path:
                tree = [{"type": "file", "path": n, "size": len(d), "oid": n} for n, d in FILES.items()]
                return self.send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
            listing = {"id": "owner/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
        name = path.rsplit("/", 1)[-1]
        if "/owner/broken/" in path or name not in FILES:
            return self.send(500 if name in FILES else 404, b"", {}, body)
        data = FILES[name]
        etag = hashlib.sha256(data).hexdigest()
        self.send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def find(model: str, endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """`find_model` in a process of its own, with an empty cache and the hub at `endpoint`."""
    code = "import sys; from train.models import find_model; from workspace.errors import run_main\n"
    code += "run_main(lambda: print('FOUND', find_model(sys.argv[1])))"
    env = {**os.environ, "USE_HF": "1", "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    env.pop("HF_HUB_OFFLINE", None)
    return subprocess.run([sys.executable, "-c", code, model], cwd=ROOT, capture_output=True, text=True, env=env)


def test_a_model_is_downloaded_whole_without_code_or_pickles_and_then_cached(endpoint: str, tmp_path: Path) -> None:
    result = find("owner/tiny", endpoint, tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.split("FOUND ")[1].strip())
    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    again = find("owner/tiny", "http://127.0.0.1:9", tmp_path)
    assert again.returncode == 0, again.stderr
    assert "downloading" not in again.stdout


def test_a_hub_that_fails_is_one_sentence_and_leaves_no_model(endpoint: str, tmp_path: Path) -> None:
    result = find("owner/broken", endpoint, tmp_path)
    assert result.returncode == 2
    assert "owner/broken could not be downloaded from" in result.stderr
    assert "Traceback" not in result.stderr
    offline = find("owner/broken", "http://127.0.0.1:9", tmp_path)
    assert offline.returncode == 2
    assert "cannot be reached: give a folder with --model PATH" in offline.stderr
