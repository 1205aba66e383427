"""The part of a data card on what was found in the table: cuts, repeats, leaks, rows set aside, corrections."""

from data_prep.card.pictures import SPLIT_WORDS
from data_prep.manifest import CorrectionCounts, Duplicates, KnownTexts, Manifest
from data_prep.task import SPLITS
from workspace.bilingual import Text, number, percent
from workspace.markdown import both, escape, heading, table

REASON_WORDS = {
    "undecodable": Text("编码无法识别", "bytes of no encoding"),
    "empty": Text("没有可见文字", "no visible text"),
    "unknown_label": Text("任务没有这个标签", "a label that the task does not name"),
    "too_short": Text("字数不足 min_chars", "fewer characters than min_chars"),
    "conflicting_label": Text("同一文本另有别的标签", "the same text stands under another label"),
}
CONFLICTS = {
    "set_aside": Text("同一文本有两种标签时搁置", "the same text under two labels is set aside"),
    "keep": Text("同一文本有两种标签时保留", "the same text under two labels is kept"),
}


def checks(manifest: Manifest) -> list[str]:
    """The sections as lines of Markdown."""
    lines = _cut(manifest) + _duplicates(manifest.duplicates) + _leaks(manifest) + _set_aside(manifest)
    if manifest.corrections:
        lines += _corrections(manifest.corrections)
    if manifest.known_public:
        lines += _known_public(manifest.known_public, manifest)
    if manifest.injected:
        lines += _injected(manifest.injected.rows, manifest)
    return lines + _warnings(manifest.warnings)


def _cut(manifest: Manifest) -> list[str]:
    cut, counts, labels = manifest.cut, manifest.counts, manifest.labels
    if cut is None:
        return []
    whole = sum(counts.of(name)["total"] for name in SPLITS)

    def cell(k: int, n: int) -> str:
        return f"{number(k)} ({percent(k / n)})"

    header = ["类别 class", "合计 all", *(" ".join(SPLIT_WORDS[name]) for name in SPLITS)]
    rows = []
    for key, name in [*((label, label) for label in labels), ("total", "合计 all")]:
        here = [(cut.of(split)[key], counts.of(split)[key]) for split in SPLITS]
        rows.append([name, cell(sum(k for k, _ in here), sum(n for _, n in here)), *(cell(*pair) for pair in here)])
    limit, keep = number(manifest.max_length), percent(manifest.keep_head, 0)
    total, share = number(cut.total), percent(cut.total / whole)
    return [
        *heading("截断", "Cut rows", f"n = {number(whole)}"),
        *both(
            Text(
                f"{total} 条评论（{share}）连同提示词超过 {limit} 个词元，在评论中间截短，留下的字有 {keep} 取自开头；"
                "提问和答案不动。",
                f"{total} reviews ({share}) were over {limit} tokens with the prompt and lost their middle; {keep} of "
                "what is left is from the beginning. Question and answer are whole.",
            )
        ),
        *table(header, rows),
        "",
    ]


def _duplicates(part: Duplicates) -> list[str]:
    groups = {
        Text("相同", "the same"): part.exact,
        Text("相同或近似", "the same or near copies"): part.near,
        Text("相同但标签矛盾", "the same, labels differ"): part.conflicting_exact,
        Text("相同或近似但标签矛盾", "the same or near, labels differ"): part.conflicting_near,
    }
    rows = [[" ".join(name), number(count.groups), number(count.rows)] for name, count in groups.items()]
    policy, ngram, threshold = CONFLICTS[part.conflicts], part.ngram, f"{part.threshold:g}"
    return [
        *heading("重复与矛盾", "Repeats and conflicts"),
        *both(
            Text(
                f"比较时不计大小写、空白和标点；近似：{ngram} 字串的 Jaccard 相似度不低于 {threshold}；{policy.zh}。",
                "Compared without case, white space and punctuation; near: the Jaccard similarity of character "
                f"{ngram}-grams is at least {threshold}; {policy.en}.",
            )
        ),
        *table(["文本 texts", "组 groups", "行 rows"], rows),
        "",
    ]


def _leaks(manifest: Manifest) -> list[str]:
    counts, rows, leaked = manifest.counts, [], 0
    for key, leak in manifest.leaks.items():
        inner, outer = key.split("_in_")
        n = counts.of(inner)["total"] + counts.not_used[inner]
        both_kinds = leak.exact + leak.near
        leaked += both_kinds
        name = f"{SPLIT_WORDS[inner].zh}集的行在{SPLIT_WORDS[outer].zh}集里 {inner} rows in {outer}"
        rows.append([name, number(n), number(leak.exact), number(leak.near), percent(both_kinds / n)])
    said = Text("没有评论同时出现在两份里，近似的也没有。", "No review stands in two splits, not even nearly.")
    if leaked:
        said = Text(
            "有评论同时出现在两份里：测试结果会偏高。",
            "Reviews stand in two splits: results on test are too high.",
        )
    before = Text("按行数上限取行之前统计。", "Counted before the limit took its rows.")
    return [
        *heading("泄漏", "Leaks"),
        *both(said, strong=bool(leaked)),
        *(both(before) if counts.not_used["total"] else []),
        *table(["泄漏 leak", "n", "相同 the same", "近似 near", "份额 share"], rows),
        "",
    ]


def _set_aside(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    aside, n = counts.set_aside, counts.rows
    lines = heading("搁置的行", "Rows set aside", f"n = {number(n)}")
    if not aside["total"]:
        lines += both(Text("没有。", "None."))
    else:
        names = {key: " ".join(REASON_WORDS[key]) for key in aside if key != "total"}
        rows = [[key, name, number(aside[key]), percent(aside[key] / n, 2)] for key, name in names.items()]
        rows.append(["", "合计 all", number(aside["total"]), percent(aside["total"] / n, 2)])
        lines += ["逐行见 rejects.csv / each row stands in rejects.csv.", ""]
        lines += [*table(["代码 code", "原因 reason", "行 rows", "份额 share"], rows, words=2), ""]
    if counts.not_used["total"]:
        limit, left = number(manifest.limit), [number(counts.not_used[name]) for name in SPLITS]
        lines += both(
            Text(
                f"因训练行数上限 {limit} 未用：训练 {left[0]}，验证 {left[1]}，测试 {left[2]}。",
                f"Left out by the limit of {limit} train rows: train {left[0]}, val {left[1]}, test {left[2]}.",
            )
        )
    return lines


def _corrections(part: CorrectionCounts) -> list[str]:
    changed, left = part.changed, part.not_applied
    facts = [
        ["文件 file", part.path],
        ["列出的行 rows named", number(part.named)],
        *([f"改了标签 changed, {name}", number(changed[name])] for name in SPLITS),
        ["原本就是 the same already", number(part.same)],
        ["未用：已搁置 not applied: set aside", number(left["set_aside"])],
        ["未用：在验证集 not applied: in val", number(left["val"])],
        ["未用：在测试集 not applied: in test", number(left["test"])],
    ]
    return [*heading("标签更正", "Corrections"), *table(["项目 item", "值 value"], facts), ""]


def _known_public(part: KnownTexts, manifest: Manifest) -> list[str]:
    test = manifest.counts.test
    total, share = number(part.test["total"]), percent(part.test["total"] / test["total"])
    path, texts, exact, near = part.path, number(part.texts), number(part.exact), number(part.near)
    pairs = [(label, part.test[label], test[label]) for label in manifest.labels]
    return [
        *heading("模型可能见过的文本", "Texts that a model may have seen", f"n = {number(test['total'])}"),
        *both(
            Text(
                f"{total} 条测试评论（{share}）出现在 {path} 的 {texts} 条文本里：相同 {exact}，近似 {near}。",
                f"{total} test reviews ({share}) stand among the {texts} texts of {path}: {exact} word for word, "
                f"{near} nearly.",
            )
        ),
        *table(["类别 class", "测试 test"], ([label, f"{number(k)} ({percent(k / n)})"] for label, k, n in pairs)),
        "",
    ]


def _injected(rows: int, manifest: Manifest) -> list[str]:
    train = manifest.counts.train["total"]
    share = f"{number(rows)} / {number(train)}"
    return [
        *heading("训练中的命令", "Orders to train against", f"n = {number(train)}"),
        *both(
            Text(
                f"{share} 条训练评论的提示词里插入了一句命令（如“请回答……”），标签仍是真实的；验证集和测试集没有改动。",
                f"{share} train reviews have an order such as 请回答…… put into their prompt, and keep their true "
                "label; validation and test rows are as they were.",
            )
        ),
    ]


def _warnings(warnings: list[str]) -> list[str]:
    lines = heading("警告", "Warnings")
    if not warnings:
        return [*lines, *both(Text("没有。", "None."))]
    return [*lines, *(f"- {escape(warning)}" for warning in warnings), ""]
