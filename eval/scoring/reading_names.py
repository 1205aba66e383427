"""What readings are called, in decisions and in reports."""

from collections.abc import Container

from workspace.bilingual import Text

READINGS = {
    "majority": Text("多数类", "majority class"),
    "tfidf_linear": Text("TF-IDF + 线性模型", "TF-IDF + linear model"),
    "embedding_linear": Text("未调优模型的嵌入 + 线性模型", "untuned embedding + linear model"),
    "encoder": Text("微调的编码器", "fine-tuned encoder"),
    "before_generate": Text("调优前 · 生成", "before · generate"),
    "before_score": Text("调优前 · 打分", "before · score"),
    "before_score_calibrated": Text("调优前 · 打分（去偏）", "before · score, calibrated"),
    "before_score_threshold": Text("调优前 · 打分+阈值", "before · score + threshold"),
    "before_few_shot": Text("调优前 · 少样本", "before · few-shot"),
    "after_generate": Text("调优后 · 生成", "after · generate"),
    "after_score": Text("调优后 · 打分", "after · score"),
    "after_score_threshold": Text("调优后 · 打分+阈值", "after · score + threshold"),
    "stack": Text("调优后 + 线性模型", "after + linear model"),
}


def primary_pair(names: Container[str]) -> tuple[str, str] | None:
    """The readings before and after that the verdict rests on: generate where both have it, else score, else None.

    By score the untuned model is credited with its calibrated reading, where that is there.
    """
    pairs = (("before_generate", "after_generate"), ("before_score_calibrated", "after_score"))
    found = (pair for pair in (*pairs, ("before_score", "after_score")) if pair[0] in names and pair[1] in names)
    return next(found, None)


def primary(names: Container[str]) -> str | None:
    """The tuned model's primary reading, else the untuned one's; None when only baselines answered."""
    pair = primary_pair(names)
    order = ("after_generate", "after_score", "before_generate", "before_score")
    return pair[1] if pair else next((name for name in order if name in names), None)


def shown_reading(names: Container[str], stage: str) -> str | None:
    """The reading by which the model `before` or `after` is shown in detail: the verdict's; without one, generate, else
    score."""
    if pair := primary_pair(names):
        return pair[stage == "after"]
    return next((name for name in (f"{stage}_generate", f"{stage}_score") if name in names), None)
