"""The table cells of a comparison of two readings, the same in a report and beside other runs."""

from collections.abc import Mapping
from typing import Any

from eval.reporting.wording import CODES, number, p_value, signed, signed_interval

COMPARISON = (
    "n",
    "修正 fixed",
    "弄坏 broken",
    "McNemar p",
    "准确率之差 accuracy, points (95%)",
    "宏平均 F1 之差 macro F1, points (95%)",
    "后者 the second is",
)


def comparison_cells(found: Mapping[str, Any]) -> list[str]:
    """One comparison, as it stands in metrics.json, below the headings of `COMPARISON`."""
    return [
        number(found["n"]),
        number(found["fixed"]),
        number(found["broken"]),
        p_value(found["mcnemar_p"]),
        f"{signed(found['accuracy_difference'])} ({signed_interval(found['accuracy_ci'])})",
        f"{signed(found['macro_f1_difference'])} ({signed_interval(found['macro_f1_ci'])})",
        " ".join(CODES[found["code"]]),
    ]
