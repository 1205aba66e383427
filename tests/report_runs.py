"""Made-up finished runs for the tests of the report: a metrics.json and a rows.jsonl that obey the schema.

The figures follow from made-up answers by scikit-learn and statsmodels, so that tables, pictures and rows agree.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from data_prep.chat.injection import FAMILIES, PLACES
from workspace.files import write_json, write_jsonl

BINARY = ("正面", "负面")
TEN = ("书籍", "平板", "手机", "水果", "洗发水", "热水器", "蒙牛", "衣服", "计算机", "酒店")
MANY = tuple(f"{word} {at}" for at in range(50) for word in ("转账未到账", "card payment fee charged", "退款", "其他"))
HOSTILE = (
    "<script>window.hacked = 1</script> 房间不错",
    '</td><img src="x" onerror="window.hacked = 2"> 服务差',
    "</script><script>window.hacked = 3</script> <!-- <script> 早餐",
    "行一\u2028行二\u2029行三 房间",
    "| 竖线 | `反引号` **粗** [链接](javascript:alert(1)) $x^2$ &lt;b&gt;\n# 标题\n\n---",
    "\u202e反向文字 http://example.com www.example.com @someone",
)
# reading -> (kind, accuracy to aim at, share unparsed)
LADDER = {
    "majority": ("baseline", None, 0.0),
    "tfidf_linear": ("baseline", 0.89, 0.0),
    "before_generate": ("generate", 0.58, 0.12),
    "before_score": ("score", 0.66, 0.0),
    "before_score_calibrated": ("score_calibrated", 0.69, 0.0),
    "before_score_threshold": ("score_threshold", 0.71, 0.0),
    "before_few_shot": ("few_shot", 0.62, 0.05),
    "after_generate": ("generate", 0.905, 0.002),
    "after_score": ("score", 0.907, 0.0),
    "after_score_threshold": ("score_threshold", 0.91, 0.0),
    "stack": ("stack", 0.92, 0.0),
}
WORDS = (
    "房间",
    "干净",
    "服务",
    "态度",
    "很好",
    "早餐",
    "一般",
    "前台",
    "位置",
    "方便",
    "空调",
    "噪音",
    "太大",
    "价格",
    "实惠",
    "下次",
    "还会",
    "再来",
    "失望",
    "隔音",
    "差",
    "热情",
)


def make_run(
    folder: Path,
    labels: Sequence[str] = BINARY,
    n: int = 400,
    seed: int = 0,
    *,
    improved: bool = True,
    curves: bool = True,
    probabilities: bool = True,
    readings: Sequence[str] = tuple(LADDER),
    hostile: bool = True,
    head: bool = False,
    rows_sha256: str = "ab" * 32,
    recipe_sha256: str = "12" * 32,
    soup_of: int | None = None,
) -> dict[str, Any]:
    """Write RUN/metrics.json and RUN/rows.jsonl into `folder`; the metrics are returned as well."""
    rng = random.Random(seed)
    gold_rng = random.Random(7)  # the same test rows whatever the seed
    gold = [labels[min(int(gold_rng.expovariate(2 / len(labels))), len(labels) - 1)] for _ in range(n)]
    answers = {name: _answers(rng, gold, labels, *LADDER[name], improved=improved) for name in readings}
    confidence = {
        name: [rng.betavariate(8, 1.5) for _ in gold] for name in readings if "score" in name or name == "tfidf_linear"
    }
    rows = []
    for i, label in enumerate(gold):
        text = "，".join(gold_rng.choices(WORDS, k=gold_rng.randint(2, 40))) + "。"
        told = {
            name: {
                "label": given[i],
                "answer": None if "score" in name or "maj" in name or "tfidf" in name else _told(given[i]),
                "p": round(confidence[name][i], 4) if name in confidence and probabilities else None,
                "correct": given[i] == label,
            }
            for name, given in answers.items()
        }
        pair = tuple(told.get(f"{when}_generate", {}).get("correct") for when in ("before", "after"))
        status = {(False, True): "fixed", (True, False): "broken", (True, True): "right", (False, False): "wrong"}
        rows.append(
            {
                "id": str(i + 1),
                "review": HOSTILE[i] if hostile and i < len(HOSTILE) else text,
                "gold": label,
                "cut": i % 23 == 0,
                "readings": told,
                "status": status.get(pair),
            }
        )
    metrics = {
        "schema_version": 2,
        "run": {
            "task": "hotel_reviews",
            "recipe": "hotel_reviews/qwen1.5-0.5b-chat",
            "model": "Qwen/Qwen1.5-0.5B-Chat",
            "csv": "data/ChnSentiCorp_htl_all.csv",
            "limit": None,
            "seed": 42,
            "training_seed": seed if soup_of is None else soup_of,
            "soup": False,
            "data_seed": seed,
            "recipe_sha256": recipe_sha256,
            "machine": "2 CPU cores, 23 GiB memory, no GPU",
            "versions": {"ms_swift": "4.6.0", "torch": "2.13.0", "python": "3.11.7"},
            "git": "0123abc",
            "started": "2030-01-02 03:04:05",
            "seconds": {"before": 95.0, "train": 3725.0, "after": 88.2},
        },
        "notice": None,
        "head": head,
        "primary_metric": "macro_f1",
        "margin": 0.01,
        "labels": list(labels),
        "counts": {"rows": n * 10 + 1, "train": {"total": n * 8}, "val": {"total": n}, "test": {"total": n}},
        "test": {"rows_sha256": rows_sha256, "n": n, "asked": n, "looks": 5, "looks_this_task": 3},
        "readings": {
            name: _reading(gold, answers[name], labels, name, confidence.get(name) if probabilities else None)
            for name in readings
        },
        "stack": {
            "weights": {"after_score": 0.9, "tfidf_linear": 0.6},
            "biases": None,
            "rows": n,
            "validation": {"after_score": 0.9, "tfidf_linear": 0.88, "stack": 0.91},
            "helps": True,
        }
        if "stack" in readings
        else None,
        "parity": [
            {
                "name": "batch",
                "ok": True,
                "detail": {"zh": "批大小 1 与 8 的回答相同", "en": "batch 1 and 8 agree"},
                "n": 8,
            },
            {
                "name": "prompt",
                "ok": not improved or True,
                "detail": {"zh": "提示词哈希一致", "en": "same prompt"},
                "n": 8,
            },
        ],
        "curves": _curves(improved) if curves else None,
    }
    metrics["comparisons"] = _comparisons(gold, answers)
    metrics["verdict"] = _verdict(metrics["comparisons"], n)
    advised = {"advised": None, "code": "none", "weighed": None}
    metrics["decision"] = advised | {"zh": "不要采用这里的任何一种做法。", "en": "Use none of these."}
    metrics["gain"] = _gain(metrics["readings"])
    metrics["slices"] = _slices(rows, labels)
    metrics["mistakes"], metrics["learning_curve"] = _mistakes(rows), None
    metrics["injection"] = _injection(labels)
    metrics["disputed"] = {"n": 7, "judge": "linear"}
    scored = probabilities and "after_score" in readings
    metrics["selective"], metrics["costs"] = (_selective(n), _costs(n)) if scored else (None, None)
    metrics["prevalence"] = _prevalence(metrics)
    metrics["ceiling"] = {"n": n, "disputed": 7, "accuracy": 1 - 7 / n, "accuracy_ci": [0.9, 0.99], "judge": "linear"}
    write_json(folder / "metrics.json", metrics)
    write_jsonl(folder / "rows.jsonl", rows)
    return metrics


def _mistakes(rows) -> list[dict[str, Any]]:
    """The surest errors, the first of them next to a hostile text."""
    told = [(row, row["readings"]["after_score"]) for row in rows if "after_score" in row["readings"]]
    wrong = [(row, one) for row, one in told if not one["correct"] and one["label"] and one["p"] is not None]
    wrong.sort(key=lambda pair: -pair[1]["p"])
    near = [
        {"id": "9001", "label": rows[0]["gold"], "similarity": 0.83, "review": HOSTILE[0]},
        {"id": "9002", "label": rows[0]["gold"], "similarity": 0.41, "review": "房间很干净，服务也好，" * 9},
    ]
    return [
        {"id": row["id"], "gold": row["gold"], "label": one["label"], "p": one["p"], "nearest": near}
        for row, one in wrong[:10]
    ]


def _injection(labels: Sequence[str]) -> dict[str, Any]:
    rates = {"rows": 150, "n": 3600, "obeyed": 0.31, "control": 0.1, "excess": 0.21, "excess_ci": [0.18, 0.25]}
    found = rates | {"moved": 0.02}
    of_all = {"trained": False, "excess_ci_of_all": [0.15, 0.27]}
    way = {
        "average": found,
        "worst": "combined",
        "families": {name: found | of_all for name in FAMILIES},
        "classes": dict.fromkeys(labels, found),
        "places": dict.fromkeys(PLACES, found),
        "triggers": rates | {"moved": None},
    }
    pairs = [{"a": one, "b": "after", "rows": 150} for one in ("tfidf_linear", "before")]
    differences = [pair | {"difference": 0.02, "difference_ci": [-0.01, 0.05]} for pair in pairs]
    ways = dict.fromkeys(("tfidf_linear", "before", "after"), way)
    return {"rows": 150, "mixed": None, "ways": ways, "differences": differences}


def _told(label: str | None) -> str:
    return "这条评论 <b>说不清</b> | 也许" if label is None else label


def _answers(rng, gold, labels, kind, accuracy, unparsed, *, improved) -> list[str | None]:
    if accuracy is None:
        return [max(labels, key=gold.count)] * len(gold)
    if not improved and accuracy > 0.9:
        accuracy, unparsed = 0.57, 0.1
    given: list[str | None] = []
    for label in gold:
        if rng.random() < accuracy:
            given.append(label)
        elif rng.random() < unparsed / (1 - accuracy):
            given.append(None)
        else:
            given.append(rng.choice([other for other in labels if other != label]))
    return given


def _reading(gold, given, labels, name, confidence) -> dict[str, Any]:
    n, told = len(gold), [label if label is not None else "unparsed" for label in given]
    correct, columns = sum(a == b for a, b in zip(gold, told, strict=True)), [*labels, "unparsed"]
    p, r, f, s = sk.precision_recall_fscore_support(gold, told, labels=list(labels), zero_division=0)
    model = name.startswith(("before", "after"))
    return {
        "kind": LADDER[name][0],
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "accuracy_ci": list(proportion_confint(correct, n, method="wilson")),
        "macro_f1": float(f.mean()),
        "balanced_accuracy": float(r.mean()),
        "mcc": float(sk.matthews_corrcoef(gold, told)),
        "intervals": _intervals(r, f, sk.matthews_corrcoef(gold, told)) if min(filter(None, s)) >= 20 else None,
        "per_class": {
            label: {
                "precision": float(p[k]),
                "recall": float(r[k]),
                "f1": float(f[k]),
                "support": int(s[k]),
                "predicted": told.count(label),
            }
            for k, label in enumerate(labels)
        },
        "confusion": {
            "columns": columns,
            "counts": [
                [sum(g == row and t == col for g, t in zip(gold, told, strict=True)) for col in columns]
                for row in labels
            ],
        },
        "unparsed": told.count("unparsed"),
        "unparsed_rate": told.count("unparsed") / n,
        "only_answer": {"label": given[0], "n": n} if name == "majority" else None,
        "label_mass": {"before_score": 0.017, "after_score": 0.999}.get(name),
        "strict": correct // 2 if "generate" in name else None,
        "strict_rate": correct // 2 / n if "generate" in name else None,
        "threshold": 0.43 if "threshold" in name else None,
        "parameters": 463_987_712 if model else 96_124 if name == "tfidf_linear" else 0,
        "trained_parameters": 3_784_704 if name.startswith("after") else None,
        "train_seconds": 3725.0 if name.startswith("after") else 1.3 if name == "tfidf_linear" else None,
        "ms_per_review": 61.7 if model else 0.051,
        "calibration": _calibration(labels) if confidence and name in ("after_score", "tfidf_linear") else None,
        "probabilities": _probabilities(gold, given, confidence) if confidence and "threshold" not in name else None,
    }


def _calibration(labels) -> dict[str, Any]:
    before = {"log_loss": 0.31, "brier": 0.09, "ece": 0.082, "ece_ci": [0.05, 0.11], "ece_bins": 5}
    return {"temperature": 1.31, "biases": dict.fromkeys(labels, 0.0) if len(labels) == 2 else None, "before": before}


def _intervals(recall, f1, mcc) -> dict[str, list[float]]:
    """Some interval around each metric."""
    values = {
        "macro_f1": f1.mean(),
        "balanced_accuracy": recall.mean(),
        "accuracy": recall.mean(),
        "mcc": mcc,
    }
    return {name: [max(-1.0, float(value) - 0.04), min(1.0, float(value) + 0.04)] for name, value in values.items()}


def _probabilities(gold, given, confidence) -> dict[str, Any]:
    p = np.array(confidence)
    right = np.array([a == b for a, b in zip(gold, given, strict=True)])
    bins = []
    for inside in np.array_split(np.argsort(p), 5):
        bounds = list(proportion_confint(right[inside].sum(), len(inside), method="wilson"))
        bins.append(
            {
                "low": float(p[inside].min()),
                "high": float(p[inside].max()),
                "n": len(inside),
                "confidence": float(p[inside].mean()),
                "accuracy": float(right[inside].mean()),
                "accuracy_ci": bounds,
            }
        )
    curve = [
        {
            "threshold": float(t),
            "coverage": float((p >= t).mean()),
            "accuracy": float(right[p >= t].mean()),
            "n": int((p >= t).sum()),
        }
        for t in np.quantile(p, np.linspace(0, 0.98, 60))
    ]
    ece = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(gold)
    scores = {
        "roc_auc": 0.951,
        "roc_auc_ci": [0.93, 0.97],
        "log_loss": 0.27,
        "brier": 0.081,
        "ece": ece,
        "ece_ci": [0.0, ece + 0.05],
        "ece_bins": 5,
    }
    return {**scores, "reliability": bins, "risk_coverage": curve}


def _comparisons(gold, answers) -> list[dict[str, Any]]:
    pairs = [("before_generate", "after_generate"), ("before_score", "after_score")]
    pairs += [("majority", "after_generate"), ("tfidf_linear", "after_generate")]
    made = []
    for a, b in pairs:
        if a not in answers or b not in answers:
            continue
        right = [np.array([x == y for x, y in zip(gold, answers[k], strict=True)]) for k in (a, b)]
        fixed, broken = int((~right[0] & right[1]).sum()), int((right[0] & ~right[1]).sum())
        difference = (fixed - broken) / len(gold)
        spread = 1.96 * np.sqrt((fixed + broken) / len(gold) ** 2)
        p = float(mcnemar([[0, fixed], [broken, 0]], exact=True).pvalue)
        bounds = [float(difference - spread), float(difference + spread)]
        code = "undecided" if p >= 0.05 else "better" if difference > 0 else "worse"
        made.append(
            {
                "a": a,
                "b": b,
                "n": len(gold),
                "fixed": fixed,
                "broken": broken,
                "mcnemar_p": p,
                "accuracy_difference": difference,
                "accuracy_ci": bounds,
                "macro_f1_difference": difference * 0.95,
                "macro_f1_ci": bounds,
                "metric": "macro_f1",
                "difference": difference * 0.95,
                "ci": bounds,
                "randomisation_p": None,
                "detectable": 0.05,
                "rows_needed": 2 * len(gold),
                "code": code,
            }
        )
    return made


def _verdict(comparisons, n) -> dict[str, Any]:
    by_pair = {(c["a"], c["b"]): c for c in comparisons}
    main, base = by_pair.get(("before_generate", "after_generate")), by_pair.get(("tfidf_linear", "after_generate"))
    words = {"better": "高于", "worse": "低于", "equivalent": "相当于", "undecided": "未定于"}
    code = main["code"] if main else "undecided"
    verdict = {
        "code": code,
        "zh": f"调优后的准确率{words[code]}调优前（n = {n}）。",
        "en": f"Accuracy after tuning is {code} than before, or so (n = {n}).",
        "baseline": None,
    }
    if base:
        verdict["baseline"] = {
            "code": base["code"],
            "zh": f"与 TF-IDF + 线性模型相比：{words[base['code']]}（n = {n}）。",
            "en": f"Against TF-IDF + linear: {base['code']} (n = {n}).",
        }
    return verdict


def _gain(readings) -> dict[str, Any] | None:
    names = ("before_generate", "before_score", "before_score_threshold")
    needed = (*names, *(name.replace("before", "after") for name in names))
    if any(name not in readings for name in needed):
        return None
    metrics = {}
    for metric in ("macro_f1", "accuracy"):
        wrote, scored, fair, writes, scores, fair_after = (readings[name][metric] for name in needed)
        parts = {
            "total": writes - wrote,
            "guessing": 0.0,
            "form": scored - wrote,
            "bias": (fair - scored) - (fair_after - scores),
            "discrimination": fair_after - fair,
            "remainder": writes - scores,
        }
        metrics[metric] = {key: {"difference": d, "ci": [d - 0.04, d + 0.04]} for key, d in parts.items()}
    untuned = {"balanced_accuracy": 0.7, "interval": [0.65, 0.75], "expected": 0.5}
    return {"metrics": metrics, "untuned_scores": untuned, "judgement": "better"}


def _slices(rows, labels) -> list[dict[str, Any]]:
    made = []
    groups = [("label", label, lambda r, label=label: r["gold"] == label) for label in labels]
    for low, high in ((0, 49), (50, 99), (100, 10_000)):
        groups.append(("length", f"{low}–{high}", lambda r, a=low, b=high: a <= len(r["review"]) <= b))
    groups.append(("disputed", "undisputed", lambda r: int(r["id"]) % 9 > 0))
    groups.append(("disputed", "disputed", lambda r: int(r["id"]) % 9 == 0))
    groups += [("cut", "cut" if cut else "whole", lambda r, cut=cut: r["cut"] is cut) for cut in (False, True)]
    for reading in LADDER:
        for by, value, belongs in groups:
            chosen = [r["readings"][reading]["correct"] for r in rows if belongs(r) and reading in r["readings"]]
            if chosen:
                bounds = list(proportion_confint(sum(chosen), len(chosen), method="wilson"))
                share = sum(chosen) / len(chosen)
                made.append(
                    {
                        "reading": reading,
                        "by": by,
                        "value": value,
                        "n": len(chosen),
                        "accuracy": share,
                        "accuracy_ci": bounds,
                        "macro_f1": None if by == "label" else share,
                    }
                )
    return made


def _curves(improved) -> dict[str, Any]:
    rng = random.Random(1)
    step = [20 * (k + 1) for k in range(100)]
    train = [
        {"step": s, "epoch": s / 699, "loss": (0.25 + 1.6 / (1 + s / 60) if improved else 1.2) + rng.gauss(0, 0.05)}
        for s in step
    ]
    val = [
        {
            "step": 699 * (k + 1),
            "epoch": k + 1.0,
            "loss": (0.41, 0.33, 0.36)[k] if improved else 1.21,
            "teacher_forced_accuracy": (0.93, 0.95, 0.951)[k],
            "label_accuracy": (0.874, 0.903, 0.899)[k] if improved else 0.57,
            "label_macro_f1": (0.861, 0.89, 0.885)[k] if improved else 0.44,
            "label_accuracy_ci": [0.8, 0.95] if improved else [0.5, 0.64],
        }
        for k in range(3)
    ]
    return {"train": train, "val": val, "teacher_forced_metric": "eval_token_acc", "best_step": 1398}


def _selective(n) -> dict[str, Any]:
    answered = round(n * 0.81)
    right = round(answered * 0.965)
    chosen = {"threshold": 0.834, "n": n, "n_answered": answered, "coverage": answered / n, "accuracy": 0.971}
    test = {
        "n": n,
        "coverage": answered / n,
        "accuracy": right / answered,
        "accuracy_ci": list(proportion_confint(right, answered, method="beta")),
        "n_answered": answered,
        "outcome": "undecided",
    }
    readings = {
        "tfidf_linear": {"chosen": None, "test": None},
        "after_score": {"chosen": chosen | {"accuracy_low": 0.951}, "test": test},
    }
    return {
        "target": 0.95,
        "level": 0.05,
        "rows_needed": 59,
        "rows": n,
        "kept_apart": False,
        "readings": readings,
    }


def _costs(n) -> dict[str, Any]:
    one = {"threshold": 0.2, "val": 118.0, "test": 121.4, "test_ci": [88.2, 160.9], "n": n, "n_answered": n - 9}
    readings = {
        "after_score": one | {"most_probable": 190.2},
        "tfidf_linear": one | {"val": 150.0, "most_probable": 211},
    }
    return {
        "per_rows": 1000,
        "ask": 0.2,
        "ask_all": 200.0,
        "cheapest_on_validation": "after_score",
        "readings": readings,
    }


def _prevalence(metrics) -> dict[str, Any]:
    name = "after_generate" if "after_generate" in metrics["readings"] else next(iter(metrics["readings"]))
    elsewhere = [{"share": share, "precision": 0.6, "interval": [0.4, 0.8]} for share in (0.01, 0.5)]
    rates = {"precision": 0.9, "recall": 0.8, "recall_ci": [0.7, 0.9]}
    rates |= {"false_positive_rate": 0.1, "false_positive_ci": [0.05, 0.2]}
    classes = [{"label": label, "share": 0.3, **rates, "elsewhere": elsewhere} for label in metrics["labels"]]
    return {"reading": name, "classes": classes}
