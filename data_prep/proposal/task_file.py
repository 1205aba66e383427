"""The text of a proposed task.yaml: every key explained in a line, to be changed and committed by its user."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data_prep.proposal.columns import Chosen
from data_prep.proposal.labels import LISTED, ProposedLabels

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
LETTER = re.compile(r"[^\W\d_]")
MODEL = "qwen1.5-0.5b-chat"  # the recipe of swift_configs/models that a proposed task names
CHINESE = 0.2  # share of Chinese characters among the letters, from which on texts count as Chinese
PLAIN = re.compile(r"[^\W_][\w.-]*")
# With the labels, without them, one text, between labels, between a column's name and its text.
ASK = {
    "zh": ("{texts}\n以上内容属于哪一类（{labels}）：", "{texts}\n以上内容属于哪一类：", "内容：{review}", "、", "："),
    "en": ("{texts}\nWhich class is it: {labels}?", "{texts}\nWhich class is it?", "Text: {review}", ", ", ": "),
}


def language_of(texts: Sequence[str]) -> str:
    """ "zh" where a fifth or more of the letters are Chinese characters, else "en"."""
    joined = "".join(texts)
    letters = len(LETTER.findall(joined))
    return "zh" if letters and len(HAN.findall(joined)) >= CHINESE * letters else "en"


def prompts_of(chosen: Chosen, words: Sequence[str], language: str) -> dict[str, str]:
    """Prompts in the language of the table, by name, the first to be used.

    `plain` names the labels in the file's order. Above LISTED of them it names none, since each row would cost their
    tokens, and `named` is there for whoever wants that.
    """
    with_labels, without, one_text, comma, colon = ASK[language]
    several = "\n".join(f"{name}{colon}{{{name}}}" for name in chosen.text)
    texts = several if len(chosen.text) > 1 else one_text
    named = with_labels.format(texts=texts, labels=comma.join(words))
    return {"plain": named} if len(words) <= LISTED else {"plain": without.format(texts=texts), "named": named}


def task_text(
    name: str,
    recipe: str,
    csv: str,
    table: Mapping[str, object],
    chosen: Chosen,
    proposed: ProposedLabels,
    language: str,
) -> str:
    """The file's text; `recipe` is what runs it, `csv` its table's path, `table` the keys of how that is read."""
    columns = {"text": chosen.text[0] if len(chosen.text) == 1 else list(chosen.text), "label": chosen.label}
    if chosen.id is not None:
        columns["id"] = chosen.id
    prompts = prompts_of(chosen, proposed.words, language)
    lines = [
        f"# {name}: proposed from its table by `bash run_sft.sh init`; change what is wrong, and commit this file.",
        "#",
        f"# Run as:    bash run_sft.sh {recipe}",
        f"# Override:  bash run_sft.sh {recipe} --model PATH_OR_ID --limit 800",
        "# The keys are explained in dataset_jsonl/README.md; an unknown key is an error.",
        "",
        f"name: {name}",
        "",
        "# table",
        f"csv: {_scalar(csv)}  # a relative path is taken from the repository",
        *([f"table: {_flow(table)}  # how the file is read"] if table else []),
        f"columns: {_flow(columns)}",
        "labels:  # value in the table: label word, in the order in which classes are shown; null leaves its rows out",
        *(f"  {json.dumps(value, ensure_ascii=False)}: {_scalar(word)}" for value, word in proposed.labels.items()),
        "max_reject_share: 0.05  # more rows set aside than this stop the run",
        "",
        "# chat: answers are the label words; words that are spelt otherwise can be named as `synonyms`",
        "system: You are a helpful assistant.",
        "prompts:  # what the model is asked; the places in braces are filled from the columns",
        *(f"  {key}: {json.dumps(prompt, ensure_ascii=False)}" for key, prompt in prompts.items()),
        "prompt: plain" + "  # without the labels, whose tokens each row would cost; or named" * (len(prompts) > 1),
        "",
        *_split_lines(chosen),
        "",
        "# length",
        "max_length: 512  # tokens of system, prompt and answer",
        "keep_head: 0.75  # of a text that is too long: this share of what fits is its beginning, the rest its end",
        "",
        "# recipe: a file of swift_configs/models; `sft:` lines here would take the place of its keys for this task",
        "# (the weights of this one allow no commercial use; those of qwen2.5-0.5b-instruct and qwen3-0.6b do)",
        f"default_recipe: {MODEL}",
    ]
    return "\n".join(lines) + "\n"


def _split_lines(chosen: Chosen) -> list[str]:
    if chosen.split is not None:
        return ["# split: as the table says", f"split: {_flow({'column': chosen.split})}"]
    shares = "split: {scheme: stratified, seed: 42, val: 0.1, test: 0.1}"
    return ["# split: the shares of validation and test rows; near copies stay together", shares]


def slug(path: Path) -> str:
    """A task's name from its table's: letters, digits, _ and - of the name without its endings, else `table`."""
    stem = path.name.split(".")[0] or path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-").lower() or "table"


def _scalar(value: object) -> str:
    """A value as YAML that reads as itself."""
    if value is None:
        return "null"
    text = str(value) if isinstance(value, str | Path) else None
    if text is not None and PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return json.dumps(value if text is None else text, ensure_ascii=False)


def _flow(values: Mapping[str, object]) -> str:
    """A mapping on one line."""
    parts = []
    for key, value in values.items():
        several = isinstance(value, list | tuple)
        shown = f"[{', '.join(map(_scalar, value))}]" if several else _scalar(value)  # type: ignore[call-overload]
        parts.append(f"{key}: {shown}")
    return f"{{{', '.join(parts)}}}"
