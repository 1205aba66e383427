"""Finding a model's weights: a folder on disk, a hub's cache, or the hub itself, told within seconds."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.paths import shown

HUB_TIMEOUT_SECONDS = 3
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
REMEDY = "give a folder with --model PATH, connect to the hub, or copy the weights into its cache"


class ModelUnavailable(UserError):
    """The weights are neither on disk nor in a cache, and the hub cannot be reached."""


def find_model(model: str) -> Path:
    """The folder with the weights of `model`: a folder, or an id such as Qwen/Qwen1.5-0.5B-Chat.

    An id is looked up in the hub's cache first and downloaded otherwise. ms-swift's own look-up takes up to a minute
    to fail and leaves an empty folder behind, so the hub is asked here, for three seconds.

    Raises `ModelUnavailable`, and `UserError` where a folder lacks what a model needs.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if missing := missing_parts(folder):
            raise UserError(f"--model {shown(folder)} lacks {missing}: download the model again or name another folder")
        return folder.absolute()
    if folder.exists():
        raise UserError(f"--model {shown(folder)} is a file: name the folder that holds config.json and the weights")
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise UserError(f"--model {model}: there is no such folder, and a hub's id has the form owner/name")
    return _cached(model) or _download(model)


def missing_parts(folder: Path) -> str | None:
    """What a model folder lacks (config, safetensors weights, tokenizer), in words; None when it is complete."""
    if not (folder / "config.json").is_file():
        return "config.json"
    weights = [path for path in folder.glob("*.safetensors") if path.stat().st_size > 0]
    if not weights:
        return "its weights (*.safetensors)"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return "a readable model.safetensors.index.json"
        if lost := sorted(parts - {path.name for path in weights}):
            return f"a part of its weights ({lost[0]})"
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return "its tokenizer (tokenizer.json)"
    return None


def check_family(folder: Path, values: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise `UserError` when the model is of another family than the recipe's and the user named none with it.

    `values`: the recipe with the user's options; `given`: the user's options alone.
    """
    if "model_type" in given or "template" in given or "model_type" not in values:
        return
    try:
        family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    except (ValueError, AttributeError):
        raise UserError(f"{shown(folder / 'config.json')} is not JSON: download the model again") from None
    if family != values["model_type"]:
        raise UserError(
            f"{shown(folder)} is a {family} model and the recipe is for {values['model_type']}: add --model_type and "
            "--template by ms-swift's names for it"
        )


def fingerprint(folder: Path) -> str:
    """A string that changes when the model's files change: config hash, weight names, sizes and times.

    The weights themselves are not read: gigabytes, at every start.
    """
    from workspace.files import sha256_file, sha256_json

    weights = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob("*.safetensors"))]
    return sha256_json([sha256_file(folder / "config.json"), weights])[:16]


def hub_endpoint() -> str:
    """The address of the hub that is in use: Hugging Face with USE_HF=1, else ModelScope."""
    if _uses_hugging_face():
        return os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"


def hub_reachable() -> bool:
    """Whether the hub answers within three seconds. Any HTTP answer counts."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    request = urllib.request.Request(hub_endpoint(), method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _uses_hugging_face() -> bool:
    return os.environ.get("USE_HF", "0").lower() in ("1", "true")


def _snapshot(model: str, local_only: bool) -> Path:
    """The hub client's folder for `model`. Remote code (*.py) and pickled weights are left out."""
    unwanted = ["*.py", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf"]
    if _uses_hugging_face():
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=local_only, ignore_patterns=unwanted))
    from modelscope import snapshot_download

    return Path(snapshot_download(model, local_files_only=local_only, ignore_file_pattern=unwanted))


def _cached(model: str) -> Path | None:
    """The model's complete folder in the hub's cache. A failed look-up leaves an empty folder there: not taken."""
    try:
        folder = _snapshot(model, local_only=True)
    except Exception:  # each hub client has its own error for "not cached"
        return None
    return folder if missing_parts(folder) is None else None


def _download(model: str) -> Path:
    where = hub_endpoint()
    if not hub_reachable():
        raise ModelUnavailable(f"the weights of {model} are not on disk and {where} cannot be reached: {REMEDY}")
    print(f"model: downloading {model} from {where}", flush=True)
    try:
        folder = _snapshot(model, local_only=False)
    except Exception as error:  # likewise; the reason is in its text
        reason = " ".join(str(error).split())[:200]
        raise ModelUnavailable(f"{model} could not be downloaded from {where} ({reason}): {REMEDY}") from error
    if missing := missing_parts(folder):
        raise UserError(
            f"{model} was downloaded to {folder} but lacks {missing}: choose a model with safetensors weights"
        )
    return folder
