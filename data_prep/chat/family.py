"""Which of ms-swift's models and chat templates a model's folder is: by its settings, its name and its own template."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import Damaged, parse
from workspace.swift_registry import ANSWER_MARK, QUESTION_MARK, SYSTEM_MARK, registry

VARYING = re.compile(r"\s|\d{1,2}\s\w{3}\s\d{4}")  # white space, and the date of today that some templates write
EMBEDDING = "dummy"  # the template of models that answer nothing
SHOWN = 12  # choices in a message


class Family(NamedTuple):
    """ms-swift's names for a kind of model and for its chat template."""

    model_type: str
    template: str


def recognise(
    folder: Path, recipe: Mapping[str, Any] = {}, given: Mapping[str, Any] = {}, own_model: bool = False
) -> Family:
    """The family of the model in `folder`.

    What the user has `given` (`model_type`, `template`) counts first; then the `recipe`'s, where the model is its
    `own_model`, or is of this family and its own chat template does not say otherwise. Raises `UserError`, with the
    choices, where several fit and none of this decides, and for a model that ms-swift does not know.
    """
    own = Family(*(str({**recipe, **given}.get(key, "")) for key in Family._fields))
    if given.keys() >= set(Family._fields) or (own_model and all(own)):
        return own
    config = _settings(folder / "config.json")
    candidates = list(_candidates(folder, config))
    # A folder that says no architecture is taken for the recipe's where the kind is the same.
    if not candidates and config.get("model_type") == own.model_type and own.template:
        return own
    for key, value in given.items():
        if key in Family._fields:
            fitting = [one for one in candidates if getattr(one, key) == value]
            candidates = fitting or [(candidates or [own])[0]._replace(**{key: str(value)})]
    said = _named_by_its_chat(folder, candidates)
    if own in candidates and (own in said or not said):
        return own
    fitting = said or candidates
    if len({_chat(one.template) for one in fitting}) == 1 and all(fitting[0]):
        return fitting[0]
    what = (config.get("architectures") or [config.get("model_type", "unknown")])[0]
    if not fitting or not all(fitting[0]):
        raise UserError(
            f"{shown(folder)} is a {what:.60} model, which ms-swift has no name for: add --model_type and --template "
            "by its names for the most similar one"
        )
    choices = ", ".join(dict.fromkeys(one.template for one in fitting[:SHOWN]))
    raise UserError(
        f"{shown(folder)} is a {what:.60} model, and several of ms-swift's chat templates may be its own: add "
        f"--template with one of {choices}"
    )


def _candidates(folder: Path, config: Mapping[str, Any]) -> Iterator[Family]:
    """Every family that a folder may be of; the one that its name or an earlier training says comes alone."""
    trained = _settings(folder / "args.json") if (folder / "args.json").is_file() else {}
    if all(isinstance(trained.get(key), str) for key in Family._fields):
        yield Family(trained["model_type"], trained["template"])
        return
    known = registry()
    architecture = next(iter(config.get("architectures") or ()), None)
    fitting = {name: model for name, model in known.models.items() if architecture in model.architectures}
    if not architecture:
        fitting = {name: model for name, model in known.models.items() if name == config.get("model_type")}
    model_type, template = known.names.get(_name(folder), ("", None))
    if model_type in fitting and template:
        yield Family(model_type, template)
        return
    for name, model in fitting.items():
        yield from (Family(name, template) for template in model.templates if template != EMBEDDING)


def _name(folder: Path) -> str:
    """The model's name in a hub, by the folder, which may be one of the hubs' caches."""
    cached = re.search(r"/models(?:--|/)(?:.+?--)?([^/]+?)/snapshots/", str(folder))
    return (cached[1] if cached else folder.name).replace("___", ".").lower()


def _named_by_its_chat(folder: Path, candidates: list[Family]) -> list[Family]:
    """Those candidates whose template writes a row as the model's own chat template does."""
    if len(candidates) < 2:
        return candidates
    begin = _bounds(folder)["bos_token"]
    for system, thinking in itertools.product((SYSTEM_MARK, ""), ({"enable_thinking": False}, {})):
        if (own := _own_chat(folder, system, thinking)) is None:
            continue
        chats = [(one, _prompt(one.template, system).removeprefix(begin)) for one in candidates]
        for plain in (str.strip, lambda text: VARYING.sub("", text)):  # as exactly as may be
            if found := [one for one, chat in chats if plain(chat) == plain(own.removeprefix(begin))]:
                return found
    return []


def _own_chat(folder: Path, system: str, thinking: Mapping[str, bool]) -> str | None:
    """A question in the model's own chat template; None where it has none, or one that cannot be written."""
    settings = _settings(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    template = settings.get("chat_template")
    if (path := folder / "chat_template.jinja").is_file():
        template = path.read_text(encoding="utf-8", errors="replace")
    if isinstance(template, list):
        template = next((one.get("template") for one in template if one.get("name") == "default"), None)
    if not isinstance(template, str):
        return None
    turns = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": QUESTION_MARK}]
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def refuse(reason: str) -> None:
        raise TemplateError(reason)

    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "01 Jan 2000"}
    try:
        return environment.from_string(template).render(
            messages=turns, add_generation_prompt=True, **thinking, **_bounds(folder)
        )
    except Exception:  # of the model's own template: whatever it raises, it says nothing
        return None


def _bounds(folder: Path) -> dict[str, str]:
    path = folder / "tokenizer_config.json"
    settings = _settings(path) if path.is_file() else {}
    found = {key: settings.get(key) for key in ("bos_token", "eos_token")}
    return {key: str(one.get("content", "") if isinstance(one, dict) else one or "") for key, one in found.items()}


def _prompt(template: str, system: str) -> str:
    """What a template writes before the answer; nothing for one that is not known."""
    chat = registry().chats.get(template)
    parts = (chat.with_system if system else chat.without) if chat else None
    texts = [part for part in parts or () if isinstance(part, str)]
    return "".join(texts).partition(ANSWER_MARK)[0]


def _chat(template: str) -> str:
    return repr(registry().chats.get(template, template))


def _settings(path: Path) -> dict[str, Any]:
    try:
        return parse(dict[str, Any], path.read_bytes())
    except FileNotFoundError:
        return {}
    except Damaged:
        raise UserError(f"{shown(path)} is not JSON: download the model again") from None
