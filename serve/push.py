"""A bundle sent to a model hub with the user's own token: printed first, and sent only when confirmed."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import yaml

from hub.clients import explain
from hub.download import Hub, hugging_face, modelscope, offline
from hub.hosts import check_url
from serve.bundle import files_in
from serve.card import NAME as CARD
from serve.classifier_file import NAME
from workspace.errors import UserError
from workspace.paths import shown

HUBS = {"modelscope": modelscope, "hf": hugging_face}
PUSH = "print what would be sent to modelscope:OWNER/NAME or hf:OWNER/NAME; with --yes send it"
# Files that a bundle of some kind or an earlier format has beside those that every one has.
OF_BUNDLES = ("linear/*", "linear.*", "stack.json", "adapter/*", "model*.safetensors*", "report/*")
MESSAGE = "Bundle of swift-sft"


class Destination(NamedTuple):
    """A repository of a hub."""

    hub: Hub
    repository: str


def check_destination(given: str | None, confirmed: bool) -> Destination | None:
    """The repository that --push names; None without. Raises `UserError` for one that is none, before any work."""
    if given is None:
        if confirmed:
            raise UserError("--yes confirms --push HUB:OWNER/NAME, which is not there: add it, or leave --yes out")
        return None
    name, _, repository = given.partition(":")
    if name not in HUBS or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise UserError(f"--push {given}: expected modelscope:OWNER/NAME or hf:OWNER/NAME")
    if confirmed and offline():
        raise UserError("--push: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network: unset it")
    return Destination(HUBS[name](), repository)


def push(bundle: Path, destination: Destination, confirmed: bool) -> None:
    """Print what is sent, and send it where that is `confirmed`; the repository is made where it is not there, private.

    Raises `UserError` where the hub refuses: without a token, or in the middle, with how to go on.
    """
    hub, repository = destination
    files = {**files_in(bundle), NAME: bundle / NAME}
    for name, path in files.items():
        print(f"push: {path.stat().st_size:>13,} bytes  {name}", flush=True)
    total = sum(path.stat().st_size for path in files.values())
    what = f"{len(files)} files, {total / 1e6:,.1f} MB to {repository} on {hub.endpoint} ({hub.name})"
    if not confirmed:
        print(f"push: nothing was sent; with --yes these {what}, as a private repository where it is new", flush=True)
        return
    check_url(hub.endpoint)
    try:
        (_to_hugging_face if hub.is_hugging_face else _to_modelscope)(hub, repository, bundle, files)
    except Exception as error:  # each client has its own errors
        login = "`hf auth login` or HF_TOKEN" if hub.is_hugging_face else "`modelscope login` or MODELSCOPE_API_TOKEN"
        raise UserError(
            f"{shown(bundle)} could not be sent to {hub.endpoint} ({hub.name}): {explain(error).what}; your own token "
            f"is taken from {login}, and the same command goes on from here"
        ) from error
    print(f"push: sent {what}", flush=True)


def licence_of(bundle: Path) -> str:
    """What the bundle's card calls its licence."""
    values = yaml.safe_load((bundle / CARD).read_text(encoding="utf-8").split("---")[1])
    return str(values.get("license_name") or values["license"])


def _to_hugging_face(hub: Hub, repository: str, bundle: Path, files: dict[str, Path]) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=hub.endpoint)
    api.create_repo(repository, private=True, exist_ok=True)
    sent = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    gone = [CommitOperationDelete(path_in_repo=name) for name in _of_earlier(api.list_repo_files(repository), files)]
    api.create_commit(repository, [*sent, *gone], commit_message=MESSAGE)


def _to_modelscope(hub: Hub, repository: str, bundle: Path, files: dict[str, Path]) -> None:
    from modelscope.hub.api import HubApi

    api = HubApi(endpoint=hub.endpoint)
    # Without a licence it writes Apache-2.0.
    api.create_repo(repository, visibility="private", license=licence_of(bundle), exist_ok=True)
    # Its own record of what is done would lie in the bundle; what the hub has it takes no second time.
    api.upload_folder(
        repository, folder_path=str(bundle), allow_patterns=list(files), commit_message=MESSAGE, use_cache=False
    )
    if gone := _of_earlier([str(one["Path"]) for one in api.get_model_files(repository)], files):
        api.delete_files(repository, file_paths=gone, commit_message=MESSAGE)


def _of_earlier(names: Iterable[str], files: Mapping[str, Path]) -> list[str]:
    """What an earlier bundle has left in a repository: whoever took it along would have a bundle that is refused."""
    return [name for name in names if name not in files and any(fnmatch(name, pattern) for pattern in OF_BUNDLES)]
