import pytest
from statsmodels.stats.multitest import multipletests

from eval.scoring.multiplicity import corrected_codes, holm


def test_holm_is_statsmodels_and_takes_back_what_several_comparisons_made():
    """Audit, Medium: p = 0.024, the smallest of four."""
    p = [0.6, 0.024, 0.76, 0.073, 0.024]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert (holm([]), holm([0.03])) == ([], [0.03])
    codes = ["undecided", "better", "equivalent", "undecided"]
    assert corrected_codes(codes, p[:4]) == ["undecided", "undecided", "equivalent", "undecided"]
    assert corrected_codes(codes, [0.6, 0.01, 0.76, 0.073])[1] == "better"
    assert corrected_codes(["worse"], [0.049]) == ["worse"]
