"""Whether there are rows enough to measure with: warnings of small test splits."""

from data_prep.label_words import shortened
from data_prep.manifest import Counts, Duplicates
from data_prep.splits.own_split import LISTED
from data_prep.task import Task

TEST_ROWS = 100  # below that a 95 % interval of an accuracy of 0.8 is 16 points wide or more
CLASS_ROWS = 20


def few_rows(counts: Counts, task: Task, duplicates: Duplicates) -> list[str]:
    """A sentence where there are fewer test rows than TEST_ROWS, and one for classes with fewer than CLASS_ROWS."""
    test, warnings = counts.test, list[str]()
    if task.split.folds:  # each tests a part, all of them every row
        return []
    if test["total"] < TEST_ROWS:
        warnings.append(
            f"{test['total']} test rows, fewer than {TEST_ROWS}: accuracies are known to "
            f"{100 * 1.96 * (0.16 / test['total']) ** 0.5:.0f} points more or less; "
            f"{'add rows' if counts.not_used['total'] == 0 else 'raise the limit'}, or measure with --cv 5"
        )
    few = [word for word in task.label_words if test[word] < CLASS_ROWS]
    if few:
        listed = shortened([f"{word} ({test[word]})" for word in sorted(few, key=test.__getitem__)], LISTED)
        copies = " that are no near copies of those there" if duplicates.near.rows > counts.rows / 2 else ""
        warnings.append(f"fewer than {CLASS_ROWS} test rows of {listed}: add rows{copies} to measure them by")
    return warnings
