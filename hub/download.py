"""A model from ModelScope or Hugging Face into the hub's own cache: tried again within limits, verified, or not taken.

Both clients resume or retry by themselves; what they lack is added here. Hugging Face's compares sizes alone, has no
lower limit of speed, and waits as long as a server asks; a folder that ModelScope's was interrupted in looks done.
"""

import errno
import hashlib
import os
import ssl
import time
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from hub.clients import REMEDY, HubFault, causes_of, explain, set_limits, snapshot
from hub.model_files import missing_parts
from workspace.errors import REASONS, MachineFault, UserError
from workspace.files import sha256_file, write_text
from workspace.paths import expanded, shown
from workspace.records import read_if_whole

TRIES = 3
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
TRUE = ("1", "true", "yes", "on")


class ModelUnavailable(UserError):
    """The weights are neither on disk nor in a cache, and cannot be had from the hub."""


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


def cached(hub: Hub, model: str) -> Path | None:
    """The model's whole folder in the hub's cache, without the network; None where it is not there or not whole."""
    mark = begun_mark(hub, model)
    if mark.exists() or not any(place.is_dir() for place in _places(mark.parent, model)):
        return None
    try:
        folder = snapshot(hub.is_hugging_face, hub.endpoint, model, local_only=True)
    except Exception:  # each client has its own error for "not cached"
        return None
    if missing_parts(folder) is not None or any(folder.rglob("*.incomplete")):
        return None
    return folder


def download(hub: Hub, model: str) -> Path:
    """Fetch the model and verify it. What came whole of an interrupted download is not fetched again.

    Raises `ModelUnavailable` with the reason, `UserError` where the hub's hosts were left, and `MachineFault` where the
    disk fails.
    """
    set_limits(hub.is_hugging_face)
    mark = begun_mark(hub, model)
    try:
        write_text(mark, "A download has begun here and is not yet verified; the next start goes on with it.\n")
        folder = _fetch(hub, model)
    except Exception as error:  # each client has its own errors
        if number := _disk_error(error):
            place = shown(mark.parent)
            what = f"{model} cannot be downloaded to {place}: {REASONS[number]}, then run the same command again"
            raise MachineFault(what) from error
        # Where a host was refused, the demo does not take the model's place: the user is to decide.
        kind = UserError if any(isinstance(cause, UserError) for cause in causes_of(error)) else ModelUnavailable
        where = f"{hub.endpoint} ({hub.name})"
        raise kind(f"{model} could not be downloaded from {where}: {explain(error)}") from error
    if missing := missing_parts(folder):
        raise UserError(
            f"{model} was downloaded to {shown(folder)} but lacks {missing}: choose a model with safetensors weights"
        )
    mark.unlink(missing_ok=True)
    return folder


def begun_mark(hub: Hub, model: str) -> Path:
    """The file in the hub's cache while a download of ours is not yet verified: it moves with the cache."""
    name = model.replace("/", "--")
    if hub.is_hugging_face:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{name}" / ".download-begun"
    base = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    return expanded(base) / "models" / name / ".download-begun"


def _places(folder: Path, model: str) -> list[Path]:
    """Where a hub's cache may hold the model: its folder, and those of ModelScope's clients before 1.38."""
    owner, name = model.split("/")
    old = Path("models") / owner / name.replace(".", "___")
    return [folder, folder.parent.parent / old, folder.parent.parent / "hub" / old]


def _fetch(hub: Hub, model: str) -> Path:
    if not hub.is_hugging_face:  # its client tries six times, and verifies
        return snapshot(False, hub.endpoint, model, local_only=False)
    attempt = 1
    while True:
        try:
            folder = snapshot(True, hub.endpoint, model, local_only=False)
            _verify(folder)
            return folder
        except Exception as error:
            fault = explain(error)
            if attempt == TRIES or not fault.again or _disk_error(error):
                raise
            wait = 2 ** (attempt - 1)
            print(f"model: {fault.what}; try {attempt + 1} of {TRIES} in {wait} s", flush=True)
            time.sleep(wait)
            attempt += 1


def _disk_error(error: BaseException) -> int | None:
    """The number of the disk's error that led to this one."""
    causes = (cause for cause in causes_of(error) if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError))
    return next((cause.errno for cause in causes if cause.errno in DISK), None)


class _Listed(BaseModel):
    blob_id: str
    lfs_sha256: str | None = None


class _Listing(BaseModel):
    files: dict[str, _Listed]


def _verify(folder: Path) -> None:
    """Compare what Hugging Face sent with the hashes it lists.

    Large files have a SHA-256 in the listing, small ones git's SHA-1 of "blob", length and content. Raises `HubFault`
    after removing the file, pointer and content, so that the next try fetches it again.
    """
    listing = folder.parent.parent / "trees" / f"{folder.name}.json"
    listed = read_if_whole(listing, _Listing)
    if listed is None:
        return  # the listing is a cache of the client's; without it lengths were compared
    for name, entry in listed.files.items():
        path = folder / name
        if not path.is_file():
            continue
        wanted = entry.lfs_sha256
        if (sha256_file(path) if wanted else _git_hash(path)) != (wanted or entry.blob_id):
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            what = f"{name} came with other bytes than the hub lists"
            raise HubFault(what, f"run the same command again, or {REMEDY}", again=True)


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
