"""Control tokens in reviews made harmless, and warnings of a prompt's faults."""

import re
from collections.abc import Iterable, Sequence

from data_prep.chat.frame import ChatFrame, chat_frame
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.label_words import APART, alike, shortened
from data_prep.task import Task
from workspace.errors import UserError
from workspace.paths import shown

# What shows nothing and breaks a control token's text: WORD JOINER, or where a token has that itself, the next.
JOINERS = ("\u2060", "\u200b", "\u2063", "\u2064", *map(chr, range(0xE0100, 0xE01F0)))
# Texts that some tokenizer, chat template or ms-swift itself takes for a command, whichever model is used.
KNOWN_CONTROL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<s>", "</s>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>", "[gMASK]", "<sop>"),
)
PROBES = 200  # reviews on which the template's joints are tried
GROUPS = 3  # of labels with the same first token, told in a sentence each
BROKEN_SHARE = 0.2  # of the probes: less is a matter of single reviews, not of the template


def control_pattern(control_tokens: Iterable[str] = ()) -> re.Pattern[str]:
    """What finds the control tokens of a tokenizer, and the known ones, in a text; the longest first."""
    tokens = sorted({token for token in (*KNOWN_CONTROL_TOKENS, *control_tokens) if len(token) > 1}, key=len)
    return re.compile("|".join(re.escape(token) for token in reversed(tokens)))


def neutralise(text: str, pattern: re.Pattern[str]) -> str:
    """`text` with its control tokens broken by an invisible character, so that the model reads them as plain text.

    What is seen stays the same, and doing it twice changes nothing more.
    """
    if not pattern.search(text):
        return text
    joiner = next(one for one in JOINERS if one not in pattern.pattern)
    while pattern.search(text):  # again, as a token may overlap one that was broken
        text = pattern.sub(lambda match: match[0][0] + joiner + match[0][1:], text)
    return text


def prompt_warnings(
    task: Task, tokenizer: ModelTokenizer | None, reviews: Sequence[str], frame: ChatFrame | None = None
) -> list[str]:
    """What is wrong with the task's prompt for this tokenizer, a sentence each; tried on the first of `reviews`.

    `frame` is that of the model's chat template. Without a tokenizer only the wording is checked.
    """
    warnings = _labels_in_template(task) + alike(task.label_words)
    if tokenizer is not None:
        warnings += _broken_joint(task, tokenizer, reviews[:PROBES])
        frame = frame or chat_frame(None, task.system)
        warnings += _shared_first_tokens(task, tokenizer, frame.before_answer)
        marks = [token for token in frame.control_tokens if token.startswith("<|")]
        if unknown := [token for token in marks if len(tokenizer.ids(token)) != 1]:
            warnings.append(
                f"{' and '.join(unknown)} is no token of this model: its chat template is not the one that it is to be "
                "tuned with"
            )
    return warnings


def check_label_tokens(task: Task, tokenizer: ModelTokenizer) -> None:
    """Raise `UserError` when the model reads two label words as the same tokens: it could never tell them apart."""
    words: dict[tuple[int, ...], str] = {}
    for label in task.label_words:
        if (other := words.setdefault(tuple(tokenizer.ids(label)), label)) != label:
            raise UserError(
                f"{shown(task.path)}: {APART}: the labels {other!r} and {label!r} are the same tokens to the model in "
                f"{shown(tokenizer.folder)}; put other words into `labels`"
            )


def _labels_in_template(task: Task) -> list[str]:
    # A label word inside another (好 in 不好) counts once, for the longer.
    longest_first = sorted(task.label_words, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    named = pattern.findall("\n".join([task.system, *_between_places(task)]))
    if not named:
        return []
    order = shortened(list(dict.fromkeys(named)), 20)
    if sorted(named) == sorted(task.label_words):
        return [
            f"the prompt {task.prompt} names the labels ({order}, in this order): an untuned model is steered to "
            "repeat one of them"
        ]
    return [f"the prompt {task.prompt} names {order} and not every label once: an untuned model is steered towards it"]


def _between_places(task: Task) -> list[str]:
    """The pieces of the prompt in use between the texts."""
    return re.split("|".join(map(re.escape, task.columns.places)), task.template)


def _broken_joint(task: Task, tokenizer: ModelTokenizer, reviews: Sequence[str]) -> list[str]:
    """Whether the character before the review costs the review's first word its token.

    Compares the tokens of template + first characters with those of the two apart; of several columns, the first's.
    """
    before = task.around[0]
    starts = [found[0] for review in reviews if (found := re.match("[\u4e00-\u9fff]{2}", review.strip()))]
    if not before or not starts:
        return []
    alone = len(tokenizer.ids(before))
    broken = [start for start in starts if len(tokenizer.ids(before + start)) > alone + len(tokenizer.ids(start))]
    if len(broken) < BROKEN_SHARE * len(starts):
        return []
    start = max(set(broken), key=lambda start: (broken.count(start), start))
    joined = len(tokenizer.ids(before + start)) - len(tokenizer.ids(before.rstrip()))
    what = "the space" if before[-1] == " " else repr(before[-1])
    place = min(task.columns.places, key=task.template.index)
    return [
        f"the prompt {task.prompt}: {what} before {place} breaks the first word of {len(broken)} in {len(starts)} "
        f"reviews ({start} is {_tokens(joined)} there, {_tokens(len(tokenizer.ids(start)))} by itself)"
    ]


def _shared_first_tokens(task: Task, tokenizer: ModelTokenizer, before: str) -> list[str]:
    at = len(tokenizer.ids(before))
    first: dict[int, list[str]] = {}
    for label in task.label_words:
        first.setdefault(tokenizer.ids(before + label)[at], []).append(label)
    groups = [labels for labels in first.values() if len(labels) > 1]
    said = [
        f"the labels {shortened(labels)} begin with the same token: the model's first token does not tell them apart; "
        "words that differ in their first character, put into `labels`, are learned sooner"
        for labels in groups[:GROUPS]
    ]
    if more := sum(map(len, groups[GROUPS:])):
        said.append(f"{more} more labels begin with the same token as another")
    return said


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"
