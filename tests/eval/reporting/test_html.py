import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from eval.reporting.class_tables import SHOWN, class_rows, confusions
from eval.reporting.context import best_baseline, browser_rows, each_pair_once
from eval.reporting.render import embedded_json, render_html, render_markdown
from eval.reporting.wording import decision
from eval.scoring.reading_names import primary_pair
from tests.report_runs import BINARY, HOSTILE, MANY, TEN, make_run
from workspace.files import read_jsonl

VOID = {"meta", "link", "br", "img", "input", "line", "circle", "rect", "path", "polyline"}


class Page(HTMLParser):
    """What a browser makes of the page: tags, attributes, text by element; complains of what is not closed."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.scripts, self.ids, self.words, self.addresses = [], [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        assert not [name for name in given if name.startswith("on")], (tag, given)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[key] for key in ("src", "href", "action", "data", "srcset") if key in given]
        if tag == "script":
            self.scripts.append([given, ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-4:])
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def render(folder, *args, **more):
    metrics = make_run(folder, *args, **more)
    html = render_html(metrics, read_jsonl(folder / "rows.jsonl"))
    return metrics, html, Page(html)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return render(tmp_path_factory.mktemp("run"))


def test_nothing_comes_from_outside(full):
    _, html, page = full
    policy = next(given["content"] for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["style-src"] == "'unsafe-inline'"
    [script] = [text for given, text in page.scripts if "type" not in given]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert all(address == "data:," or address.startswith("#") for address in page.addresses), page.addresses
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "@import" not in html and "url(" not in html and not re.search(r"https?://(?!example)", html)


def test_the_script_writes_text_and_nothing_else(full):
    script = next(text for given, text in full[2].scripts if "type" not in given)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage", "fetch("):
        assert forbidden not in script


def test_hostile_reviews_stand_in_the_data_and_nowhere_else(full):
    metrics, html, page = full
    assert len(page.scripts) == 2 and not [tag for tag, _ in page.tags if tag == "img"]
    [data] = [text for given, text in page.scripts if given.get("type") == "application/json"]
    assert not set("<>&\u2028\u2029") & set(data)
    reviews = [row[1] for row in json.loads(data)["rows"]]
    assert reviews[: len(HOSTILE)] == list(HOSTILE) and len(reviews) == metrics["test"]["n"]
    assert "hacked" not in html.replace(data, "")


def test_hostile_words_outside_the_data_are_escaped(tmp_path):
    evil = '<b onclick="x">&amp;</b>{{ 7 * 7 }}'
    metrics = make_run(tmp_path, (evil, "负面"), n=30)
    metrics["run"] |= {"recipe": evil, "machine": evil, "versions": {evil: evil}}
    metrics["notice"] = {"zh": evil, "en": evil}
    metrics["parity"][0] |= {"name": evil, "detail": {"zh": evil, "en": evil}}
    page = Page(render_html(metrics, read_jsonl(tmp_path / "rows.jsonl")))
    assert page.text.count(evil) >= 12
    assert not [given for _, given in page.tags if "onclick" in given]


def test_half_a_surrogate_pair_is_no_crash(tmp_path):
    metrics = make_run(tmp_path, n=20)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    rows[0]["review"] = "房间\ud83d"
    assert render_html(metrics, rows).encode("utf-8")


def test_ids_are_unique_and_every_table_has_headings(full):
    page = full[2]
    assert len(page.ids) == len(set(page.ids))
    headings = [given for tag, given in page.tags if tag == "th"]
    assert headings and all(given.get("scope") in {"row", "col"} for given in headings)
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_both_languages_are_marked(full):
    page = full[2]
    marked = [given for _, given in page.tags if (given.get("class") or "").split()[-1:] in (["zh"], ["en"])]
    assert len(marked) > 100
    assert all(given["lang"] == {"zh": "zh-CN", "en": "en"}[given["class"].split()[-1]] for given in marked)
    chinese = sum(given["lang"] == "zh-CN" for given in marked)
    assert chinese * 2 == len(marked)
    pressed = {given["data-lang"]: given["aria-pressed"] for tag, given in page.tags if "aria-pressed" in given}
    assert pressed == {"zh": "true", "en": "false"}


def test_the_verdict_comes_first(full):
    metrics, _, page = full
    start = page.text[:1200]
    assert metrics["verdict"]["zh"] in start and metrics["verdict"]["en"] in start
    assert metrics["verdict"]["baseline"]["zh"] in start
    assert start.index(decision(metrics).en) < start.index(metrics["verdict"]["en"])


def test_figures_of_every_reading_are_there_with_n(full):
    metrics, _, page = full
    for reading in metrics["readings"].values():
        low, high = (f"{bound * 100:.1f}" for bound in reading["accuracy_ci"])
        assert f"{reading['accuracy'] * 100:.1f}% [{low}–{high}]" in page.text
        assert f"{reading['macro_f1']:.3f}" in page.text
    assert page.text.count("n = 400") >= 12


def test_the_ladder_has_the_primary_metric_first_and_every_metric_with_its_interval(full):
    metrics, html, page = full
    reading = metrics["readings"]["after_score"]
    for key in ("macro_f1", "balanced_accuracy", "mcc"):
        low, high = reading["intervals"][key]
        assert f"{reading[key]:.3f} [{low:.3f}–{high:.3f}]".replace("-", "\u2212") in page.text, key
    ladder = html[html.index('<table class="ladder">') :]
    assert ladder.index("macro F1") < ladder.index("(primary)") < ladder.index("accuracy")


def test_bins_are_not_joined_on_the_page_either(full):
    chart = full[1][full[1].index("Reliability diagram") :]
    chart = chart[: chart.index("</svg>")]
    assert chart.count("<polyline") == 1 and chart.count('class="whisker"') == 10  # the diagonal alone


def test_without_intervals_the_ladder_says_why(tmp_path):
    assert "no interval: a class has fewer than 20 test rows" in render(tmp_path, n=40)[2].text


def test_a_run_where_nothing_improved_says_so(tmp_path):
    metrics, html, page = render(tmp_path, improved=False)
    assert metrics["verdict"]["code"] == "undecided"
    assert "Use none of these" in page.text and "not decided" in page.text
    for claim in ("Use the tuned model", "Tuning helped:", "better after tuning", "可以采用", "调优有效"):
        assert claim not in page.text
    assert 'class="badge undecided"' in html


def test_ten_labels(tmp_path):
    _, html, page = render(tmp_path, TEN, n=100)
    assert html.count('style="--share:') == 2 * 10 * 11
    assert all(page.text.count(label) >= 6 for label in TEN)


@pytest.mark.parametrize("count", [13, 77, 200])
def test_of_many_labels_the_worst_and_the_most_frequent_confusions_are_shown(tmp_path, count):
    metrics, html, page = render(tmp_path, MANY[:count], n=900)
    assert 'style="--share:' not in html  # no matrix
    for stage in ("before", "after"):
        reading = metrics["readings"][f"{stage}_generate"]
        rows, wrong = class_rows(reading), confusions(reading)
        assert len(rows) == min(count, SHOWN) and len(wrong) <= SHOWN
        f1 = [one["f1"] for _, one in rows if one["support"]]
        others = [
            one["f1"] for label, one in reading["per_class"].items() if one["support"] and label not in dict(rows)
        ]
        assert f1 == sorted(f1) and all(one >= max(f1) for one in others)
        assert [one.rows for one in wrong] == sorted((one.rows for one in wrong), reverse=True)
        told = {
            (row["gold"], row["readings"][f"{stage}_generate"]["label"]) for row in read_jsonl(tmp_path / "rows.jsonl")
        }
        assert {(one.gold, one.answer) for one in wrong} <= told
        assert all(one.gold != one.answer for one in wrong)
    assert f"{count} classes: the {min(count, SHOWN)} with the lowest F1" in page.text
    assert len(html) < 3_000_000
    assert len(metrics["readings"]["after_generate"]["per_class"]) == count  # metrics.json has all


def test_how_many_unparsed_answers_were_cut_off_is_said_where_it_is_known(tmp_path):
    metrics = make_run(tmp_path, n=60)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    assert "max_new_tokens" not in render_html(metrics, rows)
    reading = metrics["readings"]["before_generate"]
    reading |= {"unparsed": 6, "cut_off": {"answers": 9, "unparsed": 5}}
    sentence = "before · generate: 5 of 6 unparsed answers were cut off at max_new_tokens."
    assert sentence in render_html(metrics, rows)
    assert sentence in render_markdown(metrics, rows, []).replace("\\", "")


@pytest.mark.parametrize(
    ("readings", "present", "absent"),
    [
        (("majority", "before_generate", "after_generate"), "verdict", "probabilities"),
        (("before_score", "after_score"), "probabilities", "gain"),
        (("majority",), "nothing to compare", "gain"),
        (("before_generate",), "Nothing can be decided yet", "gain"),
    ],
)
def test_what_was_not_measured_is_left_out(tmp_path, readings, present, absent):
    metrics = make_run(tmp_path, n=40, curves=False, readings=readings)
    if not primary_pair(metrics["readings"]):
        metrics["verdict"] |= {"zh": "无法比较", "en": "nothing to compare", "baseline": None}
    html = render_html(metrics, read_jsonl(tmp_path / "rows.jsonl"))
    page = Page(html)
    assert present in page.text or present in page.ids or f'class="{present}' in html
    assert absent not in page.ids and "training" not in page.ids
    data = json.loads(next(text for given, text in page.scripts if given.get("type") == "application/json"))
    assert len(data["readings"]) == len(readings) and len(data["pair"]) in (0, 2)


def test_rows_are_packed_without_loss(tmp_path):
    metrics = make_run(tmp_path, n=50)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    packed = browser_rows(metrics, rows)
    names = list(metrics["readings"])
    assert [names[k] for k in packed["pair"]] == ["before_generate", "after_generate"]
    assert names[packed["sure"]] == "after_score"
    for row, (key, review, gold, cut, status, told) in zip(rows, packed["rows"], strict=True):
        assert (key, review, BINARY[gold], cut, status) == tuple(
            row[k] for k in ("id", "review", "gold", "cut", "status")
        )
        for name, (label, p, answer) in zip(names, told, strict=True):
            reading = row["readings"][name]
            assert (None if label < 0 else BINARY[label]) == reading["label"] and p == reading["p"]
            assert (answer if answer is not None else reading["label"]) == (reading["answer"] or reading["label"])
            assert (label == gold) == reading["correct"]


def test_the_surest_errors_have_their_training_rows(tmp_path):
    metrics = make_run(tmp_path, n=200)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    packed = browser_rows(metrics, rows)["nearest"]
    assert {rows[at]["id"] for at in packed} == {one["id"] for one in metrics["mistakes"]} and packed
    key, label, similarity, review = next(iter(packed.values()))[0]
    assert (key, BINARY[label], similarity, review) == ("9001", rows[0]["gold"], 0.83, HOSTILE[0])
    text = render_markdown(metrics, rows, [])
    assert "9001" in text and "<script>" not in text


def test_a_pair_is_shown_once():
    pairs = [("x", "y"), ("z", "y"), ("y", "x"), ("w", "x")]
    found = each_pair_once([{"a": a, "b": b} for a, b in pairs])
    assert [(one["a"], one["b"]) for one in found] == [("x", "y"), ("z", "y"), ("w", "x")]


def test_the_p_of_several_comparisons_is_corrected(tmp_path):
    """Audit, Medium: lines stand for themselves, and a column says what is left of each p beside so many."""
    metrics = make_run(tmp_path, n=60)
    metrics["comparisons"] = [
        one | {"randomisation_p": p, "code": "better"}
        for one, p in zip(metrics["comparisons"][:4], (0.024, 0.073, 0.6, 0.76), strict=True)
    ]
    text = render_markdown(metrics, [], [])
    assert "p (Holm)" in text and text.count("| 0.096 | 更好 better |") == 1 and "| 0.219 |" in text
    page = render_html(metrics, [])
    assert "p (Holm) 0.096</span>" in page and "corrected for the 4 comparisons" in page


def test_embedded_json():
    value = {"a": "</script><!--", "b": "\u2028&\u2029", "c": [None, 1.5, "正面"]}
    text = embedded_json(value)
    assert json.loads(text) == value and not set("<>&\u2028\u2029") & set(text) and "正面" in text
    with pytest.raises(ValueError):
        embedded_json(float("nan"))


def test_best_baseline(tmp_path):
    metrics = make_run(tmp_path, n=30)
    assert best_baseline(metrics) == "tfidf_linear"
    assert best_baseline({"readings": {}}) is None


def test_a_full_size_page_stays_small(tmp_path):
    _, html, _ = render(tmp_path, n=1553)
    assert len(html.encode()) < 3_000_000
