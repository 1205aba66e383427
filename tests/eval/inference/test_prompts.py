from pathlib import Path

import pytest

from eval.inference.journal import Answered, join
from eval.inference.prompts import PARITY_ROWS, few_shot_turns, make_requests, modes
from workspace.errors import UserError
from workspace.files import write_jsonl


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
    requests = make_requests(dataset, few_shot=True, seed=42)
    counts = {purpose: [r.id for r in requests if r.purpose == purpose] for purpose in ("test", "few_shot", "val")}
    assert sorted(counts["test"]) == sorted(counts["few_shot"]) == sorted(f"test{i}" for i in range(30))
    assert len(counts["val"]) == 9
    assert all(request.messages[-1]["role"] == "user" for request in requests)
    plain = [request for request in requests if request.purpose != "few_shot"]
    assert not any(turn["role"] == "assistant" for request in plain for turn in request.messages)
    assert len({request.key for request in requests}) == len(requests)


def test_rows_of_a_purpose_are_sorted_by_length(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=False, seed=42)
    for purpose in ("test", "val"):
        lengths = [len(r.messages[-1]["content"]) for r in requests if r.purpose == purpose]
        assert lengths == sorted(lengths)


def test_the_modes_count_every_request_in_order(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=True, seed=42)
    assert modes(requests) == [["generate", 30], ["single", PARITY_ROWS], ["score", 39]]
    assert modes(requests[33:]) == [["single", PARITY_ROWS - 3], ["score", 39]]


def test_few_shot_examples_come_from_train_and_hold_both_classes(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=True, seed=42)
    shots = next(r for r in requests if r.purpose == "few_shot").messages[1:-1]
    assert [turn["role"] for turn in shots] == ["user", "assistant"] * 4
    assert sorted(turn["content"] for turn in shots[1::2]) == ["正面", "正面", "负面", "负面"]
    assert all("train" in turn["content"] for turn in shots[::2])


def test_few_shot_examples_depend_on_the_seed_and_not_on_the_order() -> None:
    rows = [row(i, "train", "正面" if i % 2 else "负面") for i in range(60)]
    assert few_shot_turns(rows, 1) == few_shot_turns(rows[::-1], 1)
    assert few_shot_turns(rows, 1) != few_shot_turns(rows, 2)


def answer_files(folder: Path, requests: list, count: int) -> tuple[Path, Path]:
    score = {
        "logprobs": {"正面": -1.0, "负面": -2.0}, "prompt_tokens": 5, "prompt_sha256": "x", "score_seconds": 0.1,
        "generate_seconds": 0.2,
    }  # fmt: skip
    results = [
        {"response": "正面", "messages": [*r.messages, {"role": "assistant", "content": "正面"}]}
        for r in requests[:count]
    ]
    write_jsonl(folder / "results.jsonl", results)
    write_jsonl(folder / "scores.jsonl", [score] * count)
    return folder / "results.jsonl", folder / "scores.jsonl"


def test_answers_are_joined_up_to_the_last_whole_line_of_both_files(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=False, seed=42)
    results, scores = answer_files(dataset, requests, 10)
    whole = scores.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1]) + 1):
        scores.write_bytes(whole[:-cut])
        assert len(list(join(requests, results, scores))) == 9
    scores.write_bytes(whole)
    assert len(list(join(requests, results, scores))) == 10


def test_an_answer_to_another_prompt_is_not_taken(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=False, seed=42)
    results, scores = answer_files(dataset, [requests[1], *requests[1:]], 10)
    assert [request for request, _ in join(requests, results, scores)] == requests[1:10]


def test_probabilities_that_are_not_finite_stop_the_run(dataset: Path) -> None:
    requests = make_requests(dataset, few_shot=False, seed=42)
    results, scores = answer_files(dataset, requests, 3)
    scores.write_text(scores.read_text().replace("-2.0", "NaN"))
    with pytest.raises(UserError, match=r"no finite probabilities for row .*lower --learning_rate"):
        list(join(requests, results, scores))


def test_probabilities_are_the_softmax_over_the_labels() -> None:
    answer = Answered("正面", {"a": -800.0, "b": -801.0}, 1, "x", 0.0, None)
    assert answer.probabilities() == pytest.approx({"a": 0.7310585786, "b": 0.2689414214})


def test_a_row_without_an_answer_is_refused(dataset: Path) -> None:
    broken = row(0, "test", "正面")
    broken["messages"].pop()
    write_jsonl(dataset / "test.jsonl", [broken])
    with pytest.raises(UserError, match="row test0"):
        make_requests(dataset, few_shot=False, seed=42)
