"""The stages before and after tuning, with a stand-in for `swift infer`: what they write and when they do it again."""

import subprocess
import sys
from pathlib import Path

import pytest

from eval.infer import check_responses_are_current, infer
from eval.inference.job import InferenceJob
from eval.inference.journal import read_journal
from eval.inference.prompts import PARITY_ROWS, Prompt
from eval.inference.summary import Summary
from eval.reporting.untuned_notes import variant_notes
from eval.scoring.predictions import load_predictions
from eval.scoring.responses import VARIANTS_FILE, load_responses, load_split
from eval.scoring.variants import untuned_variants
from plan.run import Run
from tests.journals import answer_all_right
from tests.scored_runs import BINARY, make_dataset, make_plan
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, sha256_file, write_json, write_jsonl, write_text
from workspace.paths import ROOT

SETTINGS = "template: qwen\ntorch_dtype: float32\nmax_new_tokens: 8\nmax_batch_size: 8\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_plan(tmp_path / "run", make_dataset(tmp_path / "data", sizes=(40, 12, 30)), model_fingerprint="ab")
    write_text(folder / "infer.yaml", SETTINGS)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each attempt was given."""
    counts: list[int] = []

    def answer(job: InferenceJob, prompts: list[Prompt], batch: int) -> None:
        counts.append(len(prompts))
        answer_all_right(job, prompts)

    monkeypatch.setattr("eval.inference.collect.run_processes", answer)
    return counts


def test_every_row_gets_its_own_response_with_key_and_prompt(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    assert calls == [30 + PARITY_ROWS + 30 + 12]
    record = Run.read(run)
    for purpose, split_name in (("test", "test"), ("few_shot", "test"), ("val", "val")):
        split = load_split(record.dataset, split_name, BINARY)
        rows = read_jsonl(run / "before" / f"{purpose}.jsonl")
        assert [row["id"] for row in rows] == list(split.ids)
        assert [row["key"] for row in rows] == [f"{purpose}/{key}" for key in split.ids]
        assert all(row["prompt_sha256"].startswith("tokens of ") for row in rows)
        responses = load_responses(run / "before" / f"{purpose}.jsonl", split, BINARY)
        assert (responses.probabilities.argmax(axis=1) == split.codes(BINARY)).all()
        expected = tuple(f"answer {key}" for key in split.ids) if purpose == "test" else None
        assert responses.texts == expected
        assert {row["finish_reason"] for row in rows} == ({"stop"} if purpose == "test" else {None})


def test_the_summary_is_written_and_read_as_one_record(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    summary = Summary.read(run / "before")
    assert summary.prompts == {"test": 30, "parity": PARITY_ROWS, "few_shot": 30, "val": 12}
    found = summary.parity
    assert (found.rows, found.same_text, found.same_label) == (PARITY_ROWS, PARITY_ROWS, None)
    assert (
        summary.adapter_sha256 is None
        and summary.parity.ok
        and summary.parity.largest_logprob_difference == 0
        and summary.no_assistant_turn
    )
    assert summary.ms_per_review == pytest.approx({"generate": 300.0, "score": 100.0, "few_shot": 100.0})
    assert summary.finish_reasons == {"stop": 30}
    val = read_jsonl(run / "before" / "val.jsonl")
    assert summary.val_prompt_sha256 == {row["id"]: row["prompt_sha256"] for row in val}
    assert "same_label" not in read_json(run / "before" / "summary.json")["parity"]
    assert Summary.read(run / "after") is None
    write_text(run / "before" / "summary.json", "[1]")
    with pytest.raises(UserError, match=r"summary\.json cannot be read .*run the same command again"):
        Summary.read(run / "before")


def test_what_changes_speed_alone_asks_nothing_again(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    write_text(run / "infer.yaml", SETTINGS.replace("size: 8", "size: 2") + "attn_impl: eager\nwrite_batch_size: 4\n")
    infer(run, "before")
    check_responses_are_current(Run.read(run))
    assert len(calls) == 1


def test_what_changes_responses_asks_again_and_the_report_says_so(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    write_text(run / "infer.yaml", SETTINGS.replace("tokens: 8", "tokens: 2"))
    with pytest.raises(UserError, match=r"not to what the run now has \(infer_settings changed\)"):
        check_responses_are_current(Run.read(run))
    infer(run, "before")
    assert len(calls) == 2 and calls[0] == calls[1]


def test_nothing_finished_is_removed_before_its_replacement_is_there(run: Path, calls: list[int], monkeypatch) -> None:
    infer(run, "before")
    files = {path: sha256_file(path) for path in (run / "before").glob("*.json*") if path.name != "progress.json"}
    write_text(run / "infer.yaml", SETTINGS.replace("tokens: 8", "tokens: 2"))

    def killed(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.inference.collect.run_processes", killed)
    with pytest.raises(KeyboardInterrupt):
        infer(run, "before")
    (kept,) = (run / "earlier").iterdir()
    assert len(files) == 4 and {path: sha256_file(kept / path.name) for path in files} == files
    assert not (run / "stages" / "before.json").exists()


def test_answers_to_the_inputs_before_are_taken_back(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    for settings in (SETTINGS.replace("tokens: 8", "tokens: 2"), SETTINGS):
        write_text(run / "infer.yaml", settings)
        infer(run, "before")
    assert len(calls) == 3 and not list((run / "earlier").iterdir())  # the first answers were replaced by whole ones


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_replaced_between_stages_or_while_it_answers_is_found(
    tmp_path: Path, calls: list[int], monkeypatch, name: str
) -> None:
    model = tmp_path / "model"
    write_text(model / "config.json", "{}")
    write_text(model / "model.safetensors", "weights")
    data = make_dataset(tmp_path / "data", sizes=(40, 12, 30))
    run = make_plan(tmp_path / "run", data, model_folder=str(model), model_fingerprint="ab")
    write_text(run / "infer.yaml", SETTINGS)
    infer(run, "before")
    write_text(model / name, "another")
    with pytest.raises(UserError, match=r"not to what the run now has \(model changed\)"):
        check_responses_are_current(Run.read(run))
    infer(run, "before")
    assert len(calls) == 2
    write_text(run / "infer.yaml", SETTINGS.replace("tokens: 8", "tokens: 2"))
    monkeypatch.setattr("eval.inference.collect.read_journal", lambda *args: swapped_journal(model / name, *args))
    with pytest.raises(UserError, match="model changed while before ran"):
        infer(run, "before")


def swapped_journal(path: Path, *args):
    write_text(path, "a third")
    return read_journal(*args)


def test_rows_replaced_while_it_answers_are_found(run: Path, calls: list[int], monkeypatch) -> None:
    path = Run.read(run).dataset / "val.jsonl"

    def replaced(*args):
        write_text(path, path.read_text(encoding="utf-8").split("\n", 1)[1])
        return read_journal(*args)

    monkeypatch.setattr("eval.inference.collect.read_journal", replaced)
    with pytest.raises(UserError, match=r"val\.jsonl changed while before ran, .* run the same command again"):
        infer(run, "before")


def test_responses_of_an_earlier_version_are_compared_by_what_it_recorded(run: Path, calls: list[int]) -> None:
    infer(run, "before")
    path = run / "before" / "summary.json"
    record = read_json(path)
    del record["inputs"]["infer_settings"]
    write_json(path, record | {"inputs": record["inputs"] | {"infer.yaml": "of another form"}})
    check_responses_are_current(Run.read(run))
    write_json(path, record | {"inputs": record["inputs"] | {"test.jsonl": "other rows"}})
    with pytest.raises(UserError, match=r"\(test\.jsonl changed\)"):
        check_responses_are_current(Run.read(run))
    write_json(path, {"ms_per_review": {"score": 5.0}})
    check_responses_are_current(Run.read(run))


def test_the_untuned_model_is_asked_in_other_words_too_and_its_spread_is_told(run: Path, calls: list[int]) -> None:
    """One prompt is one draw: 4 others and 2 further draws of examples, of as many rows as 13 epochs afford."""
    write_text(run / "sft.yaml", "num_train_epochs: 13\n")
    infer(run, "before")
    infer(run, "before")
    assert calls == [30 + PARITY_ROWS + 30 + 12 + 6 * 27]
    record = Run.read(run)
    test, val = (load_split(record.dataset, name, BINARY) for name in ("test", "val"))
    rows = read_jsonl(run / "before" / VARIANTS_FILE)
    swap = {BINARY[0]: BINARY[1], BINARY[1]: BINARY[0]}
    for row in rows:
        if row["key"].startswith("wording_2"):  # one wording misleads the model, another leaves it one answer
            row["probabilities"] = {swap[label]: share for label, share in row["probabilities"].items()}
        elif row["key"].startswith("wording_3"):
            row["probabilities"] = {BINARY[0]: 0.9, BINARY[1]: 0.1}
    write_jsonl(run / "before" / VARIANTS_FILE, rows)
    predictions = load_predictions(run, test, val, BINARY, {}).test
    found = untuned_variants(run, test, predictions, BINARY, len(test))
    assert (found["n"], found["of"]) == (27, 30)
    assert [one["name"] for one in found["prompts"]] == ["before_score", *(f"wording_{i}" for i in range(1, 5))]
    assert [one["name"] for one in found["few_shot"]] == ["before_few_shot", "few_shot_2", "few_shot_3"]
    assert [one["accuracy"] for one in found["prompts"][:3]] == [1, 1, 0]
    assert [one["only_answer"] for one in found["prompts"]] == [None, None, None, {"label": BINARY[0], "n": 27}, None]
    prompts, shots = variant_notes(found)
    assert "macro F1 from 0.0% to 100.0%" in prompts.en and "a fixed 27 of the 30 test reviews" in prompts.en
    assert "With 1 of them every review got the same label" in prompts.en and "100.0%" in shots.zh
    assert 0 < read_jsonl(run / "before" / "test.jsonl")[0]["label_mass"] < 1

    rows[0]["gold"] = swap[rows[0]["gold"]]
    write_jsonl(run / "before" / VARIANTS_FILE, rows)
    with pytest.raises(UserError, match=r"variants\.jsonl, line 1 answers no row of"):
        untuned_variants(run, test, predictions, BINARY, len(test))


def test_asking_a_model_imports_nothing_that_figures_are_computed_with() -> None:
    """Two stages of each run would wait seconds for it."""
    code = "import sys, eval.infer; print(sorted({'sklearn', 'scipy', 'torch', 'matplotlib'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"
