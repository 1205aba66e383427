"""Which rows to label next: those that serve.informative picks against rows drawn by chance, on held-out rows.

Run as: python -m bench labelling [--repeat N] [--csv FILE] [--json FILE]

The linear model learns from 300 rows, then five times from 200 more of a pool whose labels it has not seen; each way
begins with the same rows. `repeat` draws of the held-out fifth and of the first rows.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.subject import Figures, reviews_table
from bench.tables import read_reviews
from eval.baselines import fit_linear
from eval.scoring.metrics import classify
from eval.scoring.responses import Split
from serve.informative import CANDIDATES, most_informative
from workspace.markdown import table
from workspace.progress import progress

FIRST, MORE, ROUNDS = 300, 200, 5
HELD_OUT = 5  # every fifth row
Pick = Callable[[Sequence[str], NDArray[np.float64], int], NDArray[np.int64]]


def _by_chance(texts: Sequence[str], _probabilities: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(len(texts))[:MORE]


WAYS: dict[str, Pick] = {
    "by chance": _by_chance,
    "doubted": lambda texts, probabilities, _seed: most_informative(texts, probabilities, MORE, candidates=1),
    "doubted and unlike (next)": lambda texts, probabilities, _seed: most_informative(texts, probabilities, MORE),
}


def run(repeat: int = 3, csv: Path | None = None) -> tuple[Figures, bool]:
    """Accuracy and macro F1 of each way after each round, a list over the draws; there is no limit to keep."""
    rows = list(dict.fromkeys(read_reviews(reviews_table(csv))))
    labels = sorted({label for label, _ in rows})
    curves: dict[str, Any] = {way: {} for way in WAYS}
    whole: list[tuple[float, float]] = []
    with progress(repeat * len(WAYS), "bench: draws and ways", "way", few=0) as bar:
        for seed in range(1, repeat + 1):
            order = np.random.default_rng(seed).permutation(len(rows))
            held_out, pool = (_split([rows[at] for at in part]) for part in np.split(order, [len(rows) // HELD_OUT]))
            whole.append(_scores(fit_linear(pool, None, labels).probabilities(held_out.reviews), held_out, labels))
            for way, pick in WAYS.items():
                for count, scores in _rounds(pool, held_out, labels, pick, seed):
                    curves[way].setdefault(str(count), []).append(scores)
                bar.update()
    return {"bench": "labelling", "rows": len(rows), "candidates": CANDIDATES, "curves": curves, "all": whole}, True


def _rounds(
    pool: Split, held_out: Split, labels: Sequence[str], pick: Pick, seed: int
) -> list[tuple[int, tuple[float, float]]]:
    """The number of labelled rows, with accuracy and macro F1 on the held-out rows, of each round."""
    known, found = np.arange(FIRST), []
    for turn in range(ROUNDS + 1):
        model = fit_linear(pool.take(known), None, labels)
        found.append((len(known), _scores(model.probabilities(held_out.reviews), held_out, labels)))
        if turn < ROUNDS:
            left = np.setdiff1d(np.arange(len(pool)), known)
            texts = [pool.reviews[at] for at in left]
            known = np.append(known, left[pick(texts, model.probabilities(texts), 1000 * seed + turn)])
    return found


def _split(rows: Sequence[tuple[str, str]]) -> Split:
    gold, texts = zip(*rows, strict=True)
    return Split(Path("rows"), tuple(map(str, range(len(rows)))), texts, gold, (False,) * len(rows))


def _scores(probabilities: NDArray[np.float64], held_out: Split, labels: Sequence[str]) -> tuple[float, float]:
    found = classify(held_out.gold, [labels[code] for code in probabilities.argmax(axis=1)], labels)
    return found.accuracy, found.macro_f1


def report(found: Figures) -> list[str]:
    """The figures as a table: means over the draws, with their spread."""
    counts = list(next(iter(found["curves"].values())))
    lines = [[way, *(_cell(curve[count]) for count in counts)] for way, curve in found["curves"].items()]
    lines.append(["all rows of the pool", *[""] * (len(counts) - 1), _cell(found["all"])])
    return table(["labelled rows", *counts], lines)


def _cell(draws: Sequence[Sequence[float]]) -> str:
    accuracies, scores = zip(*draws, strict=True)
    spread = f" ± {100 * statistics.stdev(accuracies):.1f}" if len(draws) > 1 else ""
    return f"{100 * statistics.mean(accuracies):.1f}{spread} % / {statistics.mean(scores):.3f}"
