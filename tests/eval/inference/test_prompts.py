import json
from pathlib import Path

import pytest

from data_prep.rows import DatasetRow
from eval.inference.prompts import PARITY_ROWS, Prompt, few_shot_turns, make_prompts, modes
from workspace.errors import UserError
from workspace.files import write_jsonl
from workspace.records import parse


def row(number: int, split: str, label: str) -> dict:
    review = f"{split}{number}" + "好" * (number % 17)
    return {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": f"评论内容: {review} ？"},
            {"role": "assistant", "content": label},
        ],
        "id": f"{split}{number}",
        "review": review,
        "cut": False,
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for split, count in (("train", 40), ("val", 9), ("test", 30)):
        write_jsonl(tmp_path / f"{split}.jsonl", [row(i, split, "正面" if i % 3 else "负面") for i in range(count)])
    return tmp_path


def test_every_row_is_asked_and_none_shows_its_answer(dataset: Path) -> None:
    prompts = make_prompts(dataset, before=True, seed=42)
    counts = {purpose: [r.id for r in prompts if r.purpose == purpose] for purpose in ("test", "few_shot", "val")}
    assert sorted(counts["test"]) == sorted(counts["few_shot"]) == sorted(f"test{i}" for i in range(30))
    assert len(counts["val"]) == 9
    assert all(prompt.messages[-1]["role"] == "user" for prompt in prompts)
    plain = [prompt for prompt in prompts if prompt.purpose != "few_shot"]
    assert not any(turn["role"] == "assistant" for prompt in plain for turn in prompt.messages)
    assert len({prompt.key for prompt in prompts}) == len(prompts)


def test_rows_of_a_purpose_are_sorted_by_length(dataset: Path) -> None:
    prompts = make_prompts(dataset, before=False, seed=42)
    for purpose in ("test", "val"):
        lengths = [len(r.messages[-1]["content"]) for r in prompts if r.purpose == purpose]
        assert lengths == sorted(lengths)


def test_every_prompt_has_one_mode(dataset: Path) -> None:
    prompts = make_prompts(dataset, before=True, seed=42)
    found = modes(prompts)
    assert {mode: len(keys) for mode, keys in found.items()} == {"generate": 30, "single": PARITY_ROWS, "score": 39}
    assert [key for keys in found.values() for key in keys] == [prompt.key for prompt in prompts]
    assert {mode: len(keys) for mode, keys in modes(prompts[33:]).items()} == {"single": PARITY_ROWS - 3, "score": 39}


def test_another_wording_is_another_prompt_under_the_same_key() -> None:
    one, other = (
        Prompt("test", "7", "正面", False, ({"role": "user", "content": text},)) for text in ("好？", "好吗？")
    )
    assert one.key == other.key == "test/7" and one.chat_sha256 != other.chat_sha256


def test_few_shot_examples_come_from_train_and_hold_both_classes(dataset: Path) -> None:
    prompts = make_prompts(dataset, before=True, seed=42)
    shots = next(r for r in prompts if r.purpose == "few_shot").messages[1:-1]
    assert [turn["role"] for turn in shots] == ["user", "assistant"] * 4
    assert sorted(turn["content"] for turn in shots[1::2]) == ["正面", "正面", "负面", "负面"]
    assert all("train" in turn["content"] for turn in shots[::2])


def test_few_shot_examples_depend_on_the_seed_and_not_on_the_order() -> None:
    rows = [parse(DatasetRow, json.dumps(row(i, "train", "正面" if i % 2 else "负面"))) for i in range(60)]
    assert few_shot_turns(rows, 1) == few_shot_turns(rows[::-1], 1)
    assert few_shot_turns(rows, 1) != few_shot_turns(rows, 2)


@pytest.mark.parametrize(("classes", "shots"), [(2, 4), (10, 20), (15, 20), (77, 20), (200, 20)])
def test_few_shot_examples_stay_few_whatever_the_number_of_classes(classes: int, shots: int) -> None:
    rows = [parse(DatasetRow, json.dumps(row(i, "train", f"类{i % classes}"))) for i in range(17 * classes)]
    turns = few_shot_turns(rows, 1)
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert len(answers) == shots and len(turns) == 2 * shots
    assert len(set(answers)) == min(classes, shots)
    assert classes <= 20 or answers != [turn["content"] for turn in few_shot_turns(rows, 2)[1::2]]


def test_a_row_without_an_answer_is_refused(dataset: Path) -> None:
    broken = row(0, "test", "正面")
    broken["messages"].pop()
    write_jsonl(dataset / "test.jsonl", [broken])
    with pytest.raises(UserError, match=r"test\.jsonl, line 1 cannot be read"):
        make_prompts(dataset, before=False, seed=42)
