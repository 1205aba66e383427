"""Consistency checks: things that must make no difference to the answers, checked on the rows of each run.

Made from RUN/before/summary.json, RUN/after/summary.json (eval.infer) and RUN/train/label_metric.json (training).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from eval.inference.journal import HALF, tolerance
from eval.inference.summary import BatchCheck, Summary
from train.trainer_state import LabelMetric
from workspace.bilingual import Text

SIDES = {"before": "调优前", "after": "调优后"}


@dataclass(frozen=True)
class Check:
    """One check over n rows."""

    name: str
    ok: bool
    detail: Text
    n: int


def consistency_checks(run: Path, val_ids: Sequence[str]) -> list[Check]:
    """Every check whose rows are there: batch and no_assistant_turn of each side, and the rendered prompts.

    val_ids: ids of the validation rows in the file's order, in which training recorded its prompts.
    """
    summaries = {side: summary for side in SIDES if (summary := Summary.read(run / side))}
    checks = [_batch(side, one.parity) for side, one in summaries.items() if one.parity and one.parity.rows]
    for side, summary in summaries.items():
        ok, n = summary.no_assistant_turn, sum(summary.prompts.values())
        zh = f"{SIDES[side]}：{n} 个提示词中" + ("没有答案" if ok else "有的含有答案")
        en = f"{side}: {'none' if ok else 'some'} of the {n} prompts shows the model an answer"
        checks.append(Check(f"no_assistant_turn_{side}", ok, Text(zh, en), n))
    prompts = {side: summary.val_prompt_sha256 for side, summary in summaries.items()}
    if trained := LabelMetric.read(run / "train"):
        hashes = trained.val_prompt_sha256
        # A row that training dropped shifts those behind it, and the rows left over have no hash: neither can match.
        prompts["train"] = dict(zip_longest(val_ids, hashes[: len(val_ids)], fillvalue="")) if hashes else {}
    known = {place: hashes for place, hashes in prompts.items() if hashes}
    return checks + ([_same_prompts(known)] if len(known) > 1 else [])


def _batch(side: str, batch: BatchCheck) -> Check:
    n, largest = batch.rows, batch.largest_logprob_difference
    # A head writes no text: its most probable label is compared.
    same, zh, en = (
        (batch.same_label, "标签", "labels") if batch.same_text is None else (batch.same_text, "文本", "texts")
    )
    told_zh = f"{SIDES[side]}：单独提问与成批提问，{n} 条中 {same} 条{zh}相同，对数概率最多相差 {largest:.1g}"
    told_en = f"{side}: asked alone and in a batch, {same} of {n} {en} are the same, log probabilities differ by "
    told_en += f"{largest:.1g} at most"
    if batch.dtype in HALF:
        told_zh += f"（以 {batch.dtype} 计算，允许 {tolerance(batch.dtype):g}）"
        told_en += f" (computed in {batch.dtype}, which may round by {tolerance(batch.dtype):g})"
    return Check(f"batch_{side}", batch.ok, Text(told_zh, told_en), n)


def _same_prompts(places: dict[str, dict[str, str]]) -> Check:
    """Whether all places saw the same prompts: for each, the hash of a row's prompt token ids by row id."""
    ids = set.intersection(*(set(hashes) for hashes in places.values()))
    same = sum(len({hashes[key] for hashes in places.values()}) == 1 for key in ids)
    zh = "、".join({"train": "训练时", **SIDES}[place] for place in places)
    en = ", ".join({"train": "training"}.get(place, place) for place in places)
    return Check(
        "prompt",
        same == len(ids) > 0,
        Text(
            f"验证集的 {len(ids)} 条提示词（{zh}）中，{same} 条的词元完全相同",
            f"of {len(ids)} validation prompts ({en}), {same} have the same tokens",
        ),
        len(ids),
    )
