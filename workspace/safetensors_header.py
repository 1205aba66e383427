"""The header of a safetensors file: what its tensors are called, their shapes, and how long the file must be.

Read without the tensors themselves. Format: 8 bytes of length (little endian), then JSON
{name: {"dtype", "shape", "data_offsets": [begin, end]}}, then the data (huggingface/safetensors, README, "Format").
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

LENGTH_BYTES = 8


class Header(NamedTuple):
    """`shapes` by tensor; `file_bytes`: the length of the whole file."""

    shapes: dict[str, tuple[int, ...]]
    file_bytes: int

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold together. Tied weights are in the file once and count once."""
        return sum(map(math.prod, self.shapes.values()))


def read_header(path: Path) -> Header:
    """The header of the file `path`. Raises ValueError where it has none that can be read, OSError for no file."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if not 0 < length <= size - LENGTH_BYTES:
            raise ValueError(f"{path} has no safetensors header")
        try:
            entries = json.loads(stream.read(length))
            entries.pop("__metadata__", None)
            shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
            end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path} has no safetensors header") from error
    return Header(shapes, LENGTH_BYTES + length + end)


def is_whole(path: Path) -> bool:
    """Whether the header can be read and the file is as long as its header says."""
    try:
        return read_header(path).file_bytes == path.stat().st_size
    except ValueError:
        return False
