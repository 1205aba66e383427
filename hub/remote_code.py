"""Model folders that bring code: ms-swift lets transformers run it (`trust_remote_code`), so they are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.paths import shown

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
# Where transformers looks up an attention kernel; a value with a slash names a hub's repository of compiled code.
KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")


def check_no_code(folder: Path) -> None:
    """Raise `UserError` when the model in `folder` asks for code of its own, or has its weights as pickle alone.

    Pickles beside whole safetensors weights are never read, and left alone.
    """
    for path in sorted(folder.glob("*.json")):
        for key, value in _settings(_read(path)):
            if key == "auto_map" and value:
                what = f"code of its own to be run ({shown(path)}: auto_map)"
            elif key in KERNEL_KEYS and isinstance(value, str) and "/" in value:
                what = f"compiled code from a hub ({shown(path)}: {key} is {value})"
            else:
                continue
            raise UserError(
                f"--model {shown(folder)} asks for {what}, which is never done here: take a model that transformers "
                "knows by itself"
            )
    if (folder / "custom_generate").exists():
        raise UserError(
            f"--model {shown(folder)} brings code of its own (custom_generate), which is never run here: remove that "
            "folder, or take another model"
        )
    if not any(folder.glob("*.safetensors")) and (found := sorted(p for kind in PICKLES for p in folder.glob(kind))):
        raise UserError(
            f"--model {shown(folder)} has its weights as pickle ({found[0].name}), which can run code when it is "
            "loaded: take the model's *.safetensors"
        )


def _settings(values: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value in nested settings."""
    waiting = [values]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _read(path: Path) -> Any:
    # The tokenizer's own file is large, and holds no settings of transformers.
    if path.name == "tokenizer.json" or path.name.endswith(".index.json"):
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
