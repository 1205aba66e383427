"""The report in a real browser, opened from the file system: the switch, the filters, the search, and nothing else."""

import pytest

from eval.reporting.render import render_html
from tests.report_runs import HOSTILE, MANY, TEN, make_run
from workspace.files import read_jsonl, write_text

pytestmark = pytest.mark.browser

N = 1553


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run's folder with a full-size report.html, and its rows."""
    folder = tmp_path_factory.mktemp("run")
    return folder, write_page(folder, n=N)


def write_page(folder, *args, **more):
    metrics = make_run(folder, *args, **more)
    rows = read_jsonl(folder / "rows.jsonl")
    write_text(folder / "report.html", render_html(metrics, rows))
    return rows


@pytest.fixture
def opened(browser, report):
    """Opens a report; at the end of the test, nothing may have gone wrong in any page, nor left it."""
    pages, troubles = [], []

    def open_page(folder=report[0], width=1440, **more):
        page = browser.new_page(viewport={"width": width, "height": 900}, **more)
        address = (folder / "report.html").as_uri()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url == address or troubles.append(f"request: {request.url}"))
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    hacked = [page.evaluate("window.hacked") for page in pages]
    for page in pages:
        page.close()
    assert troubles == [] and hacked == [None] * len(pages)


def languages(page):
    """How many texts of each language are visible."""
    return {code: page.locator(f"main .{code}:visible").count() for code in ("zh", "en")}


def options(page):
    return page.locator("#gold option").all_text_contents()


def cards(page):
    return page.locator("#rows > li")


def test_the_switch_changes_the_language_of_everything(opened):
    page = opened()
    chinese, english = page.get_by_role("button", name="中文"), page.get_by_role("button", name="English")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert "对照阶梯" in page.locator("#ladder h2").inner_text()
    at_first = languages(page)
    assert at_first["zh"] > 300 and at_first["en"] == 0 and options(page) == ["全部", "正面", "负面"]
    english.click()
    assert page.locator("html").get_attribute("lang") == "en"
    assert (chinese.get_attribute("aria-pressed"), english.get_attribute("aria-pressed")) == ("false", "true")
    assert "The ladder" in page.locator("#ladder h2").inner_text()
    assert languages(page) == {"zh": 0, "en": at_first["zh"]} and options(page) == ["all", "正面", "负面"]
    assert page.locator("#count").inner_text() == f"{N:,} of {N:,} rows"
    chinese.click()
    assert languages(page) == at_first


def test_the_switch_works_from_the_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "English"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("status", ["fixed", "broken", "wrong", "right"])
def test_the_filter_shows_just_the_rows_of_a_kind(opened, report, status):
    page, expected = opened(), [row["id"] for row in report[1] if row["status"] == status]
    button = page.locator(f"#status button[data-status={status}]")
    assert f"{len(expected):,}" in button.inner_text()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#count").inner_text() == f"{N:,} 条中的 {len(expected):,} 条"
    shown = page.locator("#rows .head > .faint").all_inner_texts()
    assert [text for text in shown if text.startswith("#")] == [f"#{key}" for key in expected[:50]]
    assert page.locator("#rows .head .status").count() == page.locator(f"#rows .head .status.{status}").count()


def test_the_most_confident_errors_come_surest_first(opened, report):
    page = opened()
    wrong = [row["readings"]["after_score"] for row in report[1] if not row["readings"]["after_score"]["correct"]]
    page.locator("#status button[data-status=confident]").click()
    assert f" {len(wrong)} " in page.locator("#count").inner_text()
    first = cards(page).first
    first.locator("summary").first.click()
    near = first.locator(".nearest li")
    assert near.count() == 2 and "#9001" in near.first.inner_text() and HOSTILE[0] in near.first.inner_text()
    first.locator("summary").last.click()
    line = first.locator("details li", has_text="调优后 · 打分").first
    assert f"p = {max(told['p'] for told in wrong):.3f}" in line.inner_text() and "✗" in line.inner_text()


def test_label_and_cut_narrow_the_rows(opened, report):
    page = opened()
    page.select_option("#gold", label="负面")
    page.select_option("#cut", "1")
    expected = [row for row in report[1] if row["gold"] == "负面" and row["cut"]]
    assert 0 < len(expected) < N
    assert page.locator("#count").inner_text() == f"{N:,} 条中的 {len(expected)} 条"
    assert all("真实标签" in text and "负面" in text for text in page.locator("#rows .head").all_inner_texts())


def holds(row, words):
    answers = [told["answer"] for told in row["readings"].values() if told["answer"] != told["label"]]
    return any(words.lower() in text.lower() for text in [row["id"], row["review"], *filter(None, answers)])


def test_search_finds_reviews_answers_and_ids(opened, report):
    page, rows = opened(), report[1]
    for words in ("失望，再来", "说不清</B>", "1553"):
        expected = [row for row in rows if holds(row, words)]
        page.fill("#search", f" {words} ")
        assert page.locator("#count").inner_text() == f"{N:,} 条中的 {len(expected):,} 条"
        assert 0 < len(expected) < N
    page.fill("#search", "失望，再来")
    assert set(page.locator("mark").all_inner_texts()) == {"失望，再来"}
    page.fill("#search", "没有这样的评论")
    assert cards(page).count() == 0 and page.locator("#next").is_disabled()


def test_pages_of_fifty(opened, report):
    page, last = opened(), -(-N // 50)
    assert cards(page).count() == 50 and page.locator("#previous").is_disabled()
    assert page.locator("#page").inner_text() == f"第 1 / {last} 页"
    for _ in range(last - 1):
        page.locator("#next").click()
    assert cards(page).count() == N - 50 * (last - 1) and page.locator("#next").is_disabled()
    assert f"#{report[1][-1]['id']}" in cards(page).last.inner_text()
    page.fill("#search", "房间")  # a new search begins on its first page
    assert "第 1 /" in page.locator("#page").inner_text()


def test_hostile_reviews_show_as_text(opened):
    page = opened()
    assert page.locator("#rows .review").evaluate_all("all => all.map(one => one.textContent)")[: len(HOSTILE)] == list(
        HOSTILE
    )
    assert page.locator("#rows img, #rows script, #rows a").count() == 0
    page.fill("#search", "<img src")
    assert cards(page).count() == 1 and page.locator("mark").inner_text() == "<img src"


def test_a_long_review_opens(opened, tmp_path):
    rows = write_page(tmp_path, n=20, hostile=False)
    metrics = make_run(tmp_path, n=20, hostile=False)
    rows[0]["review"] = "很" * 3000
    write_text(tmp_path / "report.html", render_html(metrics, rows))
    page = opened(tmp_path)
    assert len(page.locator(".review").first.inner_text()) == 401
    page.locator("button.more").click()
    assert len(page.locator(".review").first.inner_text()) == 3000


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
@pytest.mark.parametrize("labels", [("正面", "负面"), TEN, MANY[:77]])
def test_no_width_makes_the_page_scroll_sideways(opened, tmp_path, width, labels):
    write_page(tmp_path, labels, n=60)
    page = opened(tmp_path, width)
    for language in ("zh", "en"):
        page.click(f"button[data-lang={language}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_no_figure_is_behind_a_sideways_scroll(opened, width):
    """Audited: at 390 px p and verdict stood to the right of the screen."""
    page = opened(width=width)
    for language in ("zh", "en"):
        page.click(f"button[data-lang={language}]")
        wide = (
            "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute('aria-label'))"
        )
        assert page.locator(".scroll:visible").evaluate_all(wide) == []
    if width == 390:
        label = "one => getComputedStyle(one, '::before').content"
        cells = page.locator("#statistics tbody tr").first.locator("td")
        assert [cells.nth(k).evaluate(label) for k in (0, 3)] == ['"the second is"', '"McNemar p"']
        assert page.locator("#failures tbody th").first.evaluate(label) == '"gold label"'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    """WCAG AA: a contrast of 4.5 for every text colour on the ground that it stands on."""
    page = opened(color_scheme=scheme)
    poor = page.evaluate(CONTRAST)
    assert poor == []


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, k) => v * a + under[k] * (1 - a));
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (one) => one === null ? [255, 255, 255]
    : over(numbers(getComputedStyle(one).backgroundColor), ground(one.parentElement));
  const poor = [];
  for (const one of document.querySelectorAll("main *, header *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || one.closest("svg, :disabled, option, .aloud") || !one.offsetParent) continue;
    const behind = ground(one);
    const [a, b] = [light(over(numbers(getComputedStyle(one).color), behind)), light(behind)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${one.tagName}.${one.className} ${one.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)].slice(0, 20);
}"""


def test_print_hides_what_only_a_screen_can_do(opened):
    page = opened()
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible() and not page.locator("nav").is_visible()
    assert page.locator(".on-paper").is_visible() and page.locator("h1").is_visible()


@pytest.mark.parametrize(
    "more",
    [
        {"readings": ("majority",), "curves": False},
        {"readings": ("majority", "before_generate", "after_generate"), "probabilities": False},
        {"improved": False},
    ],
)
def test_runs_that_lack_something_open_as_well(opened, tmp_path, more):
    write_page(tmp_path, n=60, **more)
    page = opened(tmp_path)
    assert cards(page).count() == 50
    cards(page).first.scroll_into_view_if_needed()
