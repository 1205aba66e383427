"""Other ways of asking the untuned model: the same texts in other prompts, and with other few-shot examples.

One prompt is one draw: how far the untuned model's figure hangs on its wording is seen from several. They are scored
on a fixed part of the test rows (eval/inference/budget.py).
"""

import re
from collections.abc import Sequence

from data_prep.chat.shown_text import around, shown_texts
from data_prep.rows import DatasetRow
from eval.inference.budget import part_of
from eval.inference.prompts import VARIANTS, Prompt, asked, few_shot_turns

# {text} and {labels} are filled in; the labels are listed in the task's order and the other way round in turn.
WORDINGS = {
    "zh": (
        "{text}\n\n以上文字属于哪一类：{labels}？",
        "请把下面的文字归入一类（{labels}），只回答类别。\n{text}",
        "文字：{text}\n类别：",
        "从{labels}中选一个词来描述这段文字：{text}\n答案：",
    ),
    "en": (
        "{text}\n\nWhich class does this text belong to: {labels}?",
        "Put the following text into one class ({labels}). Answer with the class alone.\n{text}",
        "Text: {text}\nClass:",
        "Choose one of {labels} for this text: {text}\nAnswer:",
    ),
}
COMMAS = {"zh": "、", "en": ", "}


def wordings(labels: Sequence[str]) -> dict[str, str]:
    """The other prompts by name, {text} being left in them; in Chinese where the labels are."""
    language = "zh" if re.search("[\u4e00-\u9fff]", "".join(labels)) else "en"
    orders = (list(labels), list(labels)[::-1])
    names = [name for name in VARIANTS if name.startswith("wording")]
    return {
        name: template.replace("{labels}", COMMAS[language].join(orders[number % 2]))
        for number, (name, template) in enumerate(zip(names, WORDINGS[language], strict=True))
    }


def variant_prompts(
    test: Sequence[DatasetRow], train: Sequence[DatasetRow], labels: Sequence[str], rows: int, seed: int
) -> list[Prompt]:
    """Every variant of `rows` test rows (eval/inference/budget.py); the seed draws the examples."""
    questions = [row.messages[-2]["content"] for row in test]
    texts = dict(zip((row.id for row in test), shown_texts(questions, around(questions)), strict=True))
    part = part_of(test, rows)
    chosen = [row for row in test if row.id in part]
    templates, found = wordings(labels), []
    for name in VARIANTS:
        if template := templates.get(name):
            questions_of = {row.id: template.replace("{text}", texts[row.id]) for row in chosen}
            found += asked(name, chosen, questions=questions_of)
        else:
            found += asked(name, chosen, few_shot_turns(train, seed + int(name[-1]) - 1))
    return found
