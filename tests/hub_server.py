"""A local server that speaks the protocols of both model hubs, takes what is uploaded, and fails on command."""

import base64
import hashlib
import json
import ssl
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"


def weights(size: int = 300_000) -> bytes:
    """A whole safetensors file of `size` bytes of numbers."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(i * 37 % 251 for i in range(size))


FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "tokenizer.json": b'{"model": {}}',
    WEIGHTS: weights(),
    "modeling_evil.py": b"open('canary', 'w')",
    "pytorch_model.bin": b"pickle",
}


class HubServer:
    """Serves owner/tiny as ModelScope and as Hugging Face, and takes any repository from whoever has the
    `token`; a context manager.

    `fault` says what becomes of requests for `at` ("weights", "listing" or "all"), for the first `times` of them:
    cut, stall, trickle, short, wrong, html, loop, cdn, or an HTTP status, with the headers in `headers`. `received` has
    the files of each repository, and `made` what it was made with.
    """

    def __init__(
        self,
        fault: str | int = "",
        at: str = "weights",
        times: float = float("inf"),
        headers: dict[str, str] | None = None,
        certificate: tuple[str, str] | None = None,
        files: dict[str, bytes] | None = None,
        cdn: str = "",
    ) -> None:
        self.fault, self.at, self.left, self.headers = fault, at, times, headers or {}
        self.files, self.cdn = FILES if files is None else files, cdn
        self.asked: Counter[str] = Counter()
        self.received: dict[str, dict[str, bytes]] = {}
        self.made: dict[str, dict[str, object]] = {}
        self.blobs: dict[str, bytes] = {}
        self.token = "mine"
        self.sent_headers: list[dict[str, str]] = []
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def strikes(self, kind: str) -> bool:
        """Whether the fault befalls this request; counts it."""
        with self.lock:
            if not self.fault or self.at not in (kind, "all") or self.left <= 0:
                return False
            self.left -= 1
            return True


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_PUT(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = f"{self.headers.get('Authorization')} {self.headers.get('Cookie')}"
            if f"Bearer {hub.token}" not in sent and f"m_session_id={hub.token}" not in sent:
                return self.send(401, b'{"Code": 401, "Success": false, "Message": "log in"}')
            path = urlsplit(self.path).path
            if (
                path.endswith("/api/v1/models")
                and "/".join(json.loads(body)[key] for key in ("Path", "Name")) in hub.made
            ):
                return self.send(409, b'{"Code": 409, "Success": false, "Message": "it already exists"}')
            value = taken(hub, path, body)
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def answer(self) -> None:
            hub.sent_headers.append(dict(self.headers.items()))
            parts = urlsplit(self.path)
            path, query = parts.path, parse_qs(parts.query)
            if path == "/":
                return self.send(200, b"")
            if path.startswith("/loop"):
                return self.send(302, b"", {"Location": "/loop"})
            if path.startswith("/blob/"):  # what a CDN does: no metadata, only bytes
                return self.file(path.removeprefix("/blob/"), {})
            pushed = next((kept for name, kept in hub.received.items() if f"/{name}/" in path), None)
            if pushed is None and any(f"/{name}/" in path for name in hub.made):
                pushed = {}
            if pushed is not None and "/tree/" in path:
                return self.listing(hugging_face_tree(pushed))
            if pushed is not None and path.endswith("/repo/files"):
                return self.listing({"Code": 200, "Success": True, "Data": {"Files": modelscope_files(pushed)}})
            if "/owner/tiny" not in path:
                return self.send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            if path.startswith("/api/models/"):
                return self.listing(
                    hugging_face_tree(hub.files) if "/tree/" in path else {"id": "owner/tiny", "sha": COMMIT}
                )
            if path.endswith("/repo/files"):
                return self.listing({"Code": 200, "Success": True, "Data": {"Files": modelscope_files(hub.files)}})
            if path.endswith("/repo"):
                return self.file(query["FilePath"][0], {})
            if "/resolve/" in path:
                name = path.rsplit("/", 1)[-1]
                return self.file(name, hugging_face_headers(name, hub.files.get(name, b"")))
            return self.send(200, b'{"Code": 200, "Data": {}}', {"Content-Type": "application/json"})

        def listing(self, value: object) -> None:
            hub.asked["listing"] += 1
            body = json.dumps(value).encode()
            if hub.strikes("listing"):
                return self.fail(body, {}, "listing")
            self.send(200, body, {"Content-Type": "application/json"})

        def file(self, name: str, headers: dict[str, str]) -> None:
            data = hub.files.get(name)
            if data is None:
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            kind = "weights" if name == WEIGHTS else "small"
            hub.asked[f"{self.command} {kind}"] += 1
            if hub.cdn and kind == "weights" and not self.path.startswith("/blob/"):
                return self.send(302, b"", {**headers, "Location": f"{hub.cdn}/blob/{name}"})
            # Hugging Face's HEAD answers well: the faults befall the transfer, unless a status is the fault.
            if (self.command == "GET" or isinstance(hub.fault, int)) and hub.strikes(kind):
                return self.fail(data, headers, kind)
            first = 0
            if (wanted := self.headers.get("Range", "")).startswith("bytes="):
                first = int(wanted.removeprefix("bytes=").split("-")[0])
            if first:
                hub.asked["range"] += 1
                span = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
                return self.send(206, data[first:], {**headers, **span})
            self.send(200, data, headers)

        def fail(self, data: bytes, headers: dict[str, str], kind: str) -> None:
            fault, half = hub.fault, len(data) // 2
            if isinstance(fault, int):
                return self.send(fault, b"", hub.headers)
            if fault == "loop":
                return self.send(302, b"", {**headers, "Location": "/loop"})
            if fault == "html":
                return self.send(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
            if fault == "wrong":
                return self.send(200, data[:-9] + b"x" + data[-8:], headers)
            if fault == "short":
                return self.send(200, data[:-7], headers)
            self.close_connection = True
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if fault == "trickle":
                    for at in range(len(data)):
                        self.wfile.write(data[at : at + 1])
                        self.wfile.flush()
                        if hub.ended.wait(0.1):
                            return
                self.wfile.write(data[:half])
                self.wfile.flush()
                if fault == "stall":
                    hub.ended.wait()
            except OSError:
                pass  # the client has given up

        def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with suppress(OSError):
                    self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def taken(hub: HubServer, path: str, body: bytes) -> dict[str, object]:
    """The answer to an upload's request of either client; what comes is kept."""
    if path.startswith("/upload/"):
        hub.blobs[path.removeprefix("/upload/")] = body
        return {}
    if path.endswith(("/api/repos/create", "/api/v1/models")):
        asked = json.loads(body)
        owner, name = (asked.get(key) for key in (("organization", "name") if "name" in asked else ("Path", "Name")))
        hub.made[f"{owner}/{name}"] = asked
        return {"url": f"{hub.url}/{owner}/{name}", "Code": 200, "Success": True, "Data": {"Path": owner, "Name": name}}
    if path.endswith("/preupload/main"):
        files = [
            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]
        ]
        return {"files": files}
    if path.endswith("/objects/batch"):
        asked = json.loads(body)["objects"]
        objects = [one | {"actions": {"upload": {"href": f"{hub.url}/upload/{one['oid']}"}}} for one in asked]
        return {"Code": 200, "Success": True, "Data": {"objects": objects}}
    if "/commit/" in path:
        repository = "/".join(path.partition("/commit/")[0].split("/")[-2:])
        kept = hub.received.setdefault(repository, {})
        if path.startswith("/api/v1/"):
            values = json.loads(body)["actions"]
            for one in [one for one in values if one.get("action") == "delete"]:
                values.remove(one)
                del kept[one["path"]]
        else:
            values = [json.loads(line) for line in body.splitlines()]
            for one in [one["value"] for one in values if one["key"] == "deletedFile"]:
                del kept[one["path"]]
            values = [one["value"] for one in values if one["key"] == "file"]
        for one in values:
            oid = one.get("sha256") if one.get("type") == "lfs" else None
            kept[one["path"]] = hub.blobs[oid] if oid else base64.b64decode(one["content"])
        done = {"commitUrl": f"{hub.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
        return {**done, "Code": 200, "Success": True, "Data": {"oid": COMMIT}}
    return {"errors": [], "warnings": []}


def git_hash(data: bytes) -> str:
    """Git's name for a file's content, which Hugging Face lists for small files."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def hugging_face_tree(files: dict[str, bytes]) -> list[dict[str, object]]:
    """Hugging Face's listing: weights are LFS files with a SHA-256."""
    tree = []
    for name, data in files.items():
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
        if name == WEIGHTS:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        tree.append(entry)
    return tree


def hugging_face_headers(name: str, data: bytes) -> dict[str, str]:
    """The headers of Hugging Face's /resolve/ for a file."""
    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash(data)}"'}
    if name == WEIGHTS:
        headers |= {"X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
    return headers


def modelscope_files(files: dict[str, bytes]) -> list[dict[str, object]]:
    """ModelScope's listing: each file with length and SHA-256."""
    return [
        {"Name": name, "Path": name, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    ]
