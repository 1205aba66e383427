"""The example notebook runs from its first cell to its last, with any classifier."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.small_bundles import LABELS, linear_bundle
from workspace.files import read_json
from workspace.paths import ROOT

NOTEBOOK = ROOT / "docs" / "classifier.ipynb"


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFIER", str(linear_bundle(tmp_path)))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = ["".join(cell["source"]) for cell in read_json(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, str(NOTEBOOK), "exec"), names)
    found = names["decided"]
    assert set(found.labels) <= set(LABELS) and found.abstained.dtype == bool  # type: ignore[attr-defined]
    assert names["importance"].importances.shape == (1, 3)  # type: ignore[attr-defined]
    assert isinstance(names["reviews"], pd.DataFrame) and len(cells) == 6
    vote, classifier, reviews = (names[name] for name in ("vote", "classifier", "reviews"))
    shares = vote.predict_proba(reviews["review"])  # type: ignore[attr-defined, index]
    assert np.allclose(shares, classifier.predict_proba(reviews["review"]))  # type: ignore[attr-defined, index]


def test_it_is_kept_without_outputs() -> None:
    cells = [cell for cell in read_json(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells] == [([], None)] * len(cells)
