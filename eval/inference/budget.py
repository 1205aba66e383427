"""How many test rows are worth asking in more than one way, where that would cost more than `SHARE` of a run.

All test rows are scored by the tuned model and by the baselines, which decides what to use. What the untuned model
says, with and without examples and in other prompts, and the texts that both models generate, show what tuning has
changed: for that a fixed part of the test rows does where all would cost too much.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.rows import DatasetRow
from data_prep.splits.splitting import stratified_order
from eval.inference.prompts import VARIANTS
from plan.run import Run

SHARE = 0.25  # of the run's forward passes
BACKWARD = 2  # forward passes that a backward pass costs (Kaplan et al. 2020)
TEXT_COST = 1  # passes that generating a text costs at least; before tuning twice as many: it ends later
SHOTS_COST = 2  # passes over a row that one with examples costs: read once, they are attended to by each row
ROW_COST = (1 + 2 * TEXT_COST) + SHOTS_COST + TEXT_COST  # before tuning, with examples, the text after
VARIANTS_COST = sum(SHOTS_COST if name.startswith("few_shot") else 1 for name in VARIANTS)
FEWEST_ASKED = 50  # rows: fewer show no difference that matters
FEWEST = 20  # rows asked in every variant: fewer show no spread


class Budget(NamedTuple):
    """Test rows: `asked` of the untuned model and in text, `variants` of them in other prompts and examples, too."""

    asked: int
    variants: int


def budget(epochs: float, train: int, val: int, test: int, labels: int = 2) -> Budget:
    """What a run over so many rows can afford, in passes over a row: training costs 1 + `BACKWARD` a row and epoch,
    validation and test rows one each. Every label's rows are asked, however many labels there are."""
    left = SHARE * ((1 + BACKWARD) * epochs * train + val + test)
    reserved = FEWEST * VARIANTS_COST if left >= 2 * FEWEST * VARIANTS_COST and test >= FEWEST else 0
    asked = min(test, max(FEWEST_ASKED, 2 * labels, int((left - reserved) / ROW_COST)))
    variants = min(asked, int(max(reserved, left - ROW_COST * asked) / VARIANTS_COST))
    return Budget(asked, variants if variants >= FEWEST else 0)


def budget_of(run: Run, train: int, val: int, test: int) -> Budget:
    """The budget of a planned run whose dataset has so many rows."""
    epochs = float(run.sft_values().get("num_train_epochs", 1)) if (run.folder / "sft.yaml").is_file() else 1.0
    return budget(epochs, train, val, test, len(run.labels))


def part_of(rows: Sequence[DatasetRow], count: int) -> frozenset[str]:
    """The ids of `count` of the rows, by a hash of the id and with the classes in about their shares: the same whatever
    the seed of training, and of a larger part the first ones."""
    draws = [int(hashlib.sha256(row.id.encode()).hexdigest()[:13], 16) for row in rows]
    order = stratified_order(np.array([row.label for row in rows], dtype=object), np.array(draws, dtype=float))
    return frozenset(rows[at].id for at in order[:count])
