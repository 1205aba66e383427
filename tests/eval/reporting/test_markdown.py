import pytest

from eval.reporting.context import confident_errors
from eval.reporting.render import render_markdown
from tests.report_runs import HOSTILE, TEN, make_run
from workspace.files import read_jsonl
from workspace.markdown import escape, table

markdown_it = pytest.importorskip("markdown_it")


def tokens(text):
    """Every token of `text`, inline ones too, as a renderer of GitHub's tables with HTML allowed sees them."""
    parsed = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [token for block in parsed for token in (block, *(block.children or ()))]


def shown(text):
    return "".join(t.content for t in tokens(text) if t.type in {"text", "text_special", "code_inline"})


MORE = (
    "a|b",
    "\\|",
    "\\\\|x",
    "*a* _b_ **c** ~~d~~",
    "[x][y] ![i](u)",
    "<https://e.x>",
    "<a@b.c>",
    "&copy; &#65;",
    "`|`",
)


@pytest.mark.parametrize("text", [*HOSTILE, *MORE])
def test_strangers_text_is_shown_as_it_is(text):
    cells = [[escape(text)]]
    made = "\n".join(table(["a", "b"], [[text, "end"], ["next", text]]))
    kinds = {token.type for token in tokens(made)}
    assert not kinds & {
        "html_inline",
        "html_block",
        "link_open",
        "image",
        "code_inline",
        "em_open",
        "strong_open",
        "s_open",
    }
    assert len([t for t in tokens(made) if t.type == "td_open"]) == 4
    plain = " ".join(text.replace("\u202e", " ").split())
    assert shown(made) == f"ab{plain}endnext{plain}"
    assert "\n" not in cells[0][0] and "$" not in cells[0][0] and "://" not in cells[0][0]


def test_table_columns():
    assert table(["a", "b", "c"], [["x", 1, "y|z"]], words=2) == [
        "| a | b | c |",
        "| :-- | :-- | --: |",
        "| x | 1 | y&#124;z |",
    ]


@pytest.mark.parametrize("more", [{}, {"labels": TEN}, {"improved": False}, {"curves": False, "probabilities": False}])
def test_the_report_is_whole(tmp_path, more):
    metrics = make_run(tmp_path, n=200, **more)
    text = render_markdown(metrics, read_jsonl(tmp_path / "rows.jsonl"), ["before_after.png", "confusion_after.png"])
    found = tokens(text)
    assert not [t.content for t in found if t.type.startswith("html")]
    assert [t.attrs["src"] for t in found if t.type == "image"] == ["before_after.png", "confusion_after.png"]
    assert not [t for t in found if t.type in {"link_open", "code_inline", "fence", "code_block", "hr"}]
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block
    for code in ("zh", "en"):
        assert escape(metrics["verdict"][code]) in text
    assert text.index(escape(metrics["verdict"]["zh"])) < text.index(escape(metrics["verdict"]["en"]))
    assert text.count("200") > 20  # n stands beside the figures
    assert "5 (3 for the task)" in text
    if not more.get("improved", True):
        assert "Use none of these" in text and "Use the tuned model" not in text


def test_without_a_pair_there_are_no_sentences_about_one(tmp_path):
    metrics = make_run(tmp_path, n=40, curves=False, readings=("before_generate",))
    text = render_markdown(metrics, read_jsonl(tmp_path / "rows.jsonl"), [])
    assert "Nothing can be decided yet" in text and "![" not in text and "fixed" not in text.split("Paired")[0]


@pytest.mark.parametrize("readings", [("after_score", "stack"), ("majority", "before_score", "tfidf_linear")])
def test_a_soup_has_a_decision_and_what_it_costs_though_only_the_tuned_model_answered(tmp_path, readings):
    """So have all seeds' runs but the first; `export` takes what this decision advises."""
    metrics = make_run(tmp_path, n=400, readings=readings, soup_of=3)
    metrics["decision"] = {"advised": readings[-1], "code": "alone", "weighed": None, "zh": "用它。", "en": "Use it."}
    text = render_markdown(metrics, read_jsonl(tmp_path / "rows.jsonl"), [])
    first, second = [line for line in text.splitlines() if line.startswith("**")]
    assert "Use it." in f"{first}{second}" and "Nothing can be decided" not in text
    assert "How sure: macro F1" in text and "What it costs: " in text
    assert ("this is a verdict on this checkpoint" in text) is ("after_score" in readings)
    metrics["run"]["soup"] = True
    text = render_markdown(metrics, [], [])
    assert "This is the average of several seeds' adapters" in text and "verdict on this checkpoint" not in text


def test_notice_comes_first(tmp_path):
    metrics = make_run(tmp_path, n=40)
    metrics["notice"] = {"zh": "这是演示", "en": "This is the <b>demo</b>"}
    lines = render_markdown(metrics, read_jsonl(tmp_path / "rows.jsonl"), []).split("\n")
    assert lines[2:4] == ["> 这是演示  ", "> This is the &#60;b>demo&#60;/b>  "]


def test_confident_errors_are_wrong_and_sorted():
    def row(correct, p):
        return {"readings": {"after_score": {"correct": correct, "p": p}}}

    rows = [row(False, 0.6), row(True, 0.99), row(False, 0.9), row(False, None), {"readings": {}}]
    assert confident_errors(rows) == [rows[2], rows[0]]
