"""Published figures stand beside a report on their own table, and on no other."""

import pytest

from eval.reporting.public_record import public_record
from eval.reporting.render import render_html, render_markdown
from tests.report_runs import make_run
from workspace.files import read_jsonl


def metrics(csv, rows=7766):
    return {"run": {"csv": csv}, "counts": {"rows": rows}}


@pytest.mark.parametrize("csv", ["data/ChnSentiCorp_htl_all.csv", "/x/ChnSentiCorp_htl_all.csv.gz"])
def test_the_record_is_told_with_interval_source_and_caveat(csv):
    told = public_record(metrics(csv))
    for text in told:
        assert "BERT-base-chinese 91.4% (89.9" in text and "91.7%" in text and "1,554" in text
        assert "github.com/zym9863/sentiment-analysis" in text
    assert "划分和清洗都与这里不同" in told.zh and "Split and cleaning are not those of this run" in told.en


@pytest.mark.parametrize(
    ("csv", "rows"),
    [("data/my.csv", 7766), ("data/ChnSentiCorp_htl_all.csv", 500), ("ChnSentiCorp/train.tsv", 9600), (None, 7766)],
)
def test_another_table_has_no_record(csv, rows):
    assert public_record(metrics(csv, rows)) is None


def test_the_report_shows_it_beside_the_advice(tmp_path):
    run = make_run(tmp_path, n=60)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    known = run | {"counts": run["counts"] | {"rows": 7766}}
    source = "zym9863/sentiment"
    assert source in render_html(known, rows).split('class="tiles"')[0]
    assert source in render_markdown(known, rows, [])
    assert source not in render_html(run, rows) and source not in render_markdown(run, rows, [])
