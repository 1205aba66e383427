"""The hubs' own download clients: the limits and the progress that they lack, and their errors in plain words."""

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hub.hosts import check_url
from workspace.errors import UserError

# Remote code and pickled weights are not wanted, nor other frameworks' weights.
UNWANTED = [
    "*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf",
    "*.tflite", "*.zip", "*.tar", "*.tar.gz", "*.npz", "*.joblib", "*.mdl", "*.msc",
]  # fmt: skip
REMEDY = "give a folder with --model PATH, connect to the hub, or copy the weights into its cache"
LONGEST_WAIT = 120  # seconds that a server may ask to wait
BYTES_PER_SECOND = 1024  # slower than this for as long as patience lasts is as good as stalled


class HubFault(Exception):
    """What the hub did wrong, in plain words, and what to do; `again`: whether another try at once may do better."""

    def __init__(self, what: str, remedy: str = REMEDY, again: bool = False) -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.again = again


def patience() -> int:
    """Seconds without progress after which a download is given up: HUB_PATIENCE, else 60. Raises `UserError`."""
    given = os.environ.get("HUB_PATIENCE") or "60"
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"HUB_PATIENCE={given}: give whole seconds, 1 or more")
    return int(given)


def snapshot(hugging_face: bool, endpoint: str, model: str, local_only: bool) -> Path:
    """The model's folder in the hub's cache, fetched by the hub's client unless `local_only`. Raises its errors."""
    if not local_only:
        check_url(endpoint)
    if hugging_face:
        from huggingface_hub import snapshot_download
        from tqdm.auto import tqdm

        bars: list[Any] = []
        bar_class = _bar_class(tqdm, bars)
        options: dict[str, Any] = {"local_files_only": local_only, "ignore_patterns": UNWANTED, "tqdm_class": bar_class}
        try:
            return Path(snapshot_download(model, endpoint=endpoint, **options))
        finally:
            for bar in bars:  # the client leaves them open when it fails, and they would end below our sentence
                bar.close()
    from modelscope import snapshot_download as modelscope_download

    return Path(modelscope_download(model, local_files_only=local_only, ignore_file_pattern=UNWANTED))


def _bar_class(tqdm: Any, made: list[Any]) -> Any:
    """A tqdm with the time that remains, which the client's own bars lack; each one made is added to `made`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            options["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
            options["disable"] = "Downloading bytes" in str(options.get("desc"))  # counts the same bytes twice
            if "Reconstructing" in str(options.get("desc")):
                options["desc"] = "Downloading"
            super().__init__(*args, **options)
            made.append(self)

        def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
            super().set_description("Downloaded" if desc and "complete" in desc else "Downloading", refresh)

        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            """The rate is part of the bar itself."""

    return Bar


def set_limits(hugging_face: bool) -> None:
    """Bounds on the client's stalls and waits; what the user has set stays."""
    seconds = str(patience())
    for name, value in {
        "MODELSCOPE_DOWNLOAD_TIMEOUT": seconds,
        "MODELSCOPE_DOWNLOAD_LOW_SPEED_WINDOW_SECONDS": seconds,
        "MODELSCOPE_DOWNLOAD_MIN_BYTES_PER_SECOND": str(BYTES_PER_SECOND),
        # Five times, whatever the server asks.
        "MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS": str(max(1, patience() // 2)),
        # A slow line may need more than the client's hour for a file of gigabytes; stalls are what is bounded.
        "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": str(24 * 3600),
        # It asks the cloud's own service which region this is, and is then sent to addresses of the cloud's inside.
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
        "HF_HUB_DOWNLOAD_TIMEOUT": seconds,
        # Its own transport in Rust, past the limits and checks here.
        "HF_HUB_DISABLE_XET": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not hugging_face:
        return
    from huggingface_hub import constants, set_client_factory

    constants.HF_HUB_DISABLE_XET = True  # read at import, which may have been before
    constants.HF_HUB_DOWNLOAD_TIMEOUT = int(os.environ["HF_HUB_DOWNLOAD_TIMEOUT"])
    set_client_factory(_client)


def _client() -> Any:
    import httpx

    # Every request is checked, also one of a redirect.
    hooks = {"request": [lambda request: check_url(str(request.url))], "response": [_watch]}
    return httpx.Client(event_hooks=hooks, follow_redirects=True, timeout=patience())


def _watch(response: Any) -> None:
    """Have an answer of Hugging Face's end with a `HubFault` when it asks to wait too long or comes too slowly."""
    import httpx

    if response.status_code in (429, 503):
        waits = [response.headers.get("retry-after", "")]
        waits += re.findall(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
        longest = max((int(wait) for wait in waits if wait.strip().isdecimal()), default=0)
        if longest > LONGEST_WAIT:
            what = f"it asks to wait {longest} s (HTTP {response.status_code})"
            raise HubFault(what, f"run the same command again then, or {REMEDY}")

    class Watched(httpx.SyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[bytes]:
            begin, received = time.monotonic(), 0
            for block in self.stream:
                yield block
                received += len(block)
                if (elapsed := time.monotonic() - begin) >= patience():
                    if received < elapsed * BYTES_PER_SECOND:
                        raise _stalled()
                    begin, received = time.monotonic(), 0

        def close(self) -> None:
            self.stream.close()

    response.stream = Watched(response.stream)


def explain(error: BaseException) -> HubFault:
    """An error of either client as a `HubFault`: why a download failed, what to do, and whether to try again."""
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, HubFault):
            return cause
        if isinstance(cause, UserError):
            return HubFault(str(cause), "")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return HubFault(
            "its certificate is not trusted",
            "behind a company's proxy, name the proxy's certificate in SSL_CERT_FILE and REQUESTS_CA_BUNDLE",
        )
    if status := next((code for cause in causes if (code := _status_of(cause))), None):
        return _status_fault(status)
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if "TooManyRedirects" in kinds:
        return HubFault("it redirects in a circle", f"check the endpoint's address, or {REMEDY}")
    # A bare OSError is how Hugging Face's client says that a file has another length than was announced.
    unannounced = any(type(cause) is OSError and cause.errno is None for cause in causes)
    if unannounced or kinds & {"FileIntegrityError", "FileSizeMismatchError"}:
        what = "a file that came is not the one the hub lists (wrong length or hash, or a login page in its place)"
        return HubFault(what, f"log in to the network, run the same command again, or {REMEDY}", again=True)
    if kinds & {"JSONDecodeError", "FileMetadataError"}:
        what = "its answers are not a hub's (a login page, or another server)"
        return HubFault(what, f"log in to the network, or {REMEDY}", again=True)
    if kinds & {"TimeoutException", "Timeout", "TimeoutError", "_DownloadTooSlowError", "_DownloadDeadlineError"}:
        return _stalled()
    if kinds & {"ConnectionError", "NetworkError", "TransportError", "RemoteProtocolError", "ConnectError"}:
        remedy = f"run the same command again to go on, or {REMEDY}"
        return HubFault("the connection broke again and again", remedy, again=True)
    return HubFault(" ".join(str(error).split())[:200], again=True)


def _stalled() -> HubFault:
    return HubFault(f"it stalled for {patience()} s or sent less than {BYTES_PER_SECOND} B/s")


def _status_fault(status: int) -> HubFault:
    if status in (401, 403):
        return HubFault(
            f"it refuses (HTTP {status}): the model may be private or gated",
            "accept its terms on the hub's page and set HF_TOKEN or MODELSCOPE_API_TOKEN",
        )
    if status == 404:
        what = "there is no such model or file there (HTTP 404)"
        return HubFault(what, "check the spelling of owner/name, or use the other hub")
    later = f"run the same command again later, or {REMEDY}"
    if status == 429:
        return HubFault("it takes no more requests for now (HTTP 429)", later, again=True)
    return HubFault(f"it fails (HTTP {status})", later, again=status == 408 or status >= 500)


def _status_of(error: BaseException) -> int | None:
    """The HTTP status that an error names, where it is one of failure."""
    for holder in (error, getattr(error, "response", None)):
        with suppress(TypeError, ValueError):
            if (code := int(getattr(holder, "status_code", None) or 0)) >= 400:
                return code
    return None


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, what it lists of single files, and what led to it, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        files = getattr(one, "failed_files", None)
        led = [*(files.values() if isinstance(files, dict) else ()), one.__cause__, one.__context__, *one.args]
        waiting += [cause for cause in (*led, getattr(one, "reason", None)) if isinstance(cause, BaseException)]
