import pytest

from eval.reporting.svg_charts import BOTTOM, LEFT, RIGHT, TOP, Scale, charts, round_step
from tests.report_runs import make_run


@pytest.mark.parametrize(("least", "step"), [(0.11, 0.2), (0.2, 0.2), (0.21, 0.5), (37, 50), (700, 1000), (0, 1)])
def test_round_steps(least, step):
    assert round_step(least) == pytest.approx(step)


def test_ticks_are_round_and_in_range():
    scale = Scale(0.843, 0.957, BOTTOM, TOP)
    ticks = scale.ticks(lambda value: f"{value:.2f}")
    assert [text for _, text in ticks] == ["0.86", "0.88", "0.90", "0.92", "0.94"]
    assert all(TOP <= place <= BOTTOM for place, _ in ticks)
    assert ticks[0][0] > ticks[-1][0]  # y grows downwards
    assert Scale(1, 1, 0, 10)(1) == 0  # one value is no division by zero


@pytest.mark.parametrize("improved", [True, False])
def test_every_point_lies_in_the_frame(tmp_path, improved):
    found = charts(make_run(tmp_path, n=120, improved=improved))
    assert list(found) == ["loss", "accuracy", "reliability", "coverage"]
    for chart in found.values():
        points = [point for line in chart.lines for point in line.points]
        assert points and all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)
        assert chart.x_ticks and chart.y_ticks and "n = " in chart.rows
    assert len(found["loss"].rules) == 1


def test_what_was_not_measured_has_no_chart(tmp_path):
    metrics = make_run(tmp_path, n=40, curves=False, probabilities=False)
    assert charts(metrics) == {}


def test_a_single_checkpoint(tmp_path):
    metrics = make_run(tmp_path, n=40)
    metrics["curves"] |= {"val": metrics["curves"]["val"][:1], "train": [], "best_step": None}
    found = charts(metrics)
    assert len(found["accuracy"].lines) == 3 and not found["accuracy"].rules
