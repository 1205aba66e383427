"""What others have published for a data set that is known by name, so that a figure can be placed.

A record is shown only beside a report on that very table. Its splits are not the run's: it says what is usual, not
what is better. The mixed ChnSentiCorp of 9,600 / 1,200 / 1,200 rows is another data set and has none here.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from eval.scoring.significance import wilson
from workspace.bilingual import Text, interval, number, percent


class Published(NamedTuple):
    """Published accuracies by model, the best of each; `n` test rows of a table of `rows` rows."""

    rows: int
    n: int
    accuracies: tuple[tuple[str, float], ...]
    source: str


# By the table's name. The two files of the source are of one run each, on a random fifth of the table (seed 42) after
# cleaning; the counts follow from the figures: 0.9138 = 1,420 / 1,554 and 0.9170 = 1,425 / 1,554.
PUBLISHED = {
    "ChnSentiCorp_htl_all": Published(
        7766,
        1554,
        (("BERT-base-chinese", 1420 / 1554), ("BERT-base-chinese + BiLSTM", 1425 / 1554)),
        "github.com/zym9863/sentiment-analysis, results/evaluation_summary.md, results/ablation_study_report.md",
    )
}


def public_record(metrics: Mapping[str, Any]) -> Text | None:
    """The published figures for the run's table; None where it is no known one, by its file's name and row count."""
    name = PurePath(metrics["run"]["csv"] or "").name.split(".")[0]
    found = PUBLISHED.get(name)
    if found is None or metrics["counts"]["rows"] != found.rows:
        return None
    figures = [
        f"{model} {percent(accuracy)} ({interval(wilson(round(accuracy * found.n), found.n))})"
        for model, accuracy in found.accuracies
    ]
    n = number(found.n)
    return Text(
        f"{name} 的公开结果（准确率）：{'，'.join(figures)}，各在 {n} 条测试评论上跑一次。"
        f"划分和清洗都与这里不同，只能看大致水平，不能与上面的数字相减。来源：{found.source}。",
        f"Published for {name} (accuracy): {', '.join(figures)}, one run each on {n} test reviews. Split and cleaning "
        f"are not those of this run: they show what is usual, and no difference to the figures above means "
        f"anything. Source: {found.source}.",
    )
