"""What the installed ms-swift knows: its options, its models by architecture and name, and how its templates write a
chat.

ms-swift is asked in a process of its own: importing it takes many seconds, so the answer is kept by version. Options
come from the parser that `swift sft` itself uses; chats from the templates' own encoding of a row of marks.
"""

import contextlib
import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from workspace.errors import UserError
from workspace.files import write_text
from workspace.paths import cache_folder
from workspace.records import parse, read_if_whole

# In the place of what a row holds, and numbers below zero in the place of tokens that a tokenizer has to tell.
QUESTION_MARK, ANSWER_MARK, SYSTEM_MARK = "\ue000", "\ue001", "\ue002"
FIRST_TOKENS = -1  # what the tokenizer puts before a text of its own
QUESTION = (
    f"""
marks = {QUESTION_MARK!r}, {ANSWER_MARK!r}, {SYSTEM_MARK!r}
FIRST = {FIRST_TOKENS}
"""
    + """
import json, sys
from swift.arguments import InferArguments, SftArguments
from swift.model.model_meta import MODEL_MAPPING
from swift.template.register import TEMPLATE_MAPPING
from swift.template.template_inputs import StdTemplateInputs
from transformers import HfArgumentParser
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
# What ms-swift declares as text and transformers takes only these for.
texts = {"eval_strategy": IntervalStrategy, "logging_strategy": IntervalStrategy, "save_strategy": SaveStrategy,
         "lr_scheduler_type": SchedulerType}
answer = {"models": {}, "names": {}, "chats": {}}
for name, cls in (("sft", SftArguments), ("infer", InferArguments)):
    options = answer[name] = {}
    for action in HfArgumentParser([cls])._actions:
        if action.dest == "help" or type(action).__name__ == "_StoreFalseAction":
            continue
        kind = getattr(action.type, "__name__", "str")
        choices = [one for one in action.choices or () if one is not None]
        if action.dest in texts:
            choices = [one.value for one in texts[action.dest]]
        options[action.dest] = {
            "kind": {"string_to_bool": "bool"}.get(kind, kind if kind in ("int", "float") else "str"),
            "choices": [str(one) for one in choices],
            "many": action.nargs == "+",
        }
for name, meta in MODEL_MAPPING.items():
    if meta.is_multimodal or meta.is_reward or meta.task_type not in (None, "causal_lm"):
        continue
    answer["models"][name] = {"architectures": meta.architectures, "templates": meta.candidate_templates}
    for group in meta.model_groups:
        for model in group.models:
            for hub in (model.ms_model_id, model.hf_model_id):
                if hub:
                    answer["names"].setdefault(hub.rsplit("/", 1)[-1].lower(), [name, group.template or meta.template])

class Marks:
    eos_token, eos_token_id, bos_token_id, pad_token_id, unk_token_id = "\\ue003", -2, -3, -4, -5
    def encode(self, text, add_special_tokens=True):
        return [FIRST] * add_special_tokens + [ord(text)]
    def convert_tokens_to_ids(self, token):
        return -6

def chat(meta, default, system):
    template = meta.template_cls(None, meta, default)
    template.processor = Marks()
    template.template_meta.init(template.processor)
    template.set_mode("train")
    turns = [{"role": "user", "content": marks[0]}, {"role": "assistant", "content": marks[1]}]
    inputs = StdTemplateInputs(messages=turns, system=system)
    template._swift_prepare_inputs(inputs)
    parts, losses, _ = template._swift_encode(inputs)
    parts = template._simplify_context_list(parts, losses, inputs)[0]
    return parts if all(any(mark in part for part in parts if isinstance(part, str)) for mark in marks[:2]) else None

for name, meta in TEMPLATE_MAPPING.items():
    found = answer["chats"][name] = {"own_system": meta.support_system}
    none = "" if meta.support_system else None
    for kind, default, system in (("with_system", None, marks[2]), ("without", none, None)):
        try:
            found[kind] = chat(meta, default, system)
        except Exception:
            found[kind] = None
    if not any(marks[2] in part for part in found["with_system"] or () if isinstance(part, str)):
        found["with_system"] = None
sys.stdout.write("\\n@" + json.dumps(answer))
"""
)
FORMAT = 3  # raised when the answer's form changes
Part = str | list[int]


class Option(NamedTuple):
    """An option of ms-swift: its kind (bool, int, float or str), the values it may have (none: any), list or not."""

    kind: str
    choices: list[str]
    many: bool


@dataclass(frozen=True)
class Model:
    """A kind of model that answers in text: the `architectures` of its config.json, the templates that it may have."""

    architectures: list[str]
    templates: list[str]


@dataclass(frozen=True)
class Chat:
    """How a template writes a row, with marks for question, answer and system: the parts that are tokenised apart.

    `with_system` is None where the template has no place for a system prompt, and `without` where ms-swift could not be
    asked. `own_system`: as a turn of its own, and not, as Gemma's, at the head of the question.
    """

    own_system: bool
    with_system: list[Part] | None
    without: list[Part] | None


@dataclass(frozen=True)
class Registry:
    """All that ms-swift was asked: options by command and name, models and chats by name, (model, template) by hub's
    name."""

    sft: dict[str, Option]
    infer: dict[str, Option]
    models: dict[str, Model]
    names: dict[str, tuple[str, str | None]]
    chats: dict[str, Chat]


@cache
def registry() -> Registry:
    """What the installed ms-swift knows. Raises `UserError` when it cannot be asked."""
    path = _place()
    kept = read_if_whole(path, Registry)
    if kept is None:
        text = _ask()
        kept = parse(Registry, text)
        # A cache that cannot be written costs the next start some seconds, no more.
        with contextlib.suppress(OSError):
            write_text(path, text)
    return kept


def is_kept() -> bool:
    """Whether the answer is kept from an earlier time. Raises `UserError` where there is no ms-swift."""
    return _place().is_file()


def _place() -> Path:
    try:
        version = importlib.metadata.version("ms_swift")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "ms-swift is not installed here: run `bash run_sft.sh`, or `source .venv/bin/activate`"
        ) from None
    return cache_folder() / f"swift-{FORMAT}-{version}-{importlib.metadata.version('transformers')}.json"


def _ask() -> str:
    result = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True)
    if result.returncode != 0:
        raise UserError(
            f"ms-swift cannot be imported ({result.stderr.strip().splitlines()[-1]}): install requirements.txt"
        )
    return result.stdout.rsplit("\n@", 1)[1]
