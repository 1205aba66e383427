"""The table of a sweep in Markdown: the points tuned on all rows by their mark, those left out, and what failed."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import fmean, stdev

from train.trials import METRIC, TrialResult


def by_point(results: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    """The trials with all rows that came to an end, by point, the best mean macro F1 first; equal ones as tried.

    A mean over other seeds is no fair rival: a point that failed with a seed is left out where another did not, and of
    the seeds those count that all the others have, where there is one.
    """
    failed = {one.trial.name for one in results if one.fault}
    groups = _groups([one for one in results if one.trial.name not in failed]) or _groups(results)
    shared = set.intersection(*map(_seeds, groups.values())) if groups else set()
    if shared:
        groups = {name: [one for one in group if one.trial.seed in shared] for name, group in groups.items()}
    return dict(sorted(groups.items(), key=lambda item: -fmean(_values(item[1]))))


def sweep_table(results: Sequence[TrialResult], planned: int | None, pruned: Sequence[TrialResult] = ()) -> str:
    """The table in Markdown, and what it does not show: points that failed, were left out, or are as good.

    `planned`: how many trials there will be; None while points are tried on part of the rows, after which some are
    `pruned`.
    """
    groups = by_point(results)
    count = f"{len(results)} of {planned} trials" if planned else f"{len(results)} trials so far, on part of the rows"
    lines = [
        f"# 选参 / Sweep: {count}",
        "",
        "验证集上的结果，按宏平均 F1 排序；± 为各随机种子之间的标准差。每次取最好的一轮，轮数多的机会也多，会因此略高。"
        "测试集只在选定之后看一次。",
        "Results on the validation rows, by macro F1; ± is the standard deviation over seeds. A trial's figure is its "
        "best epoch's: the best of five is a little higher by chance than the best of two. The test rows are looked at "
        "once, for the chosen run.",
        "",
        "| point | seeds | val macro F1, best epoch's | val accuracy | minutes a trial |",
        "|---|---|---|---|---|",
    ]
    unranked = {name: group for name, group in _groups(results).items() if name not in groups}
    for name, group in (groups | unranked).items():
        accuracies = [100 * value for value in _values(group, "label_accuracy")]
        named = f"{_cell(name)}（未排名 / not ranked）" if name in unranked else _cell(name)
        cells = [named, str(len(group)), _spread(_values(group), 4), f"{_spread(accuracies, 1)} %"]
        lines.append(f"| {' | '.join(cells)} | {fmean(result.seconds for result in group) / 60:.1f} |")
    lines.append("")
    if len(groups) > 1:
        lines += _as_good(list(groups.items()))
    lines += _unequal(results, groups, list(unranked))
    if pruned:
        lines += [
            "用部分训练行试过之后淘汰，从未用全部训练行调优。 / Left out after a try on part of the training rows with "
            "the first seed, never tuned on all of them.",
            "",
            "| point | training rows | val macro F1 |",
            "|---|---|---|",
            *(f"| {_cell(one.trial.name)} | {one.trial.rows:,} | {one.scores[METRIC]:.4f} |" for one in pruned),
            "",
        ]
    lines += [
        f"- failed: {_cell(one.trial.name)}, seed {one.trial.seed}: {_cell(one.fault)}" for one in results if one.fault
    ]
    return "\n".join(lines) + "\n"


def _groups(results: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    """The trials with all rows that came to an end, by point, as tried."""
    groups: dict[str, list[TrialResult]] = {}
    for one in results:
        if one.trial.rows is None and METRIC in one.scores:
            groups.setdefault(one.trial.name, []).append(one)
    return groups


def _seeds(results: Iterable[TrialResult]) -> set[int]:
    return {one.trial.seed for one in results}


def _unequal(
    results: Sequence[TrialResult], ranked: Mapping[str, Sequence[TrialResult]], unranked: Sequence[str]
) -> list[str]:
    """Sentences on seeds that do not count, on points that lack some, and on points that have none in common."""
    lines = []
    if unranked:
        listed = ", ".join(map(_cell, unranked))
        lines.append(f"未排名，因有种子失败 / not ranked, for a seed of theirs failed: {listed}")
    every = _seeds(chain(*_groups([one for one in results if one.trial.name in ranked]).values()))
    if apart := sorted(every - _seeds(chain(*ranked.values()))):
        listed = ", ".join(map(str, apart))
        lines.append(f"种子 {listed} 未计入：不是每个组合都有。 / Seed {listed} not counted: not every point has it.")
    if len(ranked) > 1 and len({frozenset(_seeds(group)) for group in ranked.values()}) > 1:
        lines.append("各组合没有共同的种子：名次不可靠。 / The points have no seed in common: their order says little.")
    return [part for line in lines for part in (line, "")]


def _values(results: Sequence[TrialResult], metric: str = METRIC) -> list[float]:
    return [result.scores[metric] for result in results if metric in result.scores]


def _as_good(groups: list[tuple[str, list[TrialResult]]]) -> list[str]:
    """A sentence for points within one standard deviation of the best, or on having no deviation to judge by."""
    (best, first), *others = groups
    if len(first) < 2:
        return [
            "每个组合只有一个随机种子：差别可能只是偶然。 / One seed a point: the differences may be chance "
            "(`--seeds 42 43 44`).",
            "",
        ]
    least = fmean(_values(first)) - stdev(_values(first))
    near = [name for name, group in others if fmean(_values(group)) > least]
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
