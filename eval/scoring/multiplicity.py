"""Several comparisons beside one another: p values and outcomes corrected for their number."""

from collections.abc import Sequence

import numpy as np

from eval.scoring.significance import ALPHA, Code


def holm(p: Sequence[float]) -> list[float]:
    """Two-sided p values of several tests, corrected for their number (Holm, Scandinavian Journal of Statistics, 1979).

    The k-th smallest of m is multiplied by m - k + 1, and is never below the one before it.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1).tolist()


def corrected_codes(codes: Sequence[Code], p: Sequence[float]) -> list[Code]:
    """The codes of several comparisons, "better" and "worse" only where the corrected p still shows it."""
    if len(codes) == 1:
        return list(codes)
    return [
        "undecided" if code in ("better", "worse") and own >= ALPHA else code
        for code, own in zip(codes, holm(p), strict=True)
    ]
