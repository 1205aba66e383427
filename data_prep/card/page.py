"""README.md of a dataset: its data card, Chinese first, English below, made from the manifest alone.

The wording is in card.md.j2. What was written by others (label words, provenance, file names) is escaped: see
`workspace.markdown`.
"""

import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePath

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from data_prep.card.pictures import CLASSES_SHOWN, SPLIT_WORDS, draw_card, shown_labels
from data_prep.manifest import Histogram, Manifest, Spread
from data_prep.task import SPLITS
from workspace import markdown
from workspace.bilingual import NONE, Text, number, percent
from workspace.files import sha256_file, write_bytes, write_text
from workspace.fonts import chinese_font

CARD = "README.md"
REASON_WORDS = {
    "undecodable": Text("编码无法识别", "bytes of no encoding"),
    "empty": Text("没有可见文字", "no visible text"),
    "empty_label": Text("没有标签", "no label"),
    "unknown_label": Text("任务没有这个标签", "a label that the task does not name"),
    "too_short": Text("字数不足 min_chars", "fewer characters than min_chars"),
    "conflicting_label": Text("同一文本另有别的标签", "the same text stands under another label"),
    "held_out_text": Text("新增的行：文本已在验证集或测试集", "added, and its text stands in val or test"),
    "repeated_text": Text("新增的行：文本已在训练集", "added, and its text stands in train already"),
    "annotators_disagree": Text("新增的行：标注者意见不一", "added, and its annotators disagree"),
}
CONFLICTS = {
    "set_aside": Text("同一文本有两种标签时搁置", "the same text under two labels is set aside"),
    "keep": Text("同一文本有两种标签时保留", "the same text under two labels is kept"),
}
SCHEMES = {
    "stratified": Text("分层，按文本哈希，近似文本同在一份", "by class and a hash of the text, near copies together"),
    "folds": Text("交叉验证的一折", "one fold of a cross-validation"),
    "column": Text("任务的 split.column 一列", "by the column split.column"),
    "files": Text("任务的 split.files，每份一个文件", "a file for each, split.files"),
    "original": Text(
        "原实验：train_test_split 两次，验证集取自余下的行", "as in the original experiment: train_test_split, twice"
    ),
}
LEAKS_SHOWN = 20
Rows = list[list[str]]  # the cells of a table


class Markdown(str):
    """Markdown of our own, which is not escaped."""


def write_card(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Write the card and its pictures into `folder`; the SHA-256 of each file by its name.

    The manifest's `files` are the files that the card names.
    """
    pictures = draw_card(manifest, chinese_font())
    for name, data in pictures.items():
        write_bytes(folder / name, data)
    write_text(folder / CARD, render_card(manifest))
    return {name: sha256_file(folder / name) for name in (CARD, *pictures)}


def render_card(manifest: Manifest) -> str:
    """The card as Markdown."""
    m, counts = manifest, manifest.counts
    sums = {label: sum(counts.of(name)[label] for name in SPLITS) for label in m.labels}
    used = {name: counts.of(name)["total"] for name in SPLITS}
    left_out = sum(counts.left_out.values())
    return _template().render(
        m=m,
        counts=counts,
        aside=counts.set_aside,
        unused=counts.not_used["total"],
        used=used,
        written=sum(used.values()),
        left_out=left_out,
        n=counts.rows - counts.set_aside["total"] - left_out,
        sums=sums,
        large=max(m.labels, key=sums.__getitem__),  # max and min take the first of several: the task's order decides
        small=min(m.labels, key=sums.__getitem__),
        conflicts=CONFLICTS[m.duplicates.conflicts],
        scheme=SCHEMES[m.scheme],
        leaked=any(leak.exact + leak.near for leak in m.leaks.values()),
        class_rows=_class_rows(m),
        length_rows=_length_rows,
        cut_rows=_cut_rows(m),
        all_shown=len(shown_labels(m)) == len(m.labels),
        leak_rows=_leak_rows(m),
        leaking_rows=[
            [key.replace("_in_", " → "), ", ".join(f"{row} ({partner})" for row, partner in pairs[:LEAKS_SHOWN])]
            for key, pairs in m.leaking.items()
        ],
        reject_rows=_reject_rows(m),
        added_rows=[[what, number(n)] for what, n in m.added.items()],
        left_out_rows=[
            [value or "（空 empty）", number(n), percent(n / counts.rows, 2)] for value, n in counts.left_out.items()
        ],
        known_rows=[[label, _share(m.known_public.test[label], counts.test[label])] for label in shown_labels(m)]
        if m.known_public
        else [],
        hash_rows=_hash_rows(m),
        command=Markdown(command(m)),
    )


def command(manifest: Manifest) -> str:
    """The command that makes the dataset again, on one line; paths outside the repository as their last part."""
    made, table = manifest.made_by, manifest.source.path
    words = ["python", "-m", "data_prep.build", shown_path(made.task)]
    words += [] if manifest.scheme == "files" else ["--csv", shown_path(table)]
    words += ["--model", "MODEL_FOLDER"] if manifest.tokenizer_sha256 else []
    words += ["--prompt", manifest.prompt, "--max-length", str(manifest.max_length)]
    words += ["--limit", str(manifest.limit)] if manifest.limit else []
    words += ["--override", *map(shown_path, made.override)] if made.override else []
    return " ".join(_quoted(word) for word in words)


def shown_path(path: str) -> str:
    """A path of the repository as it is; of any other the last part alone, which says nothing of the machine."""
    return PurePath(path).name if PurePath(path).is_absolute() else path


def _quoted(word: str) -> str:
    """A word for bash; one with characters that are not seen is spelt out, so that no line ends inside."""
    if word.isprintable():
        return shlex.quote(word)
    spelt = (char if char.isprintable() and char not in "\\'" else f"\\U{ord(char):08x}" for char in word)
    return f"$'{''.join(spelt)}'"


@cache
def _template() -> Template:
    environment = Environment(  # noqa: S701  Markdown, not HTML: `finalize` escapes every value
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markdown) else markdown.escape(value),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "percent": percent}
    environment.globals |= {
        "br": Markdown("  "),
        "table": _table,
        "facts": ("项目 item", "值 value"),
        "splits": SPLITS,
        "names": SPLIT_WORDS,
        "split_columns": [" ".join(SPLIT_WORDS[name]) for name in SPLITS],
        "shown_path": shown_path,
        "none_word": NONE,
    }
    return environment.get_template("card.md.j2")


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> Markdown:
    return Markdown("\n".join(markdown.table(header, rows, words)))


def _share(part: int, whole: int) -> str:
    return f"{number(part)} ({percent(part / whole)})"


def _shares(pairs: Sequence[tuple[int, int]]) -> list[str]:
    """The share of all parts in all wholes, then that of each (part, whole)."""
    parts, wholes = zip(*pairs, strict=True)
    return [_share(part, whole) for part, whole in ((sum(parts), sum(wholes)), *pairs)]


def _class_rows(manifest: Manifest) -> Rows:
    parts = [manifest.counts.of(name) for name in SPLITS]
    rows = [[label, *_shares([(part[label], part["total"]) for part in parts])] for label in shown_labels(manifest)]
    totals = [part["total"] for part in parts]
    return [*rows, ["合计 all", *map(number, (sum(totals), *totals))]]


def _cut_rows(manifest: Manifest) -> Rows:
    if manifest.cut is None:
        return []
    pairs = [(manifest.cut.of(name), manifest.counts.of(name)) for name in SPLITS]
    keys = {**{label: label for label in shown_labels(manifest)}, "total": "合计 all"}
    return [[name, *_shares([(cut[key], rows[key]) for cut, rows in pairs])] for key, name in keys.items()]


def _length_rows(whole: Spread, parts: Histogram, after: Spread | None = None) -> Rows:
    splits = [(" ".join(SPLIT_WORDS[name]), part) for name, part in parts.split.items()]
    spreads = [("合计 all", whole), *splits, *(parts.classes.items() if len(parts.classes) <= CLASSES_SHOWN else ())]
    spreads += [("截断后 after cutting", after)] if after else []
    return [
        [name, *(f"{value:,.0f}" for value in (s.least, s.median, s.p95, s.p99, s.greatest)), f"{s.mean:,.1f}"]
        for name, s in spreads
    ]


def _leak_rows(manifest: Manifest) -> Rows:
    rows = []
    for key, leak in manifest.leaks.items():
        inner, outer = key.split("_in_")
        name = f"{SPLIT_WORDS[inner].zh}集的行在{SPLIT_WORDS[outer].zh}集里 {inner} rows in {outer}"
        n = manifest.counts.of(inner)["total"] + manifest.counts.not_used[inner]
        rows.append([name, *map(number, (n, leak.exact, leak.near)), percent((leak.exact + leak.near) / n)])
    return rows


def _reject_rows(manifest: Manifest) -> Rows:
    aside, n = manifest.counts.set_aside, manifest.counts.rows
    names = {reason: " ".join(REASON_WORDS[reason]) for reason in aside if reason != "total"}
    rows = [[reason, name, number(aside[reason]), percent(aside[reason] / n, 2)] for reason, name in names.items()]
    return [*rows, ["", "合计 all", number(aside["total"]), percent(aside["total"] / n, 2)]]


def _hash_rows(manifest: Manifest) -> Rows:
    files = {"corrections": manifest.corrections, "known_public": manifest.known_public}
    return [
        ["表 table", manifest.source.sha256],
        *([name, digest] for name, digest in manifest.files.items()),
        *([f"{' '.join(SPLIT_WORDS[name])}: id, text, label", manifest.rows_sha256[name]] for name in SPLITS),
        ["tokenizer.json", manifest.tokenizer_sha256 or NONE],
        ["任务设置 settings", manifest.inputs["task_sha256"]],
        *([f"{name}: {file.path}", file.sha256] for name, file in files.items() if file),
    ]
