"""Finding a model's weights: a folder on disk, a hub's cache, or the hub itself, within seconds."""

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from hub.clients import REMEDY
from hub.download import Hub, ModelUnavailable, begun_mark, cached, download, hugging_face, modelscope, offline
from hub.hosts import check_url
from hub.model_files import TOKENIZER_FILES, fingerprint, missing_parts
from workspace.errors import UserError
from workspace.gate import check_model
from workspace.paths import expanded, shown

__all__ = [
    "TOKENIZER_FILES", "ModelUnavailable", "find_model", "fingerprint", "hub_endpoint", "hub_reachable",
    "missing_parts",
]  # fmt: skip
HUB_TIMEOUT_SECONDS = 3
CHOSEN_BY = ("USE_HF", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_PREFER_AI_SITE")


def find_model(model: str) -> Path:
    """The folder with the weights of `model`: a folder, or an id such as Qwen/Qwen1.5-0.5B-Chat.

    An id is looked up in the hub's cache first and downloaded otherwise: from the hub that the environment names, else
    from ModelScope, or from Hugging Face where ModelScope cannot be reached. ms-swift's own look-up takes up to a
    minute to fail and leaves an empty folder behind, so the hub is asked here, for three seconds.

    Raises `ModelUnavailable`, and `UserError` where a folder lacks what a model needs, or the gate refuses it.
    """
    folder = expanded(model)
    if folder.is_dir():
        missing = missing_parts(folder)
        if missing != "config.json":  # else it is no model at all
            check_model(folder)  # whose sentence on a folder of pickles is the better one
        if missing:
            raise UserError(f"--model {shown(folder)} lacks {missing}: download the model again or name another folder")
        return folder.absolute()
    if folder.exists():
        raise UserError(f"--model {shown(folder)} is a file: name the folder that holds config.json and the weights")
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise UserError(f"--model {model}: there is no such folder, and a hub's id has the form owner/name")
    found = _from_hubs(model)
    check_model(found)
    return found


def _from_hubs(model: str) -> Path:
    hubs = _hubs()
    for hub in hubs:
        if found := cached(hub, model):
            return found
    begun = "wholly " if any(begun_mark(hub, model).exists() for hub in hubs) else ""
    absent = f"the weights of {model} are not {begun}on disk and"
    if offline():
        raise ModelUnavailable(f"{absent} HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network: {REMEDY}")
    chosen = next((hub for hub in hubs if _answers(hub.endpoint)), None)
    if chosen is None:
        where = " nor ".join(hub.endpoint for hub in hubs)
        unreached = f"{where} cannot be reached" if len(hubs) == 1 else f"neither {where} can be reached"
        raise ModelUnavailable(f"{absent} {unreached}: {REMEDY}")
    if chosen != hubs[0]:
        print(f"model: {hubs[0].endpoint} cannot be reached, so {chosen.name} is asked", flush=True)
    print(f"model: downloading {model} from {chosen.endpoint}", flush=True)
    return download(chosen, model)


def hub_endpoint() -> str:
    """The address of the hub that is asked first: Hugging Face with USE_HF=1, else ModelScope."""
    return _hubs()[0].endpoint


def hub_reachable() -> bool:
    """Whether the hub that is asked first answers within three seconds. Any HTTP answer counts."""
    return not offline() and _answers(hub_endpoint())


def _hubs() -> list[Hub]:
    """The hubs to ask, in this order: the one that the environment names, or both where it names none."""
    if os.environ.get("USE_HF", "0").lower() in ("1", "true"):
        return [hugging_face()]
    return [modelscope()] if any(os.environ.get(name) for name in CHOSEN_BY) else [modelscope(), hugging_face()]


def _answers(endpoint: str) -> bool:
    """Whether a hub's address answers; it is not followed elsewhere. Raises `UserError` where it is refused."""
    check_url(endpoint)
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310  https alone passes check_url
    try:
        urllib.request.build_opener(_Stay).open(request, timeout=HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # It answers; whether its certificate will do is for the client to say, which may know others.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False
    return True


class _Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer."""

    def redirect_request(self, *_: object) -> None:
        return None
