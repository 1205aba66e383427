"""A model's folder: whether all its parts are there and whole, and by what it is recognised."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workspace.files import sha256_file, sha256_json, write_json
from workspace.paths import cache_folder
from workspace.progress import progress
from workspace.records import Damaged, parse, read_if_whole
from workspace.safetensors_header import is_whole

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
# What else changes a model's answers.
CONTENT = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "merges.txt", "chat_template.jinja", "chat_template.json", *TOKENIZER_FILES,
)  # fmt: skip
BLOCK = 1 << 22
LONG = 2_000_000_000  # bytes; hashing less takes a second or two


class _Index(BaseModel):
    weight_map: dict[str, str]


def missing_parts(folder: Path) -> str | None:
    """What a model folder lacks (config, safetensors weights, tokenizer), in words; None when it is complete.

    Files are looked into as far as is cheap: JSON is parsed, and a weights file is as long as its header says. So a
    login page that was saved as config.json, and weights that were cut off, are found. Milliseconds.
    """
    if not (folder / "config.json").is_file():
        return "config.json"
    if not isinstance(_json(folder / "config.json"), dict):
        return "a readable config.json"
    weights = [path for path in folder.glob("*.safetensors") if path.is_file() and path.stat().st_size > 0]
    if not weights:
        return "its weights (*.safetensors)"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            parts = set(parse(_Index, index.read_bytes()).weight_map.values())
        except Damaged:
            return "a readable model.safetensors.index.json"
        if lost := sorted(parts - {path.name for path in weights}):
            return f"a part of its weights ({lost[0]})"
    if torn := sorted(path.name for path in weights if not is_whole(path)):
        return f"whole weights ({torn[0]} is torn)"
    tokenizers = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not tokenizers:
        return "its tokenizer (tokenizer.json)"
    for path in tokenizers:
        if path.suffix == ".json" and not isinstance(_json(path), dict):
            return f"a readable {path.name}"
    return None


def fingerprint(folder: Path) -> str:
    """Sixteen hex digits that change when the model does, wherever its folder lies and whatever its files' times are.

    It is the hash of the configuration, the tokenizer and the weights. Weights are read once: their SHA-256 is kept in
    the cache folder under path, size, times and inode, because reading gigabytes at every start takes seconds
    (measured: 0.76 GB/s on one core of two, the other busy). Where no cache can be written they are read each time.
    """
    hashes = {name: sha256_file(folder / name) for name in CONTENT if (folder / name).is_file()}
    weights = {path.name: _weights_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    return sha256_json([hashes, weights])[:16]


class _Hashed(BaseModel):
    """What the cache keeps of a file of weights."""

    state: list[int]
    sha256: str


def _weights_sha256(path: Path) -> str:
    """SHA-256 of a file of weights, read only where it has changed since the last time."""
    real = path.resolve()
    found = real.stat()
    # The change time cannot be set back, unlike the modification time.
    state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    record = cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:32]}.json"
    if (known := read_if_whole(record, _Hashed)) and known.state == state:
        return known.sha256
    digest = _read(real, found.st_size)
    with suppress(OSError, ValueError):  # no such place, or a path that is not UTF-8: read again next time
        write_json(record, {"path": str(real), "state": state, "sha256": digest})
    return digest


def _read(path: Path, size: int) -> str:
    if size < LONG:
        return sha256_file(path)
    digest = hashlib.sha256()
    with open(path, "rb") as stream, progress(size, f"hashing {path.name}", "B") as bar:
        while block := stream.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
