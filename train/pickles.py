"""Pickles in a checkpoint, read without being loaded: which of them name code that no training state needs."""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

# All that torch, numpy and DeepSpeed write into the states of optimiser, schedule and random numbers.
STATE_NAMES = {
    "_codecs encode",
    "collections OrderedDict",
    "deepspeed.runtime.fp16.loss_scaler LossScaler",
    "deepspeed.runtime.zero.config ZeroStageEnum",
    "deepspeed.utils.tensor_fragment fragment_address",
    "numpy dtype",
    "numpy ndarray",
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "torch Size",
    "torch Tensor",
    "torch device",
    "torch._tensor _rebuild_from_type_v2",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}
DTYPES = ("BFloat16", "Half", "Float", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
TENSOR_NAMES = {f"torch {name}Storage" for name in DTYPES} | {
    f"torch {name}"
    for name in ("bfloat16", "float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")
}
# Opcodes that import a name put together while loading, which no look at the file can find. torch.save writes none.
HIDDEN = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}
ZIP = b"PK\3\4"
# The archive's other files: numbers and versions. torch.jit runs what lies in `code` beside a constants.pkl.
MEMBER = re.compile(r"[^/]+/(data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)")


def strange_name(path: Path) -> str | None:
    """The first name in a file of torch.save that does not belong into a training state; None when there is none.

    transformers loads with `weights_only`, which refuses such names too; DeepSpeed loads its files without it. Only
    the opcodes are read, nothing is imported. Raises zipfile.BadZipFile for a file that is no archive, and ValueError
    for one whose pickle cannot be read.
    """
    with open(path, "rb") as stream:
        if stream.read(len(ZIP)) != ZIP:  # a pickle before an archive is what torch would load
            raise zipfile.BadZipFile(f"{path} does not begin as an archive")
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():  # not by name: two members may have the same
            if member.filename.lower().endswith("data.pkl"):  # torch finds it in any case
                for name in _names(archive.read(member)):
                    if name not in STATE_NAMES and name not in TENSOR_NAMES:
                        return name.replace(" ", ".")
            elif not MEMBER.fullmatch(member.filename):
                return f"the file {member.filename}"
    return None


def _names(pickled: bytes) -> Iterator[str]:
    """Every "module name" that a pickle imports."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            yield str(argument)
        elif opcode.name in HIDDEN:
            yield f"a name hidden behind the opcode {opcode.name}"
