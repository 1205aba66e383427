import pytest

from eval.reporting.charts import FRAME, Axis, Chart, line_charts, series, smoothed, smoothing, split_sizes
from eval.reporting.wording import Text
from tests.report_runs import make_run


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.843, 0.957, ["0.86", "0.88", "0.90", "0.92", "0.94"]),
        (0, 1, ["0.00", "0.20", "0.40", "0.60", "0.80", "1.00"]),
        (-30, 2030, ["0.00", "500.00", "1000.00", "1500.00", "2000.00"]),
    ],
)
def test_ticks_are_round_and_in_range(low, high, texts):
    axis = Axis(Text("值", "value"), low, high, lambda value: f"{value:.2f}")
    assert [text for _, text in axis.ticks] == texts
    assert all(low <= value <= high for value, _ in axis.ticks)


def test_places():
    axis = Axis(Text("值", "value"), 1, 3, str)
    chart = Chart(Text("题", "title"), "n = 1", axis, axis, ())
    assert chart.place(1, 1) == (FRAME.left, FRAME.bottom)  # y grows downwards
    assert chart.place(3, 3) == (FRAME.right, FRAME.top)
    assert Axis(Text("值", "value"), 1, 1, str).share(1) == 0  # one value is no division by zero


@pytest.mark.parametrize("improved", [True, False])
def test_every_point_lies_in_the_frame(tmp_path, improved):
    found = line_charts(make_run(tmp_path, n=120, improved=improved))
    assert list(found) == ["loss", "accuracy", "reliability", "coverage"]
    for chart in found.values():
        points = [chart.place(*point) for line in chart.lines for point in line.points]
        assert points
        assert all(FRAME.left <= x <= FRAME.right and FRAME.top <= y <= FRAME.bottom for x, y in points)
        assert chart.x.ticks and chart.y.ticks and "n = " in chart.rows
    assert found["loss"].rule[0] == 1398


def test_shares_are_drawn_on_the_whole_axis_with_whiskers(tmp_path):
    """Audited: an axis from 77 to 82 % made a difference of chance among 50 rows fill the picture."""
    found = line_charts(make_run(tmp_path, n=50))
    for name in ("accuracy", "reliability", "coverage"):
        assert (found[name].y.low, found[name].y.high) == (0, 1.05)
    assert found["accuracy"].lines[0].spans == ([0.8, 0.95],) * 3
    assert "95%" in found["coverage"].lines[-1].name.en and found["coverage"].lines[-1].spans


def test_bins_are_not_joined_and_say_how_many_rows_they_hold(tmp_path):
    """Audited: points of 5 reviews were joined by lines and had no whiskers."""
    _, before, after = line_charts(make_run(tmp_path, n=50))["reliability"].lines
    for line in (before, after):
        assert line.stroke == "none" and len(line.spans) == len(line.points) == 5
        assert all(low <= y <= high for (low, high), (_, y) in zip(line.spans, line.points, strict=True))
        assert "5 bins, n = 10 in each" in line.name.en and "每格 n = 10" in line.name.zh


def test_coverage_is_drawn_from_twenty_rows_on(tmp_path):
    lines = line_charts(make_run(tmp_path, n=50))["coverage"].lines
    assert all(x >= 0.4 for line in lines for x, _ in line.points)
    assert "coverage" not in line_charts(make_run(tmp_path, n=15))


def test_what_was_not_measured_has_no_chart(tmp_path):
    metrics = make_run(tmp_path, n=40, curves=False, probabilities=False)
    assert line_charts(metrics) == {}


def test_a_single_checkpoint(tmp_path):
    metrics = make_run(tmp_path, n=40)
    metrics["curves"] |= {"val": metrics["curves"]["val"][:1], "train": [], "best_step": None}
    found = line_charts(metrics)
    assert len(found["accuracy"].lines) == 3 and not found["accuracy"].rule


def test_series():
    rows = [{"step": 3, "loss": 1.0}, {"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]
    assert series(rows, "loss") == ((1, 2.0), (3, 1.0))
    assert not series(rows, "accuracy")
    assert smoothed([2.0, 2.0, 2.0], weight=0.8) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([3.0, 1.0], weight=smoothing(2)) == [3.0, 1.0]
    assert [smoothing(n) for n in (0, 10, 20, 1000)] == [0.0, 0.0, 0.5, 0.8]
    assert smoothed([0.0, 1.0], weight=0.5) == pytest.approx([0.0, 2 / 3])
    assert split_sizes({"counts": {"train": {"total": 5590}}}, "train", "val") == "train n = 5,590"
