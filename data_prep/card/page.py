"""README.md of a dataset: its data card, Chinese first, English below, made from the manifest alone.

What was written by others (label words, provenance, file names) is escaped: see `workspace.markdown`.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

from data_prep.card.checks import checks
from data_prep.card.pictures import SPLIT_WORDS, draw_card
from data_prep.manifest import Histogram, Manifest, Spread
from data_prep.task import SPLITS
from workspace.bilingual import NONE, Text, number, percent
from workspace.files import sha256_file, write_bytes, write_text
from workspace.fonts import chinese_font
from workspace.markdown import both, escape, heading, table

CARD = "README.md"
SCHEMES = {
    "stratified": Text("分层，按文本哈希，近似文本同在一份", "by class and a hash of the text, near copies together"),
    "original": Text(
        "原实验：train_test_split 两次，验证集取自余下的行", "as in the original experiment: train_test_split, twice"
    ),
}
FACTS = ("项目 item", "值 value")
NOT_STATED = Text("没有说明", "not stated")


def write_card(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Write the card and its pictures into `folder`; the SHA-256 of each file by its name.

    `manifest` has all keys of manifest.json; its `files` are the files that the card names.
    """
    made = draw_card(manifest, chinese_font())
    for name, data in made.items():
        write_bytes(folder / name, data)
    write_text(folder / CARD, render_card(manifest))
    return {name: sha256_file(folder / name) for name in (CARD, *made)}


def render_card(manifest: Manifest) -> str:
    """The card as Markdown."""
    counts = manifest.counts
    usable = counts.rows - counts.set_aside["total"]
    parts = [f"{SPLIT_WORDS[name].zh} {number(counts.of(name)['total'])}" for name in SPLITS]
    english = [f"{number(counts.of(name)['total'])} {SPLIT_WORDS[name].en}" for name in SPLITS]
    if counts.not_used["total"]:
        parts.append(f"因行数上限未用 {number(counts.not_used['total'])}")
        english.append(f"{number(counts.not_used['total'])} left out by the limit")
    whole, aside = number(counts.rows), number(counts.set_aside["total"])
    limit = [f"limit {number(manifest.limit)}"] if manifest.limit else []
    lines = [f"# {escape(' · '.join([manifest.task, *limit]))} · 数据卡片 data card", ""]
    lines += both(
        Text(
            f"表中 {whole} 行，可用 {number(usable)} 行（{'，'.join(parts)}），搁置 {aside} 行，一行不少。",
            f"{whole} rows in the table: {number(usable)} usable ({', '.join(english)}), {aside} set aside, none lost.",
        ),
        strong=True,
    )
    lines += _classes(manifest) + _lengths(manifest) + checks(manifest)
    lines += _provenance(manifest) + _making(manifest) + _hashes(manifest)
    return "\n".join(lines).rstrip() + "\n"


def _classes(manifest: Manifest) -> list[str]:
    labels, counts = manifest.labels, manifest.counts
    totals = {name: counts.of(name)["total"] for name in SPLITS}
    sums = {label: sum(counts.of(name)[label] for name in SPLITS) for label in labels}
    n = sum(sums.values())

    def cells(rows: list[int]) -> list[str]:
        return [f"{number(k)} ({percent(k / whole)})" for k, whole in zip(rows, [n, *totals.values()], strict=True)]

    header = ["类别 class", "合计 all", *(" ".join(SPLIT_WORDS[name]) for name in SPLITS)]
    rows = [[label, *cells([sums[label], *(counts.of(name)[label] for name in SPLITS)])] for label in labels]
    rows.append(["合计 all", *(number(k) for k in (n, *totals.values()))])
    # max and min take the first of several: the task's order decides
    large, small = max(labels, key=sums.__getitem__), min(labels, key=sums.__getitem__)
    share, ratio = percent(counts.of("test")[large] / totals["test"]), f"{sums[large] / sums[small]:.2f}"
    balance = Text(
        f"最大的类别“{large}”是最小的“{small}”的 {ratio} 倍",
        f"The largest class, {large}, has {ratio} times the rows of the smallest, {small}",
    )
    if sums[large] == sums[small]:
        balance = Text("各类别行数相同", "All classes have the same number of rows")
    return [
        *heading("划分与类别", "Splits and classes", f"n = {number(n)}"),
        *table(header, rows),
        "",
        *both(
            Text(
                f"{balance.zh}；总是回答“{large}”，测试集准确率就有 {share}。",
                f"{balance.en}. Always answering {large} is right on {share} of the test rows.",
            )
        ),
        "![各类别的行数 / rows by class](class_balance.png)",
        "",
    ]


def _lengths(manifest: Manifest) -> list[str]:
    characters, tokens = manifest.characters, manifest.tokens
    header = ["行 rows", "最短 least", "中位数 median", "95% 分位 p95", "99% 分位 p99", "最长 greatest", "平均 mean"]

    def cells(part: Spread) -> list[str]:
        whole = (part.least, part.median, part.p95, part.p99, part.greatest)
        return [*(f"{length:,.0f}" for length in whole), f"{part.mean:,.1f}"]

    def rows(whole: Spread, parts: Histogram) -> list[list[str]]:
        splits = {" ".join(SPLIT_WORDS[name]): part for name, part in parts.split.items()}
        return [[name, *cells(part)] for name, part in {"合计 all": whole, **splits, **parts.classes}.items()]

    n = sum(manifest.counts.of(name)["total"] for name in SPLITS)
    lines = [*heading("长度", "Lengths", f"n = {number(n)}"), "评论的字数 / characters of the review:", ""]
    lines += [*table(header, rows(characters, characters.histogram)), ""]
    if tokens is None:
        lines += both(
            Text(
                "没有给出模型，所以没有数词元，也没有截断。",
                "No model was given: tokens were not counted, nothing was cut.",
            )
        )
    else:
        lines += [
            "整行的词元数，截断前 / tokens of the whole row (system, prompt, review, answer), before cutting:",
            "",
        ]
        if tokens.sample:
            sample = number(tokens.sample)
            lines += [
                f"（由 {sample} 行的样本估计；是否要截断，每一行都查过。/ From a sample of {sample} rows; "
                "whether a row must be cut was found out for every row.)",
                "",
            ]
        counted = rows(tokens.before, tokens.histogram)
        lines += [*table(header, [*counted, ["截断后 after cutting", *cells(tokens.after)]]), ""]
    return [*lines, "![长度分布 / lengths](lengths.png)", ""]


def _provenance(manifest: Manifest) -> list[str]:
    source = manifest.source
    facts = [
        ["来源 provenance", manifest.provenance or " ".join(NOT_STATED)],
        ["许可 licence", manifest.licence or " ".join(NOT_STATED)],
        ["表 table", f"{shown_path(source.path)}, {number(source.bytes)} bytes"],
        ["编码 encoding", source.encoding or NONE],
        ["去掉的空字符 NUL characters taken out", number(source.nul_characters_removed)],
    ]
    return [*heading("出处与许可", "Provenance and licence"), *table(FACTS, facts, words=2), ""]


def _making(manifest: Manifest) -> list[str]:
    split, near = manifest.split, manifest.duplicates
    facts: list[Sequence[object]] = [
        ["划分 scheme", f"{split.scheme}: {' '.join(SCHEMES[split.scheme])}"],
        ["随机种子 seed", split.seed],
        ["验证、测试份额 shares of val, test", f"{split.val:g}, {split.test:g}"],
        ["近似阈值 near copies", f"Jaccard ≥ {near.threshold:g}, {near.ngram}-grams"],
        ["系统消息 system", manifest.system],
        [f"提示词 prompt {manifest.prompt}", manifest.template],
        ["长度上限 limit of length", f"{number(manifest.max_length)} tokens" if manifest.cut else NONE],
        ["行数上限 limit of train rows", number(manifest.limit)],
    ]
    return [
        *heading("怎样生成", "How it was made"),
        *table(FACTS, facts, words=2),
        "",
        "```bash",
        command(manifest),
        "```",
        "",
        *both(
            Text(
                "同样的输入得到同样的字节。换成自己的路径：表和分词器由下面的校验和认出。",
                "The same inputs give the same bytes. Put in your own paths: the hashes below tell the table and the "
                "tokenizer.",
            )
        ),
    ]


def _hashes(manifest: Manifest) -> list[str]:
    rows = [["表 table", manifest.source.sha256]]
    rows += [[name, digest] for name, digest in manifest.files.items()]
    rows += [[f"{' '.join(SPLIT_WORDS[name])}: id, text, label", manifest.rows_sha256[name]] for name in SPLITS]
    rows.append(["tokenizer.json", manifest.tokenizer_sha256 or NONE])
    rows.append(["任务设置 settings", manifest.inputs["task_sha256"]])
    files = {"corrections": manifest.corrections, "known_public": manifest.known_public}
    rows += [[f"{name}: {file.path}", file.sha256] for name, file in files.items() if file]
    return [
        *heading("校验和", "Hashes"),
        *both(
            Text(
                "SHA-256。id, text, label 一行只认哪些评论在这一份，与提示词和截断无关。",
                "SHA-256. The rows named id, text, label tell which reviews stand in a split, whatever the prompt.",
            )
        ),
        *table(["文件 file", "SHA-256"], rows, words=2),
        "",
    ]


def command(manifest: Manifest) -> str:
    """The command that makes the dataset again, on one line; paths outside the repository as their last part."""
    made = manifest.made_by
    words = [
        "python",
        "-m",
        "data_prep.build",
        shown_path(made.task),
        "--csv",
        shown_path(manifest.source.path),
    ]
    words += ["--model", "MODEL_FOLDER"] if manifest.tokenizer_sha256 else []
    words += ["--prompt", manifest.prompt, "--max-length", str(manifest.max_length)]
    words += ["--limit", str(manifest.limit)] if manifest.limit else []
    words += ["--override", *map(shown_path, made.override)] if made.override else []
    return " ".join(_quoted(word) for word in words)


def shown_path(path: str) -> str:
    """A path of the repository as it is; of any other the last part alone, which tells nothing of the machine."""
    return PurePath(path).name if PurePath(path).is_absolute() else path


def _quoted(word: str) -> str:
    """A word for bash; one with characters that are not seen is spelt out, so that no line ends inside."""
    if word.isprintable():
        return shlex.quote(word)
    spelt = (char if char.isprintable() and char not in "\\'" else f"\\U{ord(char):08x}" for char in word)
    return f"$'{''.join(spelt)}'"
