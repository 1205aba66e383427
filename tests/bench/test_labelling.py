"""The simulation of labelling: each way begins alike, knows no held-out row, and picks rows it has not had."""

import numpy as np

from bench import labelling
from tests.prep_tables import reviews, write_csv


def test_every_way_begins_alike_and_grows_by_the_same_number(tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "FIRST", 40)
    monkeypatch.setattr(labelling, "MORE", 20)
    monkeypatch.setattr(labelling, "ROUNDS", 2)
    seen = []

    def watched(texts, probabilities, seed):
        assert len(probabilities) == len(texts) and np.allclose(probabilities.sum(axis=1), 1)
        seen.append(set(texts))
        return np.arange(20)

    monkeypatch.setitem(labelling.WAYS, "doubted", watched)
    found, kept = labelling.run(repeat=2, csv=write_csv(tmp_path / "t.csv", reviews(150)))
    assert kept and found["rows"] == 150
    curves = found["curves"]
    assert {way: list(curve) for way, curve in curves.items()} == {way: ["40", "60", "80"] for way in labelling.WAYS}
    assert len({tuple(map(tuple, curve["40"])) for curve in curves.values()}) == 1
    assert [len(texts) for texts in seen] == [80, 60] * 2 and seen[1] < seen[0]
    lines = labelling.report(found)
    assert lines[0] == "| labelled rows | 40 | 60 | 80 |" and "all rows of the pool" in lines[-1]
