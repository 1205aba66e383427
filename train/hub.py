"""A model from ModelScope or Hugging Face into the hub's own cache: tried again within limits, verified, or not taken.

Both clients resume or retry by themselves; what they lack is added here. Hugging Face's compares sizes alone, has no
lower limit of speed, and waits as long as a server bids it; a folder that ModelScope's was interrupted in looks done.
"""

import errno
import hashlib
import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from train.model_files import missing_parts
from workspace.errors import REASONS, MachineFault, UserError
from workspace.files import read_json, sha256_file, write_text
from workspace.paths import shown

# Remote code and pickled weights are not wanted, nor other frameworks' weights.
UNWANTED = [
    "*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf",
    "*.tflite", "*.zip", "*.tar", "*.tar.gz", "*.npz", "*.joblib",
]  # fmt: skip
REMEDY = "give a folder with --model PATH, connect to the hub, or copy the weights into its cache"
TRIES = 3
LONGEST_WAIT = 120  # seconds that a server may bid to wait
BYTES_PER_SECOND = 1024  # slower than this for PATIENCE is as good as stalled
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
TRUE = ("1", "true", "yes", "on")


class ModelUnavailable(UserError):
    """The weights are neither on disk nor in a cache, and cannot be had from the hub."""


class HubFault(Exception):
    """What the hub did wrong, in plain words; another try within this start is of no use."""


class Damaged(Exception):
    """A file that came is not the one the hub lists; it has been removed, so that the next try fetches it anew."""


class Hub(NamedTuple):
    """One of the two hubs: its name, and the address in use."""

    name: str
    endpoint: str

    @property
    def is_hugging_face(self) -> bool:
        """Whether it speaks Hugging Face's protocol."""
        return self.name == "Hugging Face"


def modelscope() -> Hub:
    """ModelScope, at MODELSCOPE_ENDPOINT or its own address."""
    return Hub("ModelScope", os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn")


def hugging_face() -> Hub:
    """Hugging Face, at HF_ENDPOINT or its own address."""
    return Hub("Hugging Face", os.environ.get("HF_ENDPOINT") or "https://huggingface.co")


def offline() -> bool:
    """Whether the user forbids the network: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE, for both hubs."""
    return any(os.environ.get(name, "").lower() in TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def patience() -> int:
    """Seconds without progress after which a download is given up: HUB_PATIENCE, else 60."""
    given = os.environ.get("HUB_PATIENCE") or "60"
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"HUB_PATIENCE={given}: give whole seconds, 1 or more")
    return int(given)


def cached(hub: Hub, model: str) -> Path | None:
    """The model's whole folder in the hub's cache, without the network; None where it is not there or not whole."""
    mark = begun_mark(hub, model)
    if mark.exists() or not any(place.is_dir() for place in _places(mark.parent, model)):
        return None
    try:
        folder = _snapshot(hub, model, local_only=True)
    except Exception:  # each client has its own error for "not cached"
        return None
    if missing_parts(folder) is not None or any(folder.rglob("*.incomplete")):
        return None
    return folder


def download(hub: Hub, model: str) -> Path:
    """Fetch the model and verify it. What came whole of an interrupted download is not fetched again.

    Raises `ModelUnavailable` with the reason, and `MachineFault` where the disk fails.
    """
    _set_limits(hub)
    mark = begun_mark(hub, model)
    try:
        write_text(mark, "A download has begun here and is not yet verified; the next start goes on with it.\n")
        folder = _fetch(hub, model)
        if missing := missing_parts(folder):
            raise UserError(
                f"{model} was downloaded to {shown(folder)} but lacks {missing}: "
                "choose a model with safetensors weights"
            )
        mark.unlink(missing_ok=True)
    except UserError:
        raise
    except Exception as error:  # each client has its own errors
        for cause in _causes(error):
            if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno in DISK:
                where = shown(mark.parent)
                raise MachineFault(
                    f"{model} cannot be downloaded to {where}: {REASONS[cause.errno]}, then run the same command again"
                ) from error
        raise ModelUnavailable(
            f"{model} could not be downloaded from {hub.endpoint} ({hub.name}): {reason(error)}"
        ) from error
    return folder


def begun_mark(hub: Hub, model: str) -> Path:
    """The file that stands in the hub's cache while a download of ours is not yet verified: it moves with the cache."""
    name = model.replace("/", "--")
    if hub.is_hugging_face:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{name}" / ".download-begun"
    base = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    return Path(base).expanduser() / "models" / name / ".download-begun"


def _places(folder: Path, model: str) -> list[Path]:
    """Where a hub's cache may hold the model: its folder, and those of ModelScope's clients before 1.38."""
    owner, name = model.split("/")
    old = Path("models") / owner / name.replace(".", "___")
    return [folder, folder.parent.parent / old, folder.parent.parent / "hub" / old]


def reason(error: BaseException) -> str:
    """Why a download failed, in plain words, and what to do."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, HubFault | Damaged):
            return str(cause)
    if any(isinstance(cause, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes):
        return (
            "its certificate is not trusted; behind a company's proxy, name the proxy's certificate in SSL_CERT_FILE "
            "and REQUESTS_CA_BUNDLE"
        )
    if status := next((code for cause in causes if (code := _status(cause))), None):
        return _status_reason(status)
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    text = " ".join(str(cause) for cause in causes)
    if "TooManyRedirects" in names or "redirect" in text.lower():
        return f"it redirects in a circle; check the endpoint's address, or {REMEDY}"
    if names & {"FileIntegrityError", "FileSizeMismatchError"} or "Consistency check failed" in text:
        return (
            "a file that came is not the one the hub lists (wrong length or hash, or a login page in its place); "
            f"log in to the network, run the same command again, or {REMEDY}"
        )
    if "JSONDecodeError" in names or "FileMetadataError" in names or "Expecting value" in text:
        return f"its answers are not a hub's (a login page, or another server); log in to the network, or {REMEDY}"
    if names & {"TimeoutException", "Timeout", "TimeoutError", "_DownloadTooSlowError", "_DownloadDeadlineError"}:
        return f"it stalled for {patience()} s or sent less than {BYTES_PER_SECOND} B/s; {REMEDY}"
    if names & {"ConnectionError", "NetworkError", "TransportError", "RemoteProtocolError", "ConnectError"}:
        return f"the connection broke again and again; run the same command again to go on, or {REMEDY}"
    return f"{' '.join(str(error).split())[:200]}; {REMEDY}"


def _status_reason(status: int) -> str:
    if status in (401, 403):
        return (
            f"it refuses (HTTP {status}): the model may be private or gated; accept its terms on the hub's page and "
            "set HF_TOKEN or MODELSCOPE_API_TOKEN"
        )
    if status == 404:
        return "there is no such model or file there (HTTP 404); check the spelling of owner/name, or use the other hub"
    if status == 429:
        return f"it takes no more requests for now (HTTP 429); run the same command again later, or {REMEDY}"
    return f"it fails (HTTP {status}); run the same command again later, or {REMEDY}"


def _fetch(hub: Hub, model: str) -> Path:
    for attempt in range(1, TRIES + 1):
        try:
            folder = _snapshot(hub, model, local_only=False)
            verify(hub, folder)
            return folder
        except Exception as error:
            if attempt == TRIES or not _passing(hub, error):
                raise
            wait = 2 ** (attempt - 1)
            told = reason(error).split(";")[0]
            print(f"model: {told}; try {attempt + 1} of {TRIES} in {wait} s", flush=True)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _passing(hub: Hub, error: Exception) -> bool:
    """Whether another try may do better. ModelScope's client has had its own six."""
    causes = list(_causes(error))
    if any(isinstance(cause, Damaged) for cause in causes):
        return True
    if not hub.is_hugging_face or any(isinstance(c, HubFault | ssl.SSLError | UserError) for c in causes):
        return False
    if any(isinstance(cause, OSError) and cause.errno in DISK for cause in causes):
        return False
    if any("CERTIFICATE_VERIFY_FAILED" in str(cause) or "edirect" in str(cause) for cause in causes):
        return False
    if any(kind.__name__ == "TimeoutException" for cause in causes for kind in type(cause).__mro__):
        return False  # six times already
    status = next((code for cause in causes if (code := _status(cause))), None)
    return status is None or status in (408, 429) or status >= 500


def verify(hub: Hub, folder: Path) -> None:
    """Compare what Hugging Face sent with the hashes it lists; ModelScope's client has done so itself.

    Large files have a SHA-256 in the listing, small ones git's SHA-1 of "blob", length and content. Raises `Damaged`
    after removing the file, pointer and content.
    """
    if not hub.is_hugging_face:
        return
    listing = folder.parent.parent / "trees" / f"{folder.name}.json"
    try:
        files = read_json(listing)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the listing is a cache of the client's; without it lengths were compared
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            continue
        wanted = entry.get("lfs_sha256")
        found = sha256_file(path) if wanted else _git_hash(path)
        if found != (wanted or entry["blob_id"]):
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise Damaged(f"{name} came with other bytes than the hub lists; run the same command again, or {REMEDY}")


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _snapshot(hub: Hub, model: str, local_only: bool) -> Path:
    if hub.is_hugging_face:
        from huggingface_hub import snapshot_download
        from tqdm.auto import tqdm

        bars: list[Any] = []
        try:
            return Path(
                snapshot_download(
                    model,
                    endpoint=hub.endpoint,
                    local_files_only=local_only,
                    ignore_patterns=UNWANTED,
                    tqdm_class=_bar_class(tqdm, bars),
                )
            )
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
            """The rate stands in the bar itself."""

    return Bar


def _set_limits(hub: Hub) -> None:
    """Bounds on the client's stalls and waits; what the user has set stays."""
    seconds = str(patience())
    for name, value in {
        "MODELSCOPE_DOWNLOAD_TIMEOUT": seconds,
        "MODELSCOPE_DOWNLOAD_LOW_SPEED_WINDOW_SECONDS": seconds,
        "MODELSCOPE_DOWNLOAD_MIN_BYTES_PER_SECOND": str(BYTES_PER_SECOND),
        "MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS": str(max(1, patience() // 2)),  # five times, whatever is bidden
        # A slow line may need more than the client's hour for a file of gigabytes; stalls are what is bounded.
        "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": str(24 * 3600),
        "HF_HUB_DOWNLOAD_TIMEOUT": seconds,
        # Its own transport in Rust, past the limits and checks here.
        "HF_HUB_DISABLE_XET": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not hub.is_hugging_face:
        return
    from huggingface_hub import constants, set_client_factory

    constants.HF_HUB_DISABLE_XET = True  # read at import, which may have been before
    constants.HF_HUB_DOWNLOAD_TIMEOUT = int(os.environ["HF_HUB_DOWNLOAD_TIMEOUT"])
    set_client_factory(_client)


def _client() -> Any:
    import httpx
    from huggingface_hub.utils._http import hf_request_event_hook

    return httpx.Client(
        event_hooks={"request": [hf_request_event_hook], "response": [_watch]},
        follow_redirects=True,
        timeout=patience(),
    )


def _watch(response: Any) -> None:
    """Have an answer of Hugging Face's end with a `HubFault` when it bids to wait too long or comes too slowly."""
    import httpx

    if response.status_code in (429, 503):
        waits = [response.headers.get("retry-after", "")]
        waits += re.findall(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
        longest = max((int(wait) for wait in waits if wait.strip().isdecimal()), default=0)
        if longest > LONGEST_WAIT:
            raise HubFault(
                f"it bids to wait {longest} s (HTTP {response.status_code}); run the same command again then, or "
                f"{REMEDY}"
            )

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
                        raise HubFault(
                            f"it stalled for {patience()} s or sent less than {BYTES_PER_SECOND} B/s; {REMEDY}"
                        )
                    begin, received = time.monotonic(), 0

        def close(self) -> None:
            self.stream.close()

    response.stream = Watched(response.stream)


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        with suppress(TypeError, ValueError):
            if (code := int(getattr(holder, "status_code", None) or 0)) >= 400:
                return code
    return None


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The error, what it lists of single files, and what led to it, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        files = getattr(one, "failed_files", None)
        waiting += list(files.values()) if isinstance(files, dict) else []
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        waiting += [arg for arg in one.args if isinstance(arg, BaseException)]
