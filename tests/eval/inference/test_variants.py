"""Other prompts and other examples: the same texts, in wordings that name all labels, as many as the run can afford."""

import pytest

from data_prep.chat.shown_text import around, shown_texts
from data_prep.rows import DatasetRow
from eval.inference.prompts import MODES, VARIANTS
from eval.inference.variants import variant_prompts, wordings

LABELS = ("正面", "负面")


def rows(split: str, count: int) -> list[DatasetRow]:
    return [
        DatasetRow(
            messages=[
                {"role": "system", "content": "S"},
                {"role": "user", "content": f"评论: {split}第{i}间{'{labels}' if i == 3 else ''} 如何？"},
                {"role": "assistant", "content": LABELS[i % 2]},
            ],
            id=str(i),
            review=f"{split}第{i}间，原文更长",
            cut=True,
        )
        for i in range(count)
    ]


def test_the_texts_are_those_in_the_prompts_cut_as_there() -> None:
    questions = [row.messages[-2]["content"] for row in rows("房", 12)]
    assert shown_texts(questions, around(questions))[:2] == ["0间", "1间"]  # what all begin with tells nothing
    assert around(["同"]) == around(["同", "同"]) == (0, 0)
    assert shown_texts(["甲", "乙"], around(["甲", "乙"])) == ["甲", "乙"]


def test_each_variant_asks_the_same_rows_in_its_own_words() -> None:
    train, test = rows("训", 30), rows("房", 40)
    prompts = variant_prompts(test, train, LABELS, 25, seed=1)
    by_name = {name: [one for one in prompts if one.purpose == name] for name in VARIANTS}
    ids = {name: [one.id for one in found] for name, found in by_name.items()}
    assert all(len(found) == 25 for found in ids.values()) and len({tuple(found) for found in ids.values()}) == 1
    assert len({one.key for one in prompts}) == len(prompts) and {MODES[one.purpose] for one in prompts} == {"score"}
    more = variant_prompts(test, train, LABELS, 40, seed=1)
    assert {one.id for one in more if one.purpose == "wording_1"} > set(ids["wording_1"])  # the same and more
    texts = {name: found[0].messages[-1]["content"] for name, found in by_name.items()}
    assert len(set(texts.values())) == 5  # the draws differ in the turns before
    assert len({tuple(map(str, found[0].messages)) for found in by_name.values()}) == len(VARIANTS)
    for name, found in by_name.items():
        for one in found:
            assert f"{one.id}间" in one.messages[-1]["content"] and one.messages[0]["role"] == "system"
            assert (len(one.messages) > 2) == name.startswith("few_shot")
            assert all(turn["role"] != "assistant" for turn in one.messages[-1:])
    assert (
        "{labels}" in next(one for one in more if (one.purpose, one.id) == ("wording_1", "3")).messages[-1]["content"]
    )


@pytest.mark.parametrize(("labels", "comma"), [(LABELS, "、"), (("good", "bad", "so-so"), ", ")])
def test_the_labels_are_listed_in_both_orders_in_the_tasks_language(labels, comma) -> None:
    found = list(wordings(labels).values())
    assert comma.join(labels) in found[0] and comma.join(labels[::-1]) in found[1]
    assert all(template.count("{text}") == 1 and "{labels}" not in template for template in found)
