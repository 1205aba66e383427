import io
import warnings

import pytest
from matplotlib import font_manager, rcParams
from matplotlib.image import imread

from eval.reporting.pictures import PICTURES, draw_pictures
from eval.reporting.wording import Text
from tests.report_runs import MANY, TEN, make_run
from workspace import fonts
from workspace.picture_style import Pen

CHINESE = fonts.chinese_font()
needs_chinese = pytest.mark.skipif(CHINESE is None, reason="no Chinese font, nor the package that carries one")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def warnings_are_errors():
    """matplotlib warns of each character that it draws as a box, and of a layout that does not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@needs_chinese
def test_every_picture_is_drawn_in_chinese_without_a_box(metrics):
    drawn = draw_pictures(metrics, CHINESE)
    assert list(drawn) == list(PICTURES)
    for data in drawn.values():
        assert imread(io.BytesIO(data)).shape[1] == 1200  # pixels; large enough text needs this width of 8 inches


def test_without_a_chinese_font_the_pictures_are_english(metrics):
    assert list(draw_pictures(metrics, None)) == list(PICTURES)


@needs_chinese
@pytest.mark.parametrize("labels", [TEN, ("很长很长的类别名称一二三四五", "x"), ("$a_b$", "😀𠀀\u200b", "c\nd")])
def test_any_label_words(tmp_path, labels):
    drawn = draw_pictures(make_run(tmp_path, labels, n=60, curves=False, probabilities=False), CHINESE)
    assert {"confusion_before.png", "confusion_after.png"} <= drawn.keys()


def test_no_matrix_of_more_labels_than_can_be_read(tmp_path):
    drawn = draw_pictures(make_run(tmp_path, MANY[:77], n=60, curves=False, probabilities=False), CHINESE)
    assert list(drawn) == ["before_after.png"]


def test_no_picture_without_its_figures(tmp_path):
    readings = ("majority", "before_generate", "after_generate")
    drawn = draw_pictures(make_run(tmp_path, curves=False, probabilities=False, readings=readings), CHINESE)
    assert list(drawn) == ["before_after.png", "confusion_before.png", "confusion_after.png"]


def test_scores_stand_in_for_generated_answers(tmp_path):
    metrics = make_run(tmp_path, readings=("tfidf_linear", "after_score"))
    drawn = draw_pictures(metrics, CHINESE)
    assert "confusion_after.png" in drawn and "confusion_before.png" not in drawn


def test_curves_with_gaps(metrics):
    point = {"step": 1, "epoch": None, "loss": None, "teacher_forced_accuracy": None, "label_accuracy": None}
    val = [{**point, "label_macro_f1": None}, {**point, "step": 2, "loss": 0.5, "label_macro_f1": 0.5}]
    curves = {"train": [], "val": val, "teacher_forced_metric": None, "best_step": None}
    assert {"curves_loss.png", "curves_accuracy.png"} <= draw_pictures({**metrics, "curves": curves}, CHINESE).keys()
    empty = {**curves, "val": val[:1]}
    assert not {"curves_loss.png", "curves_accuracy.png"} & draw_pictures({**metrics, "curves": empty}, CHINESE).keys()


def test_the_same_metrics_give_the_same_bytes_and_leave_no_setting_behind(metrics):
    before = dict(rcParams)
    rcParams["font.size"] = 40  # a user's own settings change nothing
    try:
        first = draw_pictures(metrics, CHINESE)
    finally:
        rcParams["font.size"] = before["font.size"]
    assert first == draw_pictures(metrics, CHINESE)
    assert dict(rcParams) == before


def test_label_words_that_no_font_has_are_numbered():
    latin = fonts.fallback_font()
    assert Pen(None, latin).word("正面", "label 1") == "label 1"
    assert Pen(None, latin).word("good", "label 1") == "good"
    assert Pen(None, latin).both(Text("中文", "English")) == "English"
    if CHINESE:
        assert Pen(CHINESE, latin).word("正面", "label 1") == "正面"
        assert Pen(CHINESE, latin).word("\U000107ff", "label 1") == "label 1"


def test_the_font_package_is_enough(monkeypatch):
    monkeypatch.setattr(fonts, "FAMILIES", ())
    if not fonts.importlib.util.find_spec(fonts.PACKAGE):
        pytest.skip(f"the package {fonts.PACKAGE} is not installed")
    font = fonts.chinese_font()
    assert font is not None and font.family == "Noto Sans SC" and not fonts.missing(fonts.PROBE, font)
    fonts.chinese_font()
    assert [entry.fname for entry in font_manager.fontManager.ttflist].count(str(font.path)) == 1


def test_no_font_at_all(monkeypatch):
    monkeypatch.setattr(fonts, "FAMILIES", ("DejaVu Sans",))  # there, but without Chinese
    monkeypatch.setattr(fonts, "PACKAGE", "no_such_package")
    assert fonts.chinese_font() is None
