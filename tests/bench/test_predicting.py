"""The bench of predict: tables of several sizes are labelled for real, and each limit is said to be kept or not."""

import csv
from pathlib import Path

import pytest

from bench import predicting
from tests.prep_tables import reviews
from tests.small_bundles import linear_bundle


@pytest.mark.slow
def test_each_size_is_labelled_and_measured(tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("label", "review"), *reviews(60)])
    found, _ = predicting.run(linear_bundle(tmp_path / "bundle"), "linear", (200, 20), table)
    assert [one["rows"] for one in found["sizes"]] == [20, 200]
    small, large = found["sizes"]
    assert min(small["peak_bytes"], large["peak_bytes"]) > 2**24 and small["rate"] > 0
    assert found["growth"] == large["peak_bytes"] / small["peak_bytes"]
    assert found["share"] == min(small["rate"], large["rate"]) / found["alone"]


@pytest.mark.parametrize(
    ("growth", "share", "told"), [(1.1, 0.95, ["kept", "kept"]), (1.3, 0.8, ["NOT kept", "NOT kept"])]
)
def test_the_report_says_which_limits_are_kept(growth: float, share: float, told: list[str]) -> None:
    size = {"rows": 1_000_000, "seconds": 100.0, "peak_bytes": 2**30, "rate": 10_000.0}
    found = {
        "reading": "linear", "machine": "a machine", "stolen": 0.01, "sizes": [size], "alone": 11_000.0,
        "growth": growth, "share": share,
    }  # fmt: skip
    lines = predicting.report(found)
    assert [line.rpartition(": ")[2] for line in lines[-2:]] == [f"{one})" for one in told]
    assert any("1,000,000" in line and "1,024" in line for line in lines)
