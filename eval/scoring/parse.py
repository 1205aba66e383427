"""Read a chat model's free-text answer as one of the task's label words, or as unparsed; a pure function.

An untuned model answers 「这条评论是正面还是负面？」 in sentences, so the answer is read in four steps, all linear in
its length. Only words of the lists below are known; there is no model and no word segmentation behind this.

1. **Normalise.** NFKC (full-width forms), case-fold, the traditional forms listed in `TRADITIONAL`; invisible
   characters, markdown bold and code marks, HTML-like tags and `<think>` blocks (closed; unclosed to the end; with
   the opening tag left in the prompt) go. What follows an end-of-turn token is no longer the answer.
   **Strict**: the whole of what remains, without white space, quotes and closing punctuation (not `?`) around it, is
   the label word itself. A synonym is never strict.
2. **Leave out what is not the model's own statement**: quotations longer than a label word with its noun (“正面评价”
   is kept), unless the whole answer is quoted; a polite opening (好的，…); the prompt repeated from 评论内容: up to
   its question; and, once a label was given, a next round (评论内容: …) that the model goes on to write.
3. **Find the labels asserted**, clause by clause. The longest word wins (非正面 before 正面, 非常好评 before 好评);
   Latin words and digits match whole words only. Not asserted is a label that is
   - negated: 不是, 并非, 谈不上, 没有, 无法判断, 是否, not, … before it in the clause, whatever comes between (不值得推荐,
     未能令客户满意), and labels joined to it by 和, 、, 或. **A negation never flips to the other class**: what is not
     positive may be neutral; 不推荐 is read as a label only where it is one;
   - one of several on offer: labels joined by 还是, 或, or, / (the question repeated), or asked: a clause with ?, 吗;
   - in a condition (如果, if), or in what follows from a condition that names a label;
   - part of another word: 正面临, 正面朝(海), 反正面对, 好评价, 负面影响.
4. **Decide** by the first of these that names any label; it must name exactly one, or else the answer is unparsed:
   - *verdicts*: clauses of nothing but one label and words of the verdict list (正面; 因此这条评论是正面的; 偏正面).
     So "正面。虽然有一些负面的描述" is 正面, and two verdicts that disagree are unparsed, wherever they are. A
     verdict outside the set (中性 where that is no label) counts as one;
   - *headings*: a verdict before a colon ("负面：房间太小");
   - *mentions*: every other asserted label ("表达了对服务的负面看法"). One-character labels (A, 1, 好) count in the two
     tiers above only, as they occur in too many words.

Limits: irony; comparison (负面多于正面 is unparsed); negation across a clause or by a word not listed; double negation
(read as negation); a verdict on one aspect in the words of a verdict on the whole; labels in a review repeated without
quotes; other words with a label inside (体育场 for 体育); traditional forms not listed; "1. text" (numbering, not the
label 1); a lower-case "a" before a Latin word (the article).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from data_prep.label_words import labels_by_word, normal, strip_marks
from eval.scoring.answer_words import WORDS


class Parsed(NamedTuple):
    """`label` is a word of the task's labels or None (unparsed); `strict` says that the answer is that word alone."""

    label: str | None
    strict: bool


_KINDS = {word.replace("·", " "): kind for kind, words in WORDS.items() for word in words.split()}
_KINDS |= dict.fromkeys("。.!?;,:()[]{}<>=|—–→\n", "stop") | dict.fromkeys(" \"'“”‘’「」『』《》*_#-~·•", "skip")
_SENTENCE_ENDS = frozenset("。.!?;\n")
# 没有抱怨或负面评价: the negation of a thing's being there reaches over its first noun.
_ABSENCE = frozenset(("没", "没有", "未", "无", "毫无", "no", "without"))
# 负面影响 is an effect of something, 满意度 a scale: no verdicts.
_OTHER_SENSE = ("影响", "的影响", "作用", "效应", "后果", "度", "率")
_AFTER_PING = "论价估分定判审选述语级比"  # 做好评估, 评论中评论者: 好评 and 中评 are not words there
_LABEL_NOUN = r"(?:的|性|评论|评价|情感|情绪|态度|倾向|类){0,3}"

_QUOTED = re.compile(r"“([^“”]*)”|‘([^‘’]*)’|「([^「」]*)」|『([^『』]*)』|\"([^\"\n]*)\"")
_WHOLLY_QUOTED = re.compile(r"[“\"「『]([^“”\"「」『』]*)[”\"」』][。.!]?")
_POLITE = re.compile(r"\A好的[,!。]\n?")  # "好的，…" opens an answer and is not the label 好
_NEXT_ROUND = re.compile(r"\n(?:评论内容|评论|用户|问|问题|review|user|human) ?:")
_PROMPT_HEAD = re.compile(r"(?:评论内容|评论|review) ?:")
_LATIN = "0-9a-zà-ɏ"
# "2. text" at the beginning of a line and the mark of "A、text" part clauses; 4.5 and 80% are no label words.
_NUMBERING = rf"(?P<numbering>(?:\A|(?<=\n))\d{{1,2}}[.、)](?=[^\n\d])|(?<=[{_LATIN}])、(?![{_LATIN}]))"
_NUMBER = r"\d+(?:\.\d+)+%?|\d+%"


def parse_answer(
    text: str, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Parsed:
    """Read `text` as one of `labels` by the rules of this module; never raises on any text.

    `synonyms` maps a label to further words that mean it. Raises ValueError when the words do not define a task: fewer
    than two labels, a word without any letter, digit or symbol, one word for two labels, synonyms of an unknown label.
    """
    reader = _reader(tuple(labels), tuple((label, tuple(words)) for label, words in synonyms.items()))
    answer = normal(text)
    if (bare := reader.bare.get(strip_marks(answer))) is not None:
        return Parsed(bare, True)
    if whole := _WHOLLY_QUOTED.fullmatch(answer):
        answer = whole[1]
    answer = _QUOTED.sub(lambda quoted: quoted[0] if reader.is_label(quoted[quoted.lastindex or 0]) else "□", answer)
    answer = _POLITE.sub("", answer)
    next_round = _NEXT_ROUND.search(answer)
    first = _decide(reader, answer[: next_round.start()]) if next_round else None
    return Parsed(first or _decide(reader, answer), False)


class _Token(NamedTuple):
    kind: str
    word: str  # as in the normalised text; of a label, the label it means ("" where that is outside the set)
    long: bool = True  # more than one character


class _Reader(NamedTuple):
    """What depends on the label words only, made once."""

    bare: dict[str, str]  # normalised label word -> label
    words: dict[str, str]  # normalised label word or synonym -> label
    kinds: dict[str, str]  # every known word -> its kind
    lexer: re.Pattern[str]
    label_alone: re.Pattern[str]

    def is_label(self, text: str) -> bool:
        """Whether a quoted text is a label word, perhaps with its noun (正面评价)."""
        return self.label_alone.fullmatch(strip_marks(text)) is not None

    def tokens(self, text: str) -> list[_Token]:
        """Cut a normalised text into known words and the rest; white space and marks are left out."""
        tokens = []
        for match in self.lexer.finditer(text):
            word = match[0]
            kind = "stop" if match["numbering"] else self.kinds.get(word)
            if kind is None:
                kind = "negation" if word.endswith("n't") else "other"
            if kind == "label":
                tokens.append(_Token(kind, self.words[word], len(word) > 1))
            elif kind == "outside":
                tokens.append(_Token("label", ""))
            elif kind != "skip":
                tokens.append(_Token(kind, word))
        return tokens


@lru_cache(maxsize=64)
def _reader(labels: tuple[str, ...], synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> _Reader:
    if len(set(labels)) < 2:
        raise ValueError(f"a task needs at least two different labels, found {list(labels)}")
    if unknown := [label for label, _ in synonyms if label not in labels]:
        raise ValueError(f"synonyms are given for {unknown}, which is not among the labels {list(labels)}")
    words = labels_by_word(labels, dict(synonyms))
    kinds = dict(_KINDS)
    for word in words:
        if len(word) > 1 and not word.isascii():
            kinds |= {word + sense: "other" for sense in _OTHER_SENSE}
        if len(word) > 1 and word.endswith("评"):
            kinds |= {word + char: "other" for char in _AFTER_PING}
    kinds |= dict.fromkeys(words, "label")
    alone = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    bare = {strip_marks(normal(label)): label for label in labels}
    return _Reader(bare, words, kinds, _lexer(kinds), re.compile(rf"(?:{alone}){_LABEL_NOUN}"))


def _lexer(words: Iterable[str]) -> re.Pattern[str]:
    """Compile the words, the longest first among those of one first character, then numbers and unknown text."""
    by_first: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        border = rf"(?![{_LATIN}])" if re.match(f"[{_LATIN}]", word[-1]) else ""
        by_first.setdefault(word[0], []).append(re.escape(word[1:]) + border)
    known = "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items())
    firsts = "".join(re.escape(first) for first in by_first)
    unknown = rf"[^{firsts}{_LATIN}]+"
    return re.compile(rf"{unknown}|{_NUMBERING}|{_NUMBER}|{known}|[{_LATIN}]+(?:'[a-z]+)?|.", re.DOTALL)


def _decide(reader: _Reader, text: str) -> str | None:
    """Return the one label that a normalised text asserts (step 4 of the module's rules), or None."""
    tokens = reader.tokens(text)
    offered = _offered(tokens)
    start = offered[0][1] + 1 if offered and _PROMPT_HEAD.match(text) else 0
    on_offer = {place for places in offered for place in places}
    verdicts: set[str] = set()
    headings: set[str] = set()
    mentions: set[str] = set()
    supposed = False  # the sentence has a condition
    follows = False  # ... that names a label
    clause: list[_Token] = []
    for place, token in enumerate([*tokens[start:], _Token("stop", "\n")], start):
        if token.kind != "stop":
            clause.append(token._replace(kind="offered") if place in on_offer else token)
            continue
        kinds = {part.kind for part in clause}
        condition = "condition" in kinds
        then = supposed and any(part.word in ("那么", "则", "then") for part in clause)
        if not (condition or follows or then or token.word == "?" or "question" in kinds):
            asserted = _asserted(clause)
            names = {part.word for part in asserted}
            if len(names) == 1 and not kinds & {"other", "gap"}:
                (headings if token.word == ":" else verdicts).update(names)
            mentions.update(part.word for part in asserted if part.long and part.word)
        supposed = (supposed or condition) and token.word not in _SENTENCE_ENDS
        follows = (follows or (condition and bool(kinds & {"label", "offered"}))) and supposed
        clause = []
    named = verdicts or headings or mentions
    return (named.pop() or None) if len(named) == 1 else None


def _offered(tokens: list[_Token]) -> list[list[int]]:
    """Find the places of labels on offer: two or more different ones in a row, joined by "or" at least once."""
    runs: list[list[int]] = []
    offers: list[bool] = []
    between: list[_Token] = []
    for place, token in enumerate(tokens):
        if token.kind != "label":
            between.append(token)
            continue
        joints = [part for part in between if part.kind in ("or", "and", "stop")]
        joined = all(part.kind in ("or", "and", "verdict") or part.word == "," for part in between)
        if runs and joints and joined and len(between) <= 8:
            # 虽有负面，还是正面 is "still"; only asked (…？) is it an offer
            still = [part.word for part in joints] == [",", "还是"] and not _asked(tokens, place)
            runs[-1].append(place)
            offers[-1] |= not still and any(part.kind == "or" for part in joints)
        else:
            runs.append([place])
            offers.append(False)
        between = []
    return [run for run, offer in zip(runs, offers, strict=True) if offer and len({tokens[i].word for i in run}) > 1]


def _asked(tokens: list[_Token], place: int) -> bool:
    """Whether the clause of the label at `place` ends in a question mark."""
    ends = (token.word for token in tokens[place : place + 8] if token.kind == "stop")
    return next(ends, "") == "?"


def _asserted(clause: list[_Token]) -> list[_Token]:
    """Return the labels of a clause that are neither negated nor on offer."""
    asserted: list[_Token] = []
    negated = False  # a negation is open
    shared = False  # what came before was negated, and so is a label that 和 or 或 joins to it
    opened = ""  # the last negation
    for token in clause:
        if token.kind == "label":
            if not negated:
                asserted.append(token)
            negated, shared = False, negated
        elif token.kind == "negation":
            negated, shared, opened = True, False, token.word
        elif token.kind in ("and", "or"):
            negated = negated or shared
        elif token.kind in ("turn", "offered"):
            negated = shared = False
        elif token.kind == "other":  # 不值得推荐: what an unknown word after a negation denies is not known
            shared = shared and opened in _ABSENCE
        elif shared and token.word in ("是", "为", "is"):  # not positive and is negative: a new statement
            negated = shared = False
    if negated and asserted and clause[-1].word.endswith(("不上", "不了", "不起")):  # 推荐不了
        asserted.pop()
    return asserted
