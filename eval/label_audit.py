"""Rows whose label is probably wrong, ranked, as a CSV to correct by hand and feed back as the task's `corrections:`.

Run as: python -m data_prep.audit TASK|DATASET [--run RUN] [--out FILE] [--split train|val|test]

Each row gets the probability of its given label from a model that has not learned from that row: the tuned one, or
the linear model of the baselines, out of fold. cleanlab ranks by that probability, the lowest first, and names the rows
that it counts as label errors (confident learning: Northcutt, Jiang and Chuang 2021, Journal of Artificial Intelligence
Research 70, 1373-1411). Nothing is changed by itself.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.duplicates.deduplication import Normaliser, find_duplicates
from data_prep.manifest import MANIFEST, Manifest
from data_prep.table.corrections import read_corrections
from data_prep.task import SPLITS, NearDuplicates, find_task
from eval.scoring.responses import Split, SplitName, load_responses, load_split
from plan.run import Run
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.paths import DATASETS, shown
from workspace.spreadsheet import write_csv

FOLDS = 5
SEED = 42
C = 3.0  # of the linear model; not searched for: what is wanted here is an order, not an accuracy
COLUMNS = ("row", "label", "review", "given", "suggested", "p_given", "p_suggested", "issue", "judge")


def audit(what: str, run: Path | None = None, out: Path | None = None, split: SplitName = "train") -> Path:
    """Write the ranked rows of `split` whose given label is not the most probable one; return the file's path.

    `what` is a dataset's folder, or a task whose dataset is in its usual place. Probabilities are those that `run`
    saved for the split, where it has them, else the linear model's; the column `judge` says which (tuned or linear).
    Raises UserError for what the user can fix.
    """
    dataset = _dataset(what)
    labels = Manifest.read(dataset).labels
    rows = load_split(dataset, split, labels)
    if not len(rows):
        raise UserError(f"{shown(rows.path)} has no rows: there is nothing to audit")
    out = Path(out) if out else dataset / f"audit-{split}.csv"
    if out.exists() and read_corrections(out):  # which also raises for a file of another kind
        raise UserError(f"{shown(out)} holds labels that were filled in: move it away, or choose another --out")
    answers = Run.read(Path(run)).folder / "after" / rows.path.name if run else None
    saved = load_responses(answers, rows, labels, texts=False) if answers else None
    probabilities = saved.probabilities if saved else None
    judge = "linear" if probabilities is None else "tuned"
    if probabilities is None:
        if run:
            print(f"audit: {shown(Path(run))} saved no scores of {split} rows: the TF-IDF model is used", flush=True)
        train = None if split == "train" else load_split(dataset, "train", labels)
        probabilities = linear_probabilities(rows, labels, train)
    elif split == "train":
        print("audit: the tuned model has learned from these rows: it may agree with labels that are wrong", flush=True)
    order, issues = rank_rows(rows.codes(labels), probabilities)
    lines: list[Sequence[str]] = [[*COLUMNS, *(["source_id"] if rows.source_ids else [])]]
    for at in order.tolist():
        given, best = labels.index(rows.gold[at]), int(probabilities[at].argmax())
        chances = (f"{probabilities[at, code]:.4f}" for code in (given, best))
        texts = (rows.reviews[at], labels[given], labels[best])
        own = [rows.source_ids[at] or ""] if rows.source_ids else []
        lines.append([rows.ids[at], "", *texts, *chances, "probable" if issues[at] else "possible", judge, *own])
    write_csv(out, lines)
    print(f"audit: {len(order):,} of {len(rows):,} {split} rows look like another label, {issues.sum():,} probably")
    print(f"audit: written to {shown(out)}: fill in `label` where it is wrong, then name the file in `corrections:`")
    if split != "train":
        print(f"audit: labels of {split} rows change only with `corrections_test: true`, which makes it another test")
    if split == "test":
        print("audit: `python -m eval.report RUN` now shows the metrics with and without the probable ones")
    return out


def linear_probabilities(rows: Split, labels: Sequence[str], train: Split | None = None) -> NDArray[np.float64]:
    """Label probabilities (n, labels): out of fold (5 folds, stratified, copies of a text in one, seed 42), or from a
    model of the rows `train`.

    Raises UserError when a label has fewer learning rows, copies aside, than there are folds.
    """
    # Here, because they take seconds to load.
    from sklearn.model_selection import StratifiedGroupKFold

    from eval.baselines import fit_linear

    learned = train or rows
    # A copy of a row in another fold would have taught the model this row's label.
    copies = find_duplicates(Normaliser().normalise(learned.reviews), NearDuplicates(), SEED).near
    for word in labels:
        count = len({group for group, gold in zip(copies.tolist(), learned.gold, strict=True) if gold == word})
        if count < FOLDS:
            raise UserError(
                f"{shown(learned.path)} has {count} rows of {word} that are no copies, expected at least {FOLDS}: add "
                "some"
            )
    if train is not None:
        return fit_linear(train, None, labels, C).probabilities(rows.reviews)
    result = np.zeros((len(rows), len(labels)))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for inner, outer in folds.split(rows.reviews, rows.gold, copies):
        result[outer] = fit_linear(rows.take(inner), None, labels, C).probabilities(rows.take(outer).reviews)
    return result


def rank_rows(given: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[np.ndarray, np.ndarray]:
    """(order, issues): the rows of which another label is more probable than the given one, most doubtful first; and
    for each of all rows whether cleanlab counts it as a label error (bool). `given` (n,), `probabilities` (n, labels).

    The order is cleanlab's self-confidence, p(given label); equal ones keep the order of the rows.
    """
    # Here, because it takes a second to load.
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_self_confidence_for_each_label

    quality = get_self_confidence_for_each_label(given, probabilities)
    doubtful = probabilities.max(axis=1) > probabilities[np.arange(len(given)), given]
    order = np.argsort(quality, kind="stable")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "may not flag all in a small class": the order is not touched
        issues = find_label_issues(given, probabilities, n_jobs=1)
    return order[doubtful[order]], issues


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = Parser("python -m data_prep.audit", __doc__)
    parser.add_argument("what", metavar="TASK|DATASET", help="a task, or the folder of a dataset")
    parser.add_argument(
        "--run", type=given_path, metavar="RUN", help="a run's folder: its saved scores of the split are used"
    )
    parser.add_argument("--out", type=given_path, metavar="FILE", help="default: audit-SPLIT.csv in the dataset")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    audit(**vars(parser.parse_args(argv)))


def _dataset(what: str) -> Path:
    if (Path(what) / MANIFEST).is_file():
        return Path(what)
    folder = DATASETS / find_task(what).name
    if not (folder / MANIFEST).is_file():
        raise UserError(f"there is no dataset in {shown(folder)}: build it with `python -m data_prep.build {what}`")
    return folder


if __name__ == "__main__":
    run_main(main)
