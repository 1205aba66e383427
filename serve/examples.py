"""The lines of a bundle's card that load it with other programs, each of which a test runs."""

import json
import shlex
from typing import Any

from plan.resolve_infer import VLLM_RANK, vllm_rank
from serve.classifier_file import ClassifierFile, Prompt
from workspace.swift_registry import ANSWER_MARK, QUESTION_MARK

TEXT = "房间干净，服务热情。"
HEAD = """\
from transformers import pipeline

prompt = {prompt}
ask = pipeline("text-classification", ".", dtype="float32")  # the bundle's folder
print(ask(prompt.replace("{place}", {text}), top_k=None))"""
WORDS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # the bundle's folder
model = AutoModelForCausalLM.from_pretrained(".", dtype="float32")
prompt = {prompt}
ids = tokenizer(prompt.replace("{place}", {text}), return_tensors="pt", add_special_tokens={special})
answer = model.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids.input_ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""


def plain_transformers(file: ClassifierFile) -> str | None:
    """Lines of Python that ask the model about one text; None for an adapter that is apart, several text columns, and
    chats of tokens that have no text."""
    found = prompt_text(file.prompt, file.kind == "head")
    if file.weights != "merged" or found is None:
        return None
    prompt, special = found
    lines = HEAD if file.kind == "head" else WORDS
    place, text = file.prompt.places[0], json.dumps(TEXT, ensure_ascii=False)
    quoted = json.dumps(prompt, ensure_ascii=False)
    return lines.format(prompt=quoted, place=place, text=text, special=special)


def swift_infer(file: ClassifierFile) -> str | None:
    """The command that has ms-swift ask the model about the rows of a file; None for a head, whose rows need the
    project's plugin."""
    if file.kind != "words":
        return None
    system = ["--system", shlex.quote(file.prompt.system)] if file.prompt.system else []
    model = (
        ["--model", "."]
        if file.weights == "merged"
        else ["--model", file.base_model or "BASE", "--adapters", "adapter"]
    )
    model += ["--model_type", file.model_type] if file.model_type else []
    model += ["--quant_method", "bnb", "--quant_bits", str(file.quant_bits)] if file.quant_bits else []
    words = ["swift", "infer", *model, "--template", file.prompt.chat_template, *system]
    return " ".join([*words, "--max_new_tokens", "16", "--temperature", "0", "--val_dataset", "rows.jsonl"])


def vllm_serve(file: ClassifierFile) -> str:
    """The command that serves the model by vLLM; merged, in the dtype of its weights: vLLM makes half of float32."""
    if file.weights == "adapter":
        rank = vllm_rank(file.adapter_rank or 0)
        more = f" --max-lora-rank {rank}" if rank > VLLM_RANK else ""
        base = shlex.quote(file.base_model or "BASE")
        return f"vllm serve {base} --enable-lora{more} --lora-modules adapter=adapter"
    dtype = f" --dtype {file.agreement.dtype}" if file.agreement else ""
    return f"vllm serve .{' --runner pooling' if file.kind == 'head' else ''}{dtype}"


def vllm_ask(file: ClassifierFile) -> str | None:
    """The command that asks that server about one text; None as `plain_transformers` has it."""
    head = file.kind == "head"
    found = prompt_text(file.prompt, head)
    if found is None:
        return None
    prompt, special = found[0].replace(file.prompt.places[0], TEXT), found[1]
    asked: dict[str, Any] = {"model": "adapter" if file.weights == "adapter" else "."}
    asked |= {"input": prompt} if head else {"prompt": prompt, "max_tokens": 16, "temperature": 0}
    body = shlex.quote(json.dumps({**asked, "add_special_tokens": special}, ensure_ascii=False))
    url = f"http://127.0.0.1:8000/{'classify' if head else 'v1/completions'}"
    return f"curl {url} -H 'Content-Type: application/json' -d {body}"


def prompt_text(prompt: Prompt, head: bool) -> tuple[str, bool] | None:
    """The chat up to the answer as one text with the place of the review in it, and whether the tokenizer puts its
    first tokens before it; None where it is no such text."""
    parts = list(prompt.parts)
    special = bool(parts) and parts[0] == (-1,)
    parts = parts[special:]
    if len(prompt.places) != 1 or not all(isinstance(part, str) for part in parts):
        return None
    whole = "".join(map(str, parts))
    if head:  # the part that holds the answer is left out as a whole
        whole = "".join(map(str, parts[: next(at for at, part in enumerate(parts) if ANSWER_MARK in str(part))]))
    whole = whole.partition(ANSWER_MARK)[0]
    return whole.replace(QUESTION_MARK, prompt.template), special
