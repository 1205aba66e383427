import subprocess
import sys

import jsonschema
import pytest
from markupsafe import escape

from eval import report
from eval.reporting.pictures import PICTURES
from tests import report_runs, scored_runs
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run scored from saved answers and reported, by the command."""
    run = scored_runs.make_run(tmp_path_factory.mktemp("task"))
    assert report.main([str(run)]) == 0
    return run


def drawn(run):
    return {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in {".png", ".md", ".html"}}


def test_the_command_scores_and_draws(run):
    made = drawn(run)
    pictures = PICTURES.keys() - {"curves_loss.png", "curves_accuracy.png"}  # nothing was trained
    assert made.keys() == pictures | {"report.md", "report.html"}
    verdict = read_json(run / "metrics.json")["verdict"]
    for sentence in (verdict["zh"], verdict["en"]):
        assert escape(sentence) in made["report.html"].decode()
    assert made["report.md"].decode().count("![") == len(pictures)
    assert not [path for path in run.rglob("*") if "partial" in path.name]


def test_drawing_again_gives_the_same_bytes(run):
    before = drawn(run)
    report.draw_report(run, read_json(run / "metrics.json"), read_jsonl(run / "rows.jsonl"))
    assert drawn(run) == before


def test_the_report_needs_neither_torch_nor_swift(run):
    code = (
        "import sys; from eval.report import main; main(sys.argv[1:]); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'swift', 'transformers', 'peft', 'zhplot'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("report.html\n[]")


def test_when_drawing_fails_the_old_report_stays(run, monkeypatch):
    before = drawn(run)

    def fail(*_):
        raise RuntimeError("no page")

    monkeypatch.setattr("eval.reporting.render.render_html", fail)
    with pytest.raises(RuntimeError):
        report.draw_report(run, read_json(run / "metrics.json"), [])
    assert drawn(run) == before


def test_pictures_of_an_earlier_report_go(tmp_path):
    metrics = report_runs.make_run(tmp_path, n=40)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    report.draw_report(tmp_path, metrics, rows)
    assert (tmp_path / "curves_loss.png").is_file()
    report.draw_report(tmp_path, {**metrics, "curves": None}, rows)
    assert not (tmp_path / "curves_loss.png").exists()
    assert "curves_loss.png" not in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["no/such/run"], ["no/such/run", "another"]])
def test_a_run_that_is_not_there(arguments):
    with pytest.raises(UserError, match="no/such/run"):
        report.main(arguments)


def test_an_empty_folder_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is not a run"):
        report.main([str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_out_is_for_several_runs(run):
    with pytest.raises(UserError, match="--out"):
        report.main([str(run), "--out", str(run)])


@pytest.mark.parametrize("more", [{}, {"labels": report_runs.TEN}, {"improved": False}, {"readings": ("majority",)}])
def test_made_up_runs_obey_the_schema(tmp_path, more):
    metrics = report_runs.make_run(tmp_path, n=60, **more)
    jsonschema.Draft202012Validator(read_json(ROOT / "eval" / "metrics.schema.json")).validate(metrics)
