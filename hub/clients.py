"""The hubs' own download clients, with the limits and the progress that they lack."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hub.failures import BYTES_PER_SECOND, REMEDY, HubFault, patience
from hub.hosts import check_url, guarded

# Remote code and pickled weights are not wanted, nor other frameworks' weights.
UNWANTED = [
    "*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf",
    "*.tflite", "*.zip", "*.tar", "*.tar.gz", "*.npz", "*.joblib", "*.mdl", "*.msc",
]  # fmt: skip
LONGEST_WAIT = 120  # seconds that a server may bid to wait


def snapshot(hugging_face: bool, endpoint: str, model: str, local_only: bool) -> Path:
    """The model's folder in the hub's cache, fetched by the hub's client unless `local_only`. Raises its errors."""
    if not local_only:
        check_url(endpoint)
    with nullcontext() if local_only else guarded():
        return _snapshot(hugging_face, endpoint, model, local_only)


def _snapshot(hugging_face: bool, endpoint: str, model: str, local_only: bool) -> Path:
    if hugging_face:
        from huggingface_hub import snapshot_download
        from tqdm.auto import tqdm

        bars: list[Any] = []
        try:
            return Path(
                snapshot_download(
                    model,
                    endpoint=endpoint,
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


def set_limits(hugging_face: bool) -> None:
    """Bounds on the client's stalls and waits; what the user has set stays."""
    seconds = str(patience())
    for name, value in {
        "MODELSCOPE_DOWNLOAD_TIMEOUT": seconds,
        "MODELSCOPE_DOWNLOAD_LOW_SPEED_WINDOW_SECONDS": seconds,
        "MODELSCOPE_DOWNLOAD_MIN_BYTES_PER_SECOND": str(BYTES_PER_SECOND),
        "MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS": str(max(1, patience() // 2)),  # five times, whatever is bidden
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
    from huggingface_hub.utils._http import hf_request_event_hook

    return httpx.Client(
        event_hooks={"request": [_check_host, hf_request_event_hook], "response": [_watch]},
        follow_redirects=True,
        timeout=patience(),
    )


def _check_host(request: Any) -> None:
    """Refuse a request, also one of a redirect, that leaves the hubs' hosts."""
    check_url(str(request.url))


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
