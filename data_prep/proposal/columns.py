"""Which columns of a table hold the text, the label and the id, and why; asked for where the table does not tell."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from data_prep.table.checking import visible_lengths
from data_prep.table.table_settings import USUAL_SPLITS, split_value
from data_prep.task import LABELS, canonical_value
from workspace.errors import UserError, nearest

# Words of a column's name, lower case.
TEXT_NAMES = frozenset(
    """text texts review reviews content comment comments body sentence message tweet utterance question query document
    评论 评论内容 内容 文本 正文 评价 评价内容 句子 留言 评语 評論 內容 文字""".split()  # noqa: SIM905
)
LABEL_NAMES = frozenset(
    """label labels class category sentiment target rating ratings stars star score y intent topic polarity
    标签 类别 分类 情感 情感倾向 评分 星级 类型 意图 标注 評分 標籤 類別 评级""".split()  # noqa: SIM905
)
ID_NAMES = {"id", "ids", "uid", "guid", "index", "idx", "no", "编号", "序号", "订单号", "工单号", "編號"}
LETTER = re.compile(r"[^\W\d_]")  # of any script
SHORT = 60  # characters: what is longer is no label
FEWEST_ROWS = 2  # rows a value, on average, of a column of labels
MARGIN = 1.5  # times as long as any other column: surely the text, where its name says so
WIDE_MARGIN = 4.0  # where its name does not


@dataclass(frozen=True)
class ColumnFacts:
    """What is known of a column: how many rows hold something, how many values differ, and characters."""

    name: str | int
    filled: int
    distinct: int
    mean_length: float  # visible characters of the filled rows
    longest: int
    has_letters: bool  # most filled rows have a letter: neither numbers nor dates

    @property
    def words(self) -> set[str]:
        """The name, and its parts, in lower case."""
        name = str(self.name).strip().lower()
        return {name, *re.split(r"[\s_\-./]+", name)} if isinstance(self.name, str) else set()

    @property
    def may_be_label(self) -> bool:
        """Few short values, each in several rows."""
        few = 2 <= self.distinct <= LABELS[1] and self.filled >= FEWEST_ROWS * self.distinct
        return few and self.longest <= SHORT

    @property
    def may_be_id(self) -> bool:
        """A short value of its own in each row, below a name such as `id`."""
        return bool(self.words & ID_NAMES) and self.distinct == self.filled > 0 and self.longest <= SHORT

    @property
    def may_be_text(self) -> bool:
        """Letters, and values that mostly differ."""
        differ = self.filled > 0 and self.distinct >= 0.3 * self.filled
        return self.has_letters and differ and not self.may_be_id


@dataclass(frozen=True)
class Chosen:
    """The columns that a task reads, and why each was taken."""

    text: tuple[str | int, ...]
    label: str | int
    id: str | int | None
    split: str | int | None  # says which rows are to train on and which to test
    reasons: Mapping[str, str]  # "text", "label", "id", "split"


def facts_of(frame: pd.DataFrame) -> list[ColumnFacts]:
    """The facts of each column of a frame of texts, in the frame's order."""
    found = []
    for name in frame.columns:
        lengths = visible_lengths(frame[name])
        filled = frame[name][lengths > 0]
        lengths = lengths[lengths > 0]
        sample = filled.head(1000)
        letters = sum(bool(LETTER.search(text)) for text in sample) / max(len(sample), 1)
        found.append(
            ColumnFacts(
                name,
                len(filled),
                filled.map(canonical_value).nunique() if len(filled) else 0,
                float(lengths.mean()) if len(lengths) else 0.0,
                int(lengths.max()) if len(lengths) else 0,
                bool(letters > 0.5),
            )
        )
    return found


def choose_columns(frame: pd.DataFrame, text: Sequence[str] = (), label: str | None = None) -> Chosen:
    """The columns of text, label and id; `text` and `label` are the user's own words for them, names or numbers.

    Raises UserError, with the choices, for a column that is not there and where several fit.
    """
    facts = {one.name: one for one in facts_of(frame)}
    given_text = tuple(_named(name, facts, "--text") for name in text)
    given_label = None if label is None else _named(label, facts, "--label")
    if given_label in given_text:
        raise UserError(f"--label is {given_label!r}, a column of --text too: give two different columns")
    reasons = {"text": "as given", "label": "as given", "split": "its values are train, test and the like"}
    split = next((name for name in facts if name not in (*given_text, given_label) and _says_split(frame[name])), None)
    chosen_label = given_label
    if chosen_label is None:
        rest = [one for one in facts.values() if one.name not in (*given_text, split)]
        chosen_label, reasons["label"] = _label_column(frame, rest)
    chosen_text = given_text
    if not chosen_text:
        rest = [one for one in facts.values() if one.name != chosen_label]
        chosen_text, reasons["text"] = _text_column(rest)
    identity = _id_column([one for one in facts.values() if one.name not in (*chosen_text, chosen_label)])
    if identity is not None:
        reasons["id"] = "its name, and no value twice"
    return Chosen(chosen_text, chosen_label, identity, split, reasons)


def _says_split(column: pd.Series) -> bool:
    """Whether each value is a usual name of a split, those to train on and to test among them."""
    found = {USUAL_SPLITS.get(split_value(value)) for value in column.unique()}
    return None not in found and {"train", "test"} <= found


def _named(word: str, facts: Mapping[str | int, ColumnFacts], option: str) -> str | int:
    """The column that a word of the command line names: by its name, or by its number where there are no names."""
    if word in facts:
        return word
    if word.isdigit() and int(word) in facts:
        return int(word)
    known = [str(name) for name in facts]
    raise UserError(f"{option} is {word!r}, but the columns are {', '.join(known)}{nearest(word, known)}")


def _label_column(frame: pd.DataFrame, facts: Sequence[ColumnFacts]) -> tuple[str | int, str]:
    fit = [one for one in facts if one.may_be_label]
    named = [one for one in fit if one.words & LABEL_NAMES]
    found = named or fit
    if not found:
        too_many = [one for one in facts if one.words & LABEL_NAMES and one.distinct > LABELS[1]]
        if too_many:
            one = too_many[0]
            raise UserError(
                f"the column {one.name} has {one.distinct:,} distinct values, and a classifier has {LABELS[0]} to "
                f"{LABELS[1]} classes: join values to fewer, or give another column with --label COLUMN"
            )
        columns = "; ".join(f"{one.name} ({one.distinct:,} values)" for one in facts)
        raise UserError(
            f"no column looks like a label ({LABELS[0]} to {LABELS[1]} short values, each in several rows); found: "
            f"{columns}: name it with --label COLUMN"
        )
    if len(found) > 1 and (same := _same_partition(frame, found)):
        return same.name, f"says in words what {' and '.join(str(one.name) for one in found if one != same)} says"
    if len(found) > 1:
        choices = "; ".join(f"{one.name} ({_some_values(frame[one.name])})" for one in found)
        raise UserError(f"several columns may be the label: {choices}: name one with --label COLUMN")
    only = "its name, and " if named else "the only one with "
    return found[0].name, f"{only}{found[0].distinct} values"


def _same_partition(frame: pd.DataFrame, facts: Sequence[ColumnFacts]) -> ColumnFacts | None:
    """Where all columns divide the rows alike, as `label` and `label_text` do, the one in words, else the first."""
    codes = [pd.factorize(frame[one.name].map(canonical_value))[0] for one in facts]
    if any((other != codes[0]).any() for other in codes[1:]):
        return None
    return next((one for one in facts if one.has_letters), facts[0])


def _text_column(facts: Sequence[ColumnFacts]) -> tuple[tuple[str | int, ...], str]:
    fit = sorted((one for one in facts if one.may_be_text), key=lambda one: -one.mean_length)
    if not fit:
        columns = ", ".join(str(one.name) for one in facts) or "none beside the label"
        raise UserError(f"no column looks like texts (found: {columns}): name it with --text COLUMN")
    first = fit[0]
    if len(fit) == 1:
        return (first.name,), "the only one with texts"
    margin = MARGIN if first.words & TEXT_NAMES else WIDE_MARGIN
    if first.mean_length >= margin * fit[1].mean_length:
        others = ", ".join(str(one.name) for one in fit[1:])
        return (first.name,), f"the longest texts; {others} has texts too (--text COLUMN COLUMN reads several)"
    choices = "; ".join(f"{one.name} ({one.mean_length:.0f} characters on average)" for one in fit)
    raise UserError(f"several columns may be the text: {choices}: name one or several with --text COLUMN …")


def _id_column(facts: Sequence[ColumnFacts]) -> str | int | None:
    fit = [one for one in facts if one.may_be_id]
    return fit[0].name if len(fit) == 1 else None


def _some_values(column: pd.Series) -> str:
    values = column.map(canonical_value).value_counts().index[:4].tolist()
    more = ", …" if column.nunique() > len(values) else ""
    return f"{', '.join(values)}{more}"
