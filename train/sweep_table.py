"""The trials of a sweep as one table: mean ± standard deviation over seeds, best point first, and the chosen run."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Trial(NamedTuple):
    """One run of a sweep: validation macro F1 and accuracy of its best checkpoint, seconds, or why it failed."""

    point: str
    seed: int
    run: str
    macro_f1: float | None
    accuracy: float | None
    seconds: float
    fault: str | None


def by_point(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials that came to an end, by point, the best mean macro F1 first; equal ones in the order tried."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.macro_f1 is not None:
            groups.setdefault(trial.point, []).append(trial)
    return dict(sorted(groups.items(), key=lambda item: -fmean(trial.macro_f1 for trial in item[1])))


def chosen(trials: Sequence[Trial]) -> Trial | None:
    """The first trial of the best point: its seed was fixed before, not picked for its result."""
    groups = by_point(trials)
    return next(iter(groups.values()))[0] if groups else None


def sweep_table(trials: Sequence[Trial], planned: int) -> str:
    """The table in Markdown, and what it does not show: points that failed, were left out, or are as good."""
    groups = by_point(trials)
    lines = [
        f"# 选参 / Sweep: {len(trials)} of {planned} trials",
        "",
        "验证集上的结果，按宏平均 F1 排序；± 为各随机种子之间的标准差。测试集只在选定之后看一次。",
        "Results on the validation rows, by macro F1; ± is the standard deviation over seeds. The test rows are looked "
        "at once, for the chosen run.",
        "",
        "| point | seeds | val macro F1 | val accuracy | minutes a trial |",
        "|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        accuracies = [trial.accuracy for trial in group if trial.accuracy is not None]
        minutes = fmean(trial.seconds for trial in group) / 60
        lines.append(
            f"| {_cell(name)} | {len(group)} | {_spread([trial.macro_f1 for trial in group], 4)} | "
            f"{_spread([100 * one for one in accuracies], 1)} % | {minutes:.1f} |"
        )
    lines.append("")
    if len(groups) > 1:
        lines += _as_good(list(groups.items()))
    lines += [f"- failed: {_cell(t.point)}, seed {t.seed}: {_cell(t.fault)}" for t in trials if t.fault]
    return "\n".join(lines) + "\n"


def _as_good(groups: list[tuple[str, list[Trial]]]) -> list[str]:
    """A sentence for points within one standard deviation of the best, or on having no deviation to judge by."""
    (best, first), *others = groups
    if len(first) < 2:
        return [
            "每个组合只有一个随机种子：差别可能只是偶然。 / One seed a point: the differences may be chance "
            "(`--seeds 42 43 44`).",
            "",
        ]
    mean, spread = fmean(t.macro_f1 for t in first), stdev(t.macro_f1 for t in first)
    near = [name for name, group in others if fmean(t.macro_f1 for t in group) > mean - spread]
    if not near:
        return []
    listed = ", ".join(map(_cell, near))
    return [f"与最好者 {_cell(best)} 相差不到一个标准差 / within one standard deviation of the best: {listed}", ""]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
