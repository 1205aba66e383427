"""README.md of a bundle: its model card, in the forms of Hugging Face and ModelScope, with figures of metrics.json."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.scoring.decision import METRIC_NAMES
from eval.scoring.predictions import Metrics
from eval.scoring.reading_names import READINGS
from serve.classifier_file import ClassifierFile
from serve.examples import plain_transformers, swift_infer, vllm_ask, vllm_serve
from serve.licences import Licence
from workspace import bilingual
from workspace.bilingual import Text, decimal, number, percent
from workspace.markdown import escape

NAME = "README.md"
LADDER = ("majority", "tfidf_linear", "before_score_calibrated", "after_score", "after_score_threshold", "stack")
HAN = re.compile("[\u4e00-\u9fff]")


def card(file: ClassifierFile, metrics: Metrics, name: str, base: Licence | None) -> str:
    """The card of a bundle called `name`; `base` is the licence of its base model, None without one."""
    readings = metrics["readings"]
    shown = [one for one in LADDER if one in readings and (one == file.reported or not one.endswith("_threshold"))]
    return _template().render(
        front=Markup(front_matter(file, metrics, name, base)),  # noqa: S704  YAML
        raw=Markup,  # of our own examples
        name=name,
        kind=file.kind,
        n=file.measured.n,
        what=_what(file),
        worth=_worth(file),
        decision=Text(metrics["decision"]["zh"], metrics["decision"]["en"]),
        sure=_sure(file, metrics),
        agreement=_agreement(file),
        ladder=[
            {
                "name": READINGS[one],
                "own": one == file.reported,
                "n": readings[one]["n"],
                **{key: readings[one][key] for key in ("accuracy", "accuracy_ci", "macro_f1")},
                "macro_f1_ci": (readings[one]["intervals"] or {}).get("macro_f1"),
            }
            for one in shown
        ],
        plain=plain_transformers(file),
        swift=swift_infer(file),
        vllm=vllm_serve(file),
        vllm_ask=vllm_ask(file),
        limits=_limits(file),
        base=base.sentence if base else None,
        data=Text(
            f"训练数据的许可证：{file.licences.get('data') or '未说明'}。",
            f"The training data's licence: {file.licences.get('data') or 'not stated'}.",
        ),
        facts=_facts(file),
    )


def front_matter(file: ClassifierFile, metrics: Metrics, name: str, base: Licence | None) -> str:
    """The card's head as both hubs read it, with `model-index` for the figures."""
    found = metrics["readings"][file.reported]
    words = " ".join((*file.labels, file.prompt.template))
    values: dict[str, Any] = {
        "license": base.id if base else "other",
        **({"license_name": base.name} if base and base.name else {}),
        "language": ["zh" if HAN.search(words) else "en"],
        "pipeline_tag": "text-classification",
        **({"library_name": "transformers"} if file.kind else {"library_name": "sklearn"}),
        **({"base_model": file.base_model} if file.kind and file.base_model and "/" in file.base_model else {}),
        "tags": ["text-classification", "ms-swift", file.reading],
        "tasks": ["text-classification"],  # this and the next two are ModelScope's
        "domain": ["nlp"],
        "frameworks": ["Pytorch"] if file.kind else ["other"],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"type": file.task, "name": file.task, "split": "test"},
                        "metrics": [
                            {"type": "accuracy", "name": "accuracy", "value": found["accuracy"]},
                            {"type": "f1", "name": "macro F1", "value": found["macro_f1"]},
                            {"type": "matthews_correlation", "name": "MCC", "value": found["mcc"]},
                        ],
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(values, allow_unicode=True, sort_keys=False)}---"


def _what(file: ClassifierFile) -> Text:
    labels_zh, labels_en = "、".join(file.labels), ", ".join(file.labels)
    model = file.base_model or ""
    kinds = {
        "linear": Text(
            "字符 TF-IDF + 逻辑回归，没有语言模型", "TF-IDF of characters and logistic regression, no language model"
        ),
        "tuned": Text(f"{model} 调优后的分类器", f"a classifier tuned from {model}"),
        "stack": Text(
            f"{model} 调优后与线性模型合用的分类器", f"a classifier tuned from {model}, together with a linear model"
        ),
    }
    kind = kinds[file.reading]
    return Text(
        f"任务 {file.task}：{kind.zh}；给一条文本，答 {labels_zh} 之一，并给出各标签的概率。",
        f"Task {file.task}: {kind.en}. Given a text it answers one of {labels_en}, with a probability of each.",
    )


def _worth(file: ClassifierFile) -> Text:
    one = file.measured
    words = METRIC_NAMES[one.metric]  # type: ignore[index]
    low_high = f"{decimal(one.interval[0])}–{decimal(one.interval[1])}" if one.interval else None
    return Text(
        f"测试集 {number(one.n)} 行上{words.zh} {decimal(one.value)}"
        + (f"（95% 区间 {low_high}）。" if low_high else "。"),
        f"{words.en} {decimal(one.value)} on {number(one.n)} test rows" + (f" (95% {low_high})." if low_high else "."),
    )


def _sure(file: ClassifierFile, metrics: Metrics) -> Text:
    limits, scores = file.thresholds, file.reported.removesuffix("_threshold")
    if limits.target is None:
        return Text("验证集没有概率，没有挑过门槛。", "No threshold was chosen: validation rows have no probabilities.")
    if limits.selective is None:
        target = percent(limits.target, 0)
        return Text(
            f"没有一个置信度门槛被验证集证实能保证 {target} 的准确率：每个答案都要当作可能是错的。",
            f"The validation rows show no confidence that promises an accuracy of {target}: any answer may be wrong.",
        )
    chosen = metrics["selective"]["readings"][scores]["chosen"]
    return Text(
        f"置信度不低于 {decimal(limits.selective)} 时自己作答（验证集上占 {percent(chosen['coverage'])}），"
        f"准确率不低于 {percent(limits.target, 0)}（风险 {percent(limits.level, 0)}）；其余交给人。",
        f"At a confidence of {decimal(limits.selective)} or more it may answer by itself "
        f"({percent(chosen['coverage'])} of the validation rows), with an accuracy of {percent(limits.target, 0)} or "
        f"more at a risk of {percent(limits.level, 0)}; the rest is for a person.",
    )


def _agreement(file: ClassifierFile) -> Text | None:
    if (one := file.agreement) is None:
        return None
    return Text(
        f"权重以 float32 合并、以 {one.dtype} 存放：{one.rows} 条测试文本上标签与合并前相同（"
        f"{one.ties} 条几乎打平的除外），概率最多差 {one.difference:g}（容许 {one.tolerance:g}）。",
        f"The weights were merged in float32 and are stored in {one.dtype}: on {one.rows} test texts the labels are "
        f"those from before merging ({one.ties} near ties aside), and probabilities differ by {one.difference:g} at "
        f"most ({one.tolerance:g} is allowed).",
    )


def _limits(file: ClassifierFile) -> Text:
    if file.kind is None:
        return Text(
            "系数和词表在 linear/（不是 pickle），由 predict 和 serve 读取；transformers、ms-swift 和 vLLM 用不上。",
            "Coefficients and terms are in linear/ (no pickle): predict and serve read them; "
            "transformers, ms-swift and vLLM have no use for them.",
        )
    return Text(
        "只有 predict 和 serve 给出量过的概率、门槛和文本截断（每条最多 "
        f"{file.prompt.max_length} 个词元）；上面其他几种只给出答案本身。",
        f"Only predict and serve give the probabilities and thresholds that were measured and cut long texts (to "
        f"{file.prompt.max_length} tokens with the prompt); the other ways above give the answer alone.",
    )


def _facts(file: ClassifierFile) -> list[tuple[str, str]]:
    facts = [
        ("底座 base", file.base_model or "–" if file.kind else "–"),
        ("测试集 test rows, SHA-256", file.data_sha256["test"]),
        ("提示词 prompt", file.prompt.template),
        ("classifier.json", f"format {file.format}"),
    ]
    return [*facts, *((name, version) for name, version in file.versions.items())]


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True,  # so that what a macro has escaped is not escaped again
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(escape(value)),  # noqa: S704
    )
    environment.filters |= {name: getattr(bilingual, name) for name in ("number", "percent", "decimal", "interval")}
    return environment.get_template("card.md.j2")
