"""The page at `/` in a real browser: a text and a table get their labels, in both languages, and nothing is let in."""

import csv
import dataclasses
import io
import re

import pytest

from serve.classifier_file import Thresholds
from serve.http.limits import Limits
from tests.serve.made_up import DOCUMENTS, PATIENT, Documents, MadeUp, made_up_file, running

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="window.hacked=1">好'
KEY = "a-key-of-twenty-four-signs"


@pytest.fixture(scope="module")
def server():
    with running() as one:
        yield one


@pytest.fixture
def opened(browser, server):
    """Opens the page; at the end of the test nothing may have gone wrong in any, nor left this server."""
    pages, troubles = [], []

    def open_page(url=server.url, width=1440, expected=(), **more):
        page = browser.new_page(viewport={"width": width, "height": 900}, **{"locale": "zh-CN", **more})
        page.set_default_timeout(0)
        page.on("console", lambda m: any(one in m.text for one in expected) or troubles.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda r: r.url.startswith((url, "blob:")) or troubles.append(f"request: {r.url}"))
        page.goto(url)
        pages.append(page)
        return page

    yield open_page
    hacked = [page.evaluate("window.hacked") for page in pages]
    for page in pages:
        page.close()
    assert troubles == [] and hacked == [None] * len(pages)


def ask(page, text):
    page.locator("textarea").fill(text)
    page.get_by_role("button", name="判断").click()
    page.wait_for_selector("#pieces span")


def label_table(page, rows, name="评论.csv", encoding="utf-8-sig"):
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    content = out.getvalue().encode(encoding)
    page.set_input_files("#file", {"name": name, "mimeType": "text/csv", "buffer": content})
    page.wait_for_selector("#start:not([hidden])")


def downloaded(page):
    page.wait_for_selector("#download:not([hidden])")
    with page.expect_download() as download:
        page.click("#download")
    return list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"), newline="")))


def test_a_text_gets_its_label_its_probabilities_and_what_the_threshold_says(opened):
    page = opened()
    ask(page, "房间好，早餐好好好")
    assert page.locator("#label").inner_text() == "正面"
    assert page.locator("#bars li").first.inner_text().startswith("正面")
    assert "达到阈值 80.0%" in page.locator("#rule").inner_text()
    marked = page.locator("#pieces span[style]").all_inner_texts()
    assert marked == ["好", "好", "好", "好"] and page.locator("#pieces").inner_text() == "房间好，早餐好好好"
    ask(page, "还可以")
    assert "低于阈值 80.0%：请人看一眼" in page.locator("#rule").inner_text()
    page.get_by_role("button", name="English").click()
    assert "Below the threshold of 80.0%" in page.locator("#rule").inner_text()
    assert page.locator("main .zh:visible").count() == 0 and page.locator("main .en:visible").count() > 15


@pytest.mark.parametrize("language", ["zh-CN", "en-GB"])
def test_where_no_threshold_was_set_the_line_of_it_judges_nothing(opened, language):
    file = dataclasses.replace(made_up_file(), thresholds=Thresholds())
    colour = "getComputedStyle({}).color"
    with running(MadeUp(file)) as server:
        page = opened(server.url, locale=language)
        page.locator("textarea").fill("好好好")
        page.click("#try .main")
        page.wait_for_selector("#pieces span")
        told = page.locator("#rule").inner_text()
        line, plain = (page.evaluate(colour.format(one)) for one in ("rule", "document.querySelector('#try')"))
    assert told in ("没有设定放行阈值：这是最可能的标签。", "No threshold was set: this is the most likely label.")
    assert line == plain


def test_the_keyboard_is_enough(opened):
    page = opened()
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.type("差")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#pieces span")
    assert page.locator("#label").inner_text() == "负面"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Enter")
    assert page.locator("#result").is_hidden() and page.locator("textarea").input_value() == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"


def test_a_strangers_text_is_only_ever_text(opened):
    page = opened()
    ask(page, HOSTILE)
    assert page.locator("#pieces").inner_text() == HOSTILE and page.locator("main img").count() == 0
    label_table(page, [["review", HOSTILE], ["好", "=1+1"]], name='<img src=x onerror="window.hacked=1">.csv')
    page.click("#start")
    assert downloaded(page)[1][:3] == ["好", "'=1+1", "正面"]


def test_a_table_comes_back_whole_with_its_labels(opened, server):
    page = opened()
    rows = [["id", "点评, 全文", "label"]]
    rows += [[str(n), f'第"{n}"条\n{"好" if n % 3 else "差"}', "x"] for n in range(300)]
    rows[7][1] = "  "
    label_table(page, rows)
    assert page.locator("#columns select option:checked").inner_text() == "点评, 全文"
    page.click("#start")
    header, *body = downloaded(page)
    assert header == [*rows[0], "label_2", "confidence", "p_正面", "p_负面", "abstained", "reason"]
    assert [row[:3] for row in body] == rows[1:]
    assert [row[3] for row in body] == ["" if n == 6 else "正面" if n % 3 else "负面" for n in range(300)]
    assert body[6][4:] == ["", "", "", "", "empty"]
    p = float(MadeUp().score(["好"]).probabilities[0, 0])
    assert float(body[1][4]) == float(body[1][5]) == pytest.approx(p) and body[1][7] == "false"
    assert page.locator("#done .zh:visible").first.inner_text().startswith("300 / 300 行")
    assert [one.split("\n")[-1] for one in page.locator("#counts li").all_inner_texts()] == ["200", "99"]


@pytest.mark.parametrize(("encoding", "delimiter"), [("gb18030", ","), ("utf-8", ";"), ("utf-8", "\t")])
def test_tables_as_spreadsheets_write_them(opened, encoding, delimiter):
    page = opened()
    content = delimiter.join(["编号", "review"]) + "\r\n" + delimiter.join(["1", '"差, 差;"']) + "\r\n"
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": content.encode(encoding)})
    page.wait_for_selector("#start:not([hidden])")
    page.click("#start")
    assert [row[:3] for row in downloaded(page)] == [["编号", "review", "label"], ["1", "差, 差;", "负面"]]


def test_a_file_that_is_no_table_is_told(opened):
    page = opened()
    for content in (b"PK\x03\x04\0\0\0", b"", b"only a header"):
        page.set_input_files("#file", {"name": "a.xlsx", "mimeType": "x/y", "buffer": content})
        page.wait_for_selector("#trouble:not([hidden])")
        assert page.locator("#trouble").inner_text() == "a.xlsx：不是带表头的 CSV；Excel 表请另存为 CSV。"


def test_a_row_of_other_fields_is_told_and_nothing_is_cut(opened):
    page = opened()
    content = "id,review\n1,很好\n7,房间,很好\n".encode()
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": content})
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.locator("#trouble").inner_text().startswith("a.csv：第 3 行有 3 列，表头有 2 列")


def test_a_full_server_is_asked_again(opened):
    classifier = MadeUp(seconds=0.01)
    limits = Limits(seconds=3600, reading=3600, waiting=40, batch_rows=4)
    with running(classifier, limits) as server:
        page = opened(server.url, expected=("429",))
        label_table(page, [["review"], *([f"好{n}"] for n in range(400))])
        page.click("#start")
        rows = downloaded(page)
    assert len(rows) == 401 and {row[1] for row in rows[1:]} == {"正面"}


def test_a_key_is_asked_for_and_opens_the_report(opened, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<title>r</title><p>the report</p><script>fetch('/v1/classifier')</script>", encoding="utf-8")
    documents = Documents(DOCUMENTS.created, report, None)
    with running(keys=[KEY], documents=documents) as server:
        page = opened(server.url, expected=("401", "Content Security Policy", "violates"))
        page.wait_for_selector("#secret")
        page.locator("#secret").fill("another-key-of-its-own")
        page.get_by_role("button", name="进入").click()
        page.wait_for_selector("#trouble:not([hidden])")
        assert page.locator("#all").is_hidden()
        page.locator("#secret").fill(KEY)
        page.get_by_role("button", name="进入").click()
        page.wait_for_selector("#report:not([hidden])")
        assert page.locator("#card").is_hidden()
        with page.expect_popup() as popup:
            page.click("#report")
        popup.value.wait_for_selector("p")
        assert popup.value.locator("p").inner_text() == "the report"
        assert page.request.get(f"{server.url}/report").status == 200
        assert page.request.get(f"{server.url}/v1/classifier").status == 401


def test_several_columns_have_a_field_each(opened):
    file = made_up_file(labels=("好", "中", "差", "劣"), synonyms={}, columns=("title", "review"))
    with running(MadeUp(file), PATIENT) as server:
        page = opened(server.url)
        page.wait_for_selector("textarea")
        for area, text in zip(page.locator("textarea").all(), ("差", "好好好"), strict=True):
            area.fill(text)
        page.get_by_role("button", name="判断").click()
        page.wait_for_selector("#bars li")
        assert page.locator("#label").inner_text() == "好" and page.locator("#bars li").count() == 4
        assert page.locator("#hint").is_hidden() and server.classifier.texts[-1] == "差|好好好"


@pytest.mark.parametrize("language", ["zh-CN", "en-GB"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_telephone(opened, language, scheme):
    page = opened(width=390, locale=language, color_scheme=scheme)
    page.wait_for_selector("textarea")
    page.locator("textarea").fill("https://example.org/" + "a" * 300 + "好")
    page.click("#try .main")
    page.wait_for_selector("#pieces span")
    label_table(page, [["review", "a" * 80], ["好", "b" * 300]], name="n" * 120 + ".csv")
    page.click("#start")
    page.wait_for_selector("#download:not([hidden])")
    assert page.locator("html").get_attribute("data-lang") == language[:2]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "e => e.getBoundingClientRect().right > 391 && e.getBoundingClientRect().width > 0"
    inside = "!e.closest('pre')"
    assert page.evaluate(f"[...document.querySelectorAll('main *')].filter(e => {inside} && ({wide})(e)).length") == 0
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{one}") for one in ("color", "backgroundColor"))
    brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
