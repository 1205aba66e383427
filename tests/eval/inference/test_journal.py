"""The journal: every line counts for the prompt that it names, and for no other."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from eval.inference.collect import collect
from eval.inference.job import TRANSFORMERS, VLLM, InferenceJob, run_processes
from eval.inference.journal import Completion, new_name, read_journal
from eval.inference.prompts import Prompt
from plan.hardware import Machine
from plan.run import Run
from plugins.score_lines import ScoreLine
from tests.journals import result_row, score_row, write_attempt, write_rows
from tests.scored_runs import make_plan
from workspace.child_process import OutOfMemory
from workspace.errors import UserError
from workspace.files import read_json, write_json, write_jsonl, write_text


def prompt(name: str, text: str = "", purpose: str = "test") -> Prompt:
    return Prompt(purpose, name, "正面", False, ({"role": "user", "content": text or f"question {name}"},))


PROMPTS = [prompt(f"r{number}") for number in range(12)]


def answers(found: dict[str, Completion]) -> dict[str, str | None]:
    return {key: completion.text for key, completion in found.items()}


def right(prompts: list[Prompt]) -> dict[str, str | None]:
    return {one.key: f"answer {one.id}" for one in prompts}


def test_shuffled_lines_are_joined_by_their_key(tmp_path: Path) -> None:
    draw = random.Random(3)
    results, scores = ([row(one) for one in PROMPTS] for row in (result_row, score_row))
    scores = [{**row, "logprobs": {"正面": -float(place), "other": -2.0}} for place, row in enumerate(scores)]
    draw.shuffle(results), draw.shuffle(scores)
    write_rows(tmp_path, "a", PROMPTS, results, scores)
    found = read_journal(tmp_path, PROMPTS)
    assert answers(found) == right(PROMPTS)
    assert [found[one.key].score.logprobs["正面"] for one in PROMPTS] == [-float(place) for place in range(12)]


def test_two_attempts_that_wrote_into_one_file_give_each_row_its_own_answer(tmp_path: Path) -> None:
    """As two processes did that appended to one journal: the first's rows shift the second's."""
    one, other = PROMPTS[:7], PROMPTS[3:]
    rows = [row for pair in zip(one, other, strict=False) for row in pair] + other[7:]
    write_rows(tmp_path, "a", PROMPTS, map(result_row, rows), map(score_row, reversed(rows)))
    assert answers(read_journal(tmp_path, PROMPTS)) == right(PROMPTS)


def test_a_foreign_line_counts_for_no_row(tmp_path: Path) -> None:
    stranger = prompt("elsewhere")
    rows = [stranger, *PROMPTS[:5]]
    write_rows(tmp_path, "a", PROMPTS, map(result_row, rows), map(score_row, rows))
    assert answers(read_journal(tmp_path, PROMPTS)) == right(PROMPTS[:5])


@pytest.mark.parametrize("kind", ["result", "score"])
def test_a_line_of_another_prompt_under_a_rows_key_is_asked_again(tmp_path: Path, kind: str) -> None:
    results, scores = ([row(one) for one in PROMPTS] for row in (result_row, score_row))
    changed = prompt("r4", "the same row, worded otherwise")
    if kind == "result":
        results[4] = result_row(changed)
    else:
        scores[4] = score_row(changed)
    write_rows(tmp_path, "a", PROMPTS, results, scores)
    assert answers(read_journal(tmp_path, PROMPTS)) == right([*PROMPTS[:4], *PROMPTS[5:]])


def test_rows_with_the_same_prompt_keep_their_own_answers(tmp_path: Path) -> None:
    same = [prompt("r1", "twice"), prompt("r2", "twice"), prompt("r1", "twice", purpose="parity")]
    results = [result_row(one, f"answer {one.key}") for one in same]
    write_rows(tmp_path, "a", same, reversed(results), map(score_row, same))
    assert answers(read_journal(tmp_path, same)) == {one.key: f"answer {one.key}" for one in same}


def test_an_answer_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_rows(tmp_path, "a", PROMPTS, map(result_row, PROMPTS * 2), map(score_row, PROMPTS * 2))
    write_rows(tmp_path, "b", PROMPTS, map(result_row, PROMPTS), [score_row(one, -1.0005) for one in PROMPTS])
    found = read_journal(tmp_path, PROMPTS)
    assert answers(found) == right(PROMPTS) and found["test/r0"].score.logprobs["正面"] == -1.0


@pytest.mark.parametrize(
    "second",
    [
        (result_row(PROMPTS[2], "another answer"), score_row(PROMPTS[2])),
        (result_row(PROMPTS[2]), score_row(PROMPTS[2], -1.5)),
        (result_row(PROMPTS[2]), score_row(PROMPTS[2], prompt_sha256="other tokens")),
    ],
    ids=["text", "probability", "tokens"],
)
@pytest.mark.parametrize("files", ["one", "two"])
def test_two_different_answers_to_one_prompt_are_refused(tmp_path: Path, second, files: str) -> None:
    result, score = second
    if files == "two":
        write_attempt(tmp_path, "a", PROMPTS)
        write_rows(tmp_path, "b", PROMPTS[2:3], [result], [score])
    else:
        results, scores = ([row(one) for one in PROMPTS] for row in (result_row, score_row))
        write_rows(tmp_path, "a", PROMPTS, [*results, result], [*scores, score])
    with pytest.raises(UserError, match=r"two different answers to the prompt test/r2: remove the folder .* again$"):
        read_journal(tmp_path, PROMPTS)


def test_answers_are_read_up_to_the_last_whole_line_of_both_files(tmp_path: Path) -> None:
    files = write_attempt(tmp_path, "a", PROMPTS)
    for path in (files.scores, files.results):
        whole = path.read_bytes()
        for cut in range(1, len(whole.splitlines(keepends=True)[-1]) + 1):
            path.write_bytes(whole[:-cut])
            assert answers(read_journal(tmp_path, PROMPTS)) == right(PROMPTS[:-1])
        path.write_bytes(whole)
    assert answers(read_journal(tmp_path, PROMPTS)) == right(PROMPTS)


def test_probabilities_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    files = write_attempt(tmp_path, "a", PROMPTS)
    files.scores.write_text(files.scores.read_text(encoding="utf-8").replace("-2.0", "NaN"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no finite probabilities for row .*lower --learning_rate"):
        read_journal(tmp_path, PROMPTS)


def test_probabilities_are_the_softmax_over_the_labels() -> None:
    completion = Completion("正面", ScoreLine("k", "c", "t", 1, 0.0, None, {"a": -800.0, "b": -801.0}))
    assert completion.probabilities() == pytest.approx({"a": 0.7310585786, "b": 0.2689414214})
    assert completion.label == "a"


def test_a_journal_of_an_earlier_version_is_asked_again(tmp_path: Path) -> None:
    """Its lines had no keys, and its prompts another name."""
    bare = {"logprobs": {"正面": -1.0}, "prompt_tokens": 5, "prompt_sha256": "x", "score_seconds": 0.1}
    write_jsonl(tmp_path / "000000-0.requests.jsonl", [{"id": one.key, "messages": []} for one in PROMPTS])
    write_jsonl(tmp_path / "000000-0.results.jsonl", [{"response": "正面", "messages": []} for one in PROMPTS])
    write_jsonl(tmp_path / "000000-0.scores.jsonl", [bare | {"generate_seconds": 0.2} for one in PROMPTS])
    assert read_journal(tmp_path, PROMPTS) == {}


def test_no_two_attempts_have_one_name() -> None:
    names = [new_name() for _ in range(100)]
    assert len(set(names)) == 100 and sorted(names) == names


# the attempts


@pytest.fixture
def job(tmp_path: Path) -> InferenceJob:
    run = Run.read(make_plan(tmp_path / "run", tmp_path / "data"))
    write_text(run.folder / "infer.yaml", "template: qwen\nmax_batch_size: 8\n")
    return InferenceJob(run, "before", None, TRANSFORMERS)


def answered_by(monkeypatch, *attempts):
    """Let each attempt in turn do what one of `attempts` says, given the job, its prompts and the batch."""
    calls, turns = [], iter(attempts)

    def run_processes(job: InferenceJob, prompts: list[Prompt], batch: int) -> None:
        calls.append((len(prompts), batch))
        next(turns)(job, prompts)

    monkeypatch.setattr("eval.inference.collect.run_processes", run_processes)
    return calls


def some(count: int | None):
    return lambda job, prompts: write_attempt(job.journal, f"{new_name()}-0", prompts, count, count)


def no_memory(job: InferenceJob, prompts: list[Prompt]) -> None:
    some(2)(job, prompts)
    raise OutOfMemory("no memory")


def no_memory_left(job: InferenceJob, prompts: list[Prompt]) -> None:
    error = OutOfMemory("was killed")
    error.killed = True
    raise error


def killed(job: InferenceJob, prompts: list[Prompt]) -> None:
    some(5)(job, prompts)
    raise KeyboardInterrupt


def test_one_process_is_given_one_card(job, monkeypatch) -> None:
    """ms-swift spreads a model over all the cards that it sees, one that is full or too old among them."""
    machine = Machine("cpu", 8, 64.0, "A100", 1, 80.0, True, best=1, gpu_numbers=(1,), visible=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("eval.inference.job.this_machine", lambda: machine)
    started = []
    monkeypatch.setattr("eval.inference.job.run_children", lambda children, *_: started.extend(children))
    run_processes(job, PROMPTS, 8)
    assert [child.env["CUDA_VISIBLE_DEVICES"] for child in started] == ["1"]


def test_a_model_that_one_card_does_not_hold_is_given_several(job, monkeypatch) -> None:
    machine = Machine("cpu", 8, 64.0, "T4", 2, 15.0, False, gpu_numbers=(0, 1), visible=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("eval.inference.job.this_machine", lambda: machine)
    monkeypatch.setattr("eval.inference.job.cards_needed", lambda values, _: 2)
    started = []
    monkeypatch.setattr("eval.inference.job.run_children", lambda children, *_: started.extend(children))
    write_text(job.run.folder / "sft.yaml", "template: qwen\nENV:\n  NPROC_PER_NODE: '2'\n")
    run_processes(job, PROMPTS, 8)
    assert [child.env["CUDA_VISIBLE_DEVICES"] for child in started] == ["0,1"]


@pytest.mark.parametrize(("spread", "processes", "given"), [(2, 1, ["0,1"]), (2, 4, ["0,1", "2,3"]), (1, 1, ["0"])])
def test_vllm_is_given_the_cards_that_it_spreads_a_model_over(job, monkeypatch, spread, processes, given) -> None:
    machine = Machine("cpu", 8, 64.0, "A100", 4, 80.0, True, gpu_numbers=(0, 1, 2, 3), visible=4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("eval.inference.job.this_machine", lambda: machine)
    started = []
    monkeypatch.setattr("eval.inference.job.run_children", lambda children, *_: started.extend(children))
    write_text(job.run.folder / "infer.yaml", f"template: qwen\nvllm_tensor_parallel_size: {spread}\n")
    env = f"ENV:\n  NPROC_PER_NODE: '{processes}'\n" if processes > 1 else ""
    write_text(job.run.folder / "sft.yaml", f"template: qwen\n{env}")
    run_processes(job._replace(backend=VLLM), PROMPTS, 8)
    assert [child.env["CUDA_VISIBLE_DEVICES"] for child in started] == given


def test_a_run_planned_for_a_gpu_is_not_answered_without_one(job, monkeypatch) -> None:
    monkeypatch.setattr("eval.inference.job.this_machine", lambda: Machine("cpu", 8, 64.0, None, 0, 0.0, False))
    planned = job._replace(run=replace(job.run, machine={"gpu": "A100"}))
    with pytest.raises(UserError, match=r"planned for A100 and no GPU is seen here"):
        run_processes(planned, PROMPTS, 8)


@pytest.mark.parametrize(
    ("gpu", "end", "remedy"),
    [
        ("A100", no_memory, r"end what else is on it; below .infer:. in an override set that lower"),
        (None, no_memory, "no memory: use a smaller model, or a machine with more memory"),
        ("A100", no_memory_left, "was killed: use a smaller model, or a machine with more memory"),
    ],
)
def test_vllm_is_not_given_smaller_batches(job, monkeypatch, gpu, end, remedy) -> None:
    monkeypatch.setattr("eval.inference.collect.this_machine", lambda: Machine("cpu", 8, 64.0, gpu, 1, 80.0, True))
    calls = answered_by(monkeypatch, end)
    with pytest.raises(OutOfMemory, match=remedy):
        collect(job._replace(backend=VLLM, run=replace(job.run, auto_batch=True)), PROMPTS, "digest")
    assert calls == [(12, 8)]


def test_an_interrupted_job_asks_for_what_is_left(job, monkeypatch) -> None:
    calls = answered_by(monkeypatch, killed, some(None))
    with pytest.raises(KeyboardInterrupt):
        collect(job, PROMPTS, "digest")
    assert [one.text for one in collect(job, PROMPTS, "digest")] == list(right(PROMPTS).values())
    assert calls == [(12, 8), (7, 8)]
    assert collect(job, PROMPTS, "digest") and len(calls) == 2


def test_answers_to_something_else_are_not_taken(job, monkeypatch, capsys) -> None:
    calls = answered_by(monkeypatch, some(None), some(None))
    collect(job, PROMPTS, "digest")
    assert capsys.readouterr().out == ""
    collect(job, PROMPTS, "another digest")
    assert calls == [(12, 8), (12, 8)]
    assert "made from something else, so it is kept in" in capsys.readouterr().out
    collect(job, PROMPTS, "digest")  # taken back: nothing is asked again
    assert calls == [(12, 8), (12, 8)]


def test_what_an_orphan_writes_after_the_journal_was_emptied_is_not_taken(job, monkeypatch) -> None:
    """A process of an earlier attempt, with other weights, goes on writing under its own name."""
    calls = answered_by(monkeypatch, some(4), some(None))
    with pytest.raises(UserError, match="answered 4 of 12 prompts"):
        collect(job, PROMPTS, "digest")
    (files,) = (path for path in job.journal.glob("*.results.jsonl"))
    name = files.name.removesuffix(".results.jsonl")
    write_json(job.folder / "progress.json", {"inputs": "of an earlier adapter", "seconds": 1.0, "batch": 8})

    def orphan(job: InferenceJob, prompts: list[Prompt]) -> None:
        write_jsonl(job.journal / f"{name}.results.jsonl", [result_row(one, "wrong") for one in PROMPTS])
        write_jsonl(job.journal / f"{name}.scores.jsonl", [score_row(one, -9.0) for one in PROMPTS])
        some(None)(job, prompts)

    calls = answered_by(monkeypatch, orphan)
    assert [one.text for one in collect(job, PROMPTS, "digest")] == list(right(PROMPTS).values())
    assert calls == [(12, 8)]


def test_a_row_that_is_lost_is_named(job, monkeypatch) -> None:
    answered_by(monkeypatch, some(11))
    with pytest.raises(UserError, match=r"answered 11 of 12 prompts; see .*swift\.log and run the same command"):
        collect(job, PROMPTS, "digest")


def test_without_memory_the_batch_is_halved_where_that_is_allowed(job, monkeypatch) -> None:
    answered_by(monkeypatch, no_memory)
    with pytest.raises(OutOfMemory, match="--auto-batch, or set max_batch_size: 4"):
        collect(job, PROMPTS, "digest")
    write_json(job.run.folder / "run.json", read_json(job.run.folder / "run.json") | {"auto_batch": True})
    allowed = job._replace(run=Run.read(job.run.folder))
    calls = answered_by(monkeypatch, no_memory, some(None))
    assert len(collect(allowed, PROMPTS, "digest")) == 12
    assert calls == [(10, 8), (8, 4)]
    assert read_json(job.folder / "progress.json")["batch"] == 4
