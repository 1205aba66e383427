"""A learning curve: what a reading reaches with how many training rows, and what more of them would bring.

The error falls with the rows n by an inverse power law, a + b n^-c (Cortes, Jackel, Solla, Vapnik, Denker: Learning
Curves, NIPS 1993; Viering and Loog, IEEE TPAMI 2023, on where it holds), fitted by least squares with weights of
sqrt(n), because what lies ahead is nearer to the large numbers (Figueroa and others, BMC Medical Informatics 2012).
Where it does not hold it is too sure of itself, so its interval is joined with that of a second law, a straight line
over log n through the last three numbers of rows. Both are drawn again with other test rows and other seeds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import Manifest
from eval.scoring.significance import Interval, percentiles
from plan.provenance import recipe_sha256
from plan.run import Run
from workspace.files import read_json, sha256_json
from workspace.paths import shown

EXPONENTS = np.geomspace(0.05, 2, 24)
FEWEST = 3  # numbers of rows, for three parameters
LAST = 3  # numbers of rows that the straight line is drawn through
FARTHEST = 2.0  # times the most rows measured: farther no law is trusted
ALPHA = 0.05
SEED = 42
FORMAT = 1  # of curve.json


@dataclass(frozen=True)
class PowerLaw:
    """The error a + b (n / scale)^-c of d draws, each parameter of shape (d,); misfit: weighted mean squared error."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    scale: float
    misfit: NDArray[np.float64]

    def __call__(self, rows: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
        """The error with each of m numbers of rows; shape (d, m)."""
        powers = (np.asarray(rows, dtype=float)[None] / self.scale) ** -self.c[:, None]
        return self.a[:, None] + self.b[:, None] * powers


@dataclass(frozen=True)
class Extrapolation:
    """What `more` rows beyond the most measured would add to a metric, with its 95 % interval; fits: whether the
    measured points allow the inverse power law."""

    rows: int
    more: int
    gain: float
    interval: Interval
    fits: bool


def fit_power_law(rows: Sequence[int], errors: NDArray[np.float64]) -> PowerLaw:
    """The law through each of d draws of the errors with m numbers of rows (d, m).

    For a given exponent the others are a linear fit (Golub and Pereyra, SIAM J. Numerical Analysis 1973), so exponents
    are tried one by one. The error left at the end, a, is at least 0.
    """
    n = np.asarray(rows, dtype=float)
    scale, weights = float(n.max()), np.sqrt(n) / np.sqrt(n).sum()
    centre = errors - (errors @ weights)[:, None]
    best = np.full((4, len(errors)), np.inf)  # misfit, a, b, c
    for c in EXPONENTS:
        x = (n / scale) ** -c
        around = x - weights @ x
        b = centre @ (weights * around) / (weights @ around**2)
        a = errors @ weights - b * (weights @ x)
        b = np.where(a < 0, errors @ (weights * x) / (weights @ x**2), b)
        a = np.maximum(a, 0)
        misfit = (errors - a[:, None] - b[:, None] * x) ** 2 @ weights
        best = np.where(misfit < best[0], np.stack([misfit, a, b, np.full(len(errors), c)]), best)
    return PowerLaw(best[1], best[2], best[3], scale, best[0])


def mean_draws(
    observed: NDArray[np.float64], drawn: NDArray[np.float64], seed: int = SEED
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean over seeds with each number of rows (m,), and draws of it (d, m) by other test rows and other seeds.

    observed (m, k): a metric of m numbers of rows and k seeds; drawn (d, m, k): by rows drawn again. The spread over
    seeds is pooled over the numbers of rows, and drawn from Student's t; with one seed there is none to draw from.
    """
    numbers, seeds = observed.shape
    means, draws = observed.mean(axis=1), drawn.mean(axis=2)
    if seeds > 1:
        generator, freedom = np.random.default_rng(seed), numbers * (seeds - 1)
        spread = np.sqrt(observed.var(axis=1, ddof=1).mean() / seeds)
        chi = np.sqrt(freedom / generator.chisquare(freedom, len(draws)))
        draws = draws + spread * chi[:, None] * generator.standard_normal(draws.shape)
    return means, draws


def extrapolate(
    rows: Sequence[int], means: NDArray[np.float64], draws: NDArray[np.float64], more: int
) -> Extrapolation | None:
    """What `more` rows would bring; rows rise, means (m,) and draws (d, m) are `mean_draws`'s. None for too few of them
    or too far ahead."""
    most = rows[-1]
    if len(rows) < FEWEST or most + more > FARTHEST * most:
        return None
    law, drawn = fit_power_law(rows, 1 - means[None]), fit_power_law(rows, 1 - draws)
    ends = [most, most + more]
    gain, gains = float(-np.diff(law(ends))[0, 0]), -np.diff(drawn(ends))[:, 0]
    logs = np.log(rows[-LAST:]) - np.log(rows[-LAST:]).mean()
    straight = draws[:, -LAST:] @ logs / (logs @ logs) * np.log((most + more) / most)
    (low, high), (lower, higher) = percentiles(gains), percentiles(straight)
    # As far from the law as the points would lie by chance, if it held?
    again = fit_power_law(rows, law(rows) - (draws - means))
    fits = len(rows) == FEWEST or float((again.misfit >= law.misfit).mean()) >= ALPHA
    return Extrapolation(most, more, gain, (min(low, lower), max(high, higher)), fits)


def worth_from(rows: Sequence[int], better: Sequence[bool]) -> int | None:
    """The fewest rows from which on, with every number measured, `better` holds; None where it fails with the most.

    Read from the most rows downwards until it first fails, so that the chance of a false claim is that of one test
    (Westfall and Krishen, J. Statistical Planning and Inference 2001).
    """
    found = None
    for number, holds in zip(reversed(rows), reversed(better), strict=True):
        if not holds:
            break
        found = number
    return found


def further_rows(most: int) -> int:
    """A round number near half of the rows there are: how many more labels are spoken of."""
    half = max(most / 2, 1)
    size = 10 ** int(np.floor(np.log10(half)))
    return max(int(step * size) for step in (1, 2, 5) if step * size <= half)


def measured_on(run: Run, manifest: Manifest) -> str:
    """What a run with all rows, and a curve that ends there, have in common, as a hash: recipe, model, table, prompt,
    the number of training rows and how the table is split. Under a limit the curve has more of the test rows."""
    asked = [manifest.system, manifest.template, asdict(manifest.split), manifest.duplicates.threshold]
    return sha256_json([recipe_sha256(run, manifest), *asked])


def near_curve(run: Run, manifest: Manifest) -> dict[str, Any] | None:
    """What `bash run_sft.sh curve` has found beside a run, and its page from there; None where there is no curve, or
    one of something else: another recipe, model, prompt, limit or table, be it that rows were labelled since."""
    folder = run.folder.with_name(f"{run.folder.name}.curve")
    try:
        found = read_json(folder / "curve.json")
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    if found.get("measured_on") != measured_on(run, manifest):
        what = "another recipe, model, prompt or table, or of an earlier version"
        again = "`bash run_sft.sh curve` with the words of this run makes it anew, and keeps the points that fit"
        print(f"report: {shown(folder)} is a curve of {what}, and not told: {again}", flush=True)
        return None
    return {"page": f"../{folder.name}/curve.html", "found": found}
