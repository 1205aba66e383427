"""Finished runs side by side, on the same test rows and with the same paired statistics as within one run.

Two runs are two checkpoints. Recipes are compared where each is there with several seeds, by an interval that holds
seeds and rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from data_prep.task import PrimaryMetric
from eval.reporting.render import render
from eval.reporting.seeds_page import METRICS, OUTCOMES
from eval.scoring.multiplicity import corrected_codes, holm
from eval.scoring.predictions import LADDER, STACK
from eval.scoring.seed_intervals import Estimate, Outcome, outcome, p_value_of, score_draws
from eval.scoring.significance import Comparison, compare
from train.trials import runs_of_list
from workspace.bilingual import NONE
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import RowId, read, read_lines


class _Looks(BaseModel):
    rows_sha256: str
    looks: int


class _Facts(BaseModel):
    recipe: str | None = None
    model: str | None = None
    training_seed: int | None = None
    data_seed: int | None = None
    recipe_sha256: str | None = None  # None: of an earlier version
    seconds: dict[str, FiniteFloat | None] = {}


class _Scores(BaseModel):
    n: int
    accuracy: FiniteFloat
    accuracy_ci: tuple[FiniteFloat, FiniteFloat] | None
    macro_f1: FiniteFloat


class _Answer(BaseModel):
    label: str | None


class ScoredMetrics(BaseModel):
    """What a comparison takes from metrics.json."""

    run: _Facts
    head: bool
    labels: Annotated[list[str], Field(min_length=2)]
    counts: dict[str, Any] = {}
    test: _Looks
    readings: dict[str, _Scores]
    primary_metric: PrimaryMetric = "macro_f1"
    margin: FiniteFloat = 0.01

    @property
    def train_rows(self) -> int | None:
        """The rows that the model was tuned on."""
        total = self.counts.get("train", {}).get("total")
        return total if isinstance(total, int) else None


class ScoredRow(BaseModel):
    """What a comparison takes from a line of rows.jsonl: the row, its label, and what each reading said."""

    id: RowId
    gold: str
    readings: dict[str, _Answer]


@dataclass(frozen=True)
class ScoredRun:
    """A run that has been scored: its letter in the tables, its name, its metrics.json and its rows.jsonl."""

    letter: str
    name: str
    metrics: ScoredMetrics
    rows: Sequence[ScoredRow]

    @property
    def readings(self) -> list[str]:
        """The readings of all rows."""
        return [name for name, one in self.metrics.readings.items() if one.n == len(self.rows)]

    def predicted(self, reading: str) -> list[str | None]:
        """The label that `reading` gave each row; None for unparsed."""
        return [row.readings[reading].label for row in self.rows]


@dataclass(frozen=True)
class RecipePair:
    """Two recipes by one reading: the letters of their runs, what each reaches, and the second against the first, with
    a two-sided p."""

    names: str
    reading: str
    reached: tuple[Estimate, Estimate]
    difference: Estimate
    p: float
    code: Outcome


@dataclass(frozen=True)
class RunPair:
    """Two runs by one reading: the letters of the runs, and the second against the first."""

    names: str
    reading: str
    comparison: Comparison


def compare_runs(folders: Sequence[Path]) -> str:
    """The comparison as Markdown: who the runs are, every reading of each, and each pair of recipes, or of runs, on the
    same rows. A folder of several seeds stands for its runs.

    Raises `UserError` for a run that was not scored yet, and for runs with other labels or test rows than the first.
    """
    runs = []
    for place, folder in enumerate(one for given in folders for one in (runs_of_list(given) or [given])):
        for name in ("metrics.json", "rows.jsonl"):
            if not (folder / name).is_file():
                raise UserError(f"{shown(folder)} has no {name}: run python -m eval.report {shown(folder)} first")
        again = f"run python -m eval.report {shown(folder)} again"
        metrics = read(folder / "metrics.json", ScoredMetrics, again)
        rows = read_lines(folder / "rows.jsonl", ScoredRow, again)
        counts = Counter(name for row in rows for name in row.readings)
        fits = counts == {name: one.n for name, one in metrics.readings.items()}
        if not fits or not all(_in_labels(row, metrics.labels) for row in rows):
            raise UserError(f"{shown(folder / 'rows.jsonl')} is not of its metrics.json: {again}")
        runs.append(ScoredRun(letter(place), shown(folder), metrics, rows))
        check_comparable(runs[0], runs[-1])
    groups = recipes(runs)
    by_recipe = len(groups) > 1 and min(map(len, groups)) > 1
    found = list(_recipe_pairs(groups)) if by_recipe else []
    paired = [] if by_recipe else list(_paired(runs))
    p = [pair.p for pair in found] or [pair.comparison.p for pair in paired]
    codes = corrected_codes([pair.code for pair in found] or [pair.comparison.code for pair in paired], p)
    return render(
        "compare.md.j2",
        n=len(runs[0].rows),
        runs=runs,
        names=[name for name in LADDER if any(name in run.metrics.readings for run in runs)],
        metric=METRICS[runs[0].metrics.primary_metric],
        recipes=list(zip(found, holm(p), codes, strict=True)) if found else [],
        one_recipe=len(groups) == 1,
        paired=list(zip(paired, holm(p), codes, strict=True)) if paired else [],
        outcomes=OUTCOMES,
        none_text=NONE,
    )


def _in_labels(row: ScoredRow, labels: Sequence[str]) -> bool:
    """Whether the row's gold label is one of `labels`, and so is whatever label an answer was read as."""
    return row.gold in labels and all(one.label is None or one.label in labels for one in row.readings.values())


def check_comparable(first: ScoredRun, other: ScoredRun) -> None:
    """Raise `UserError` unless both runs answered the same test rows with the same labels."""
    a, b = (run.metrics.test.rows_sha256 for run in (first, other))
    if a != b or [row.id for row in first.rows] != [row.id for row in other.rows]:
        raise UserError(
            f"{first.name} and {other.name} were tested on different rows ({a[:12]}… and {b[:12]}…): compare runs "
            "of one dataset with the same split and --limit"
        )
    if first.metrics.labels != other.metrics.labels:
        raise UserError(f"{first.name} and {other.name} have different labels: compare runs of one task")


def recipes(runs: Sequence[ScoredRun]) -> list[list[ScoredRun]]:
    """The runs by recipe, those of one that differ in their seeds together; a seed that is there twice counts once."""
    groups: dict[str, dict[tuple[int | None, ...], ScoredRun]] = {}
    for run in runs:
        facts = run.metrics.run
        seeds = (facts.training_seed, facts.data_seed)
        groups.setdefault(facts.recipe_sha256 or run.letter, {}).setdefault(seeds, run)
    return [list(group.values()) for group in groups.values()]


def letter(place: int) -> str:
    """A, B, … Z, then AA, AB, …: the short name of the run at `place`."""
    return (letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


def _recipe_pairs(groups: Sequence[Sequence[ScoredRun]]) -> Iterator[RecipePair]:
    """Each pair of recipes with each reading of the tuned model that all their runs have."""
    metrics = groups[0][0].metrics
    gold = [row.gold for row in groups[0][0].rows]
    for first, second in combinations(groups, 2):
        runs = [*first, *second]
        for name in LADDER:
            if not name.startswith(("after_", STACK)) or not all(name in run.readings for run in runs):
                continue
            columns = [run.predicted(name) for run in runs]
            draws = score_draws(gold, columns, metrics.labels, metrics.primary_metric)
            a, b = range(len(first)), range(len(first), len(runs))
            difference = partial(draws.difference, a, b, False)
            found = difference()
            names = " → ".join(" ".join(run.letter for run in side) for side in (first, second))
            reached, code = (draws.mean(a), draws.mean(b)), outcome(found, metrics.margin)
            yield RecipePair(names, name, reached, found, p_value_of(difference), code)


def _paired(runs: Sequence[ScoredRun]) -> Iterator[RunPair]:
    """Each pair of runs with each reading of the tuned model that both have (else of the untuned one)."""
    for first, second in combinations(runs, 2):
        common = [name for name in LADDER if all(name in run.readings for run in (first, second))]
        names = [n for n in common if n.startswith(("after_", STACK))] or [n for n in common if n.startswith("before_")]
        gold, of = [row.gold for row in first.rows], first.metrics
        for name in names:
            a, b = (run.predicted(name) for run in (first, second))
            result = compare(a, b, gold, of.labels, metric=of.primary_metric, margin=of.margin)
            yield RunPair(f"{first.letter} → {second.letter}", name, result)
