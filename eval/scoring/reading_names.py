"""What readings are called, in decisions and in reports."""

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
