"""What a model's chat template puts around system prompt, question and answer, as ms-swift encodes a row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.chat.tokenizer import ModelTokenizer
from workspace.errors import UserError
from workspace.swift_registry import ANSWER_MARK, FIRST_TOKENS, QUESTION_MARK, SYSTEM_MARK, Part, registry

CONTROL = re.compile(r"<\|[^<>|\s]+\|>|</?[a-z_]+>|<｜[^<>]+｜>|\[/?[A-Z_]+\]")


@dataclass(frozen=True)
class ChatFrame:
    """The parts of a row, in which marks stand for question and answer; numbers are tokens that a text has not.

    ms-swift encodes each part apart: no token reaches from one into the next.
    """

    parts: tuple[str | tuple[int, ...], ...]

    def text(self, question: str, answer: str) -> str:
        """The text of a whole row."""
        return "".join(_filled(part, question, answer) for part in self.parts if isinstance(part, str))

    def around(self, question: str, answer: str) -> str:
        """The text of the part that holds the question: the only one whose tokens depend on it."""
        return _filled(next(part for part in self._texts if QUESTION_MARK in part), question, answer)

    def beside(self, answer: str, tokenizer: ModelTokenizer) -> int:
        """How many tokens the other parts have."""
        count = 0
        for part in self.parts:
            if not isinstance(part, str):
                count += sum(len(tokenizer.first_tokens) if one == FIRST_TOKENS else 1 for one in part)
            elif QUESTION_MARK not in part:
                count += len(tokenizer.ids(_filled(part, "", answer)))
        return count

    @property
    def before_answer(self) -> str:
        """What stands before the answer in its part."""
        return next(part for part in self._texts if ANSWER_MARK in part).partition(ANSWER_MARK)[0]

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The texts that the template marks turns with."""
        return tuple(sorted({found for part in self._texts for found in CONTROL.findall(part)}))

    @property
    def _texts(self) -> list[str]:
        return [part for part in self.parts if isinstance(part, str)]


def check_template(template: str, place: str) -> None:
    """Raise `UserError` for a template that is not known; `place` is where it is named."""
    if template not in registry().chats:
        raise UserError(f"{place}: ms-swift has no template {template}, take one of its names, such as qwen2_5")


def chat_frame(template: str | None, system: str, place: str = "--template") -> ChatFrame:
    """The frame of ms-swift's `template` with this system prompt, which may be empty; without one, Qwen's ChatML.

    `place` is where it is named. Raises `UserError` as `check_template` does, and for a template that has no place for
    a system prompt.
    """
    if template is None:
        return _chatml(system)
    check_template(template, place)
    chat = registry().chats[template]
    if chat.without is None:
        return _chatml(system)  # counted too short or too long by some tokens: plan.resolve leaves room
    if not system:
        return _frame(chat.without)
    if chat.with_system is None:
        raise UserError(
            f"the template {template} has no place for a system prompt: take `system:` out of task.yaml, or put its "
            "text into the prompts"
        )
    return _frame([part.replace(SYSTEM_MARK, system) if isinstance(part, str) else part for part in chat.with_system])


def is_known(template: str) -> bool:
    """Whether ms-swift could be asked how the template writes a row."""
    return (chat := registry().chats.get(template)) is not None and chat.without is not None


def _frame(parts: Sequence[Part]) -> ChatFrame:
    return ChatFrame(tuple(part if isinstance(part, str) else tuple(part) for part in parts))


def _chatml(system: str) -> ChatFrame:
    turn = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    user = f"{turn}<|im_start|>user\n{QUESTION_MARK}<|im_end|>\n<|im_start|>assistant\n"
    return ChatFrame((user, f"{ANSWER_MARK}<|im_end|>\n"))


def _filled(part: str, question: str, answer: str) -> str:
    before, mark, after = part.partition(QUESTION_MARK)
    return before.replace(ANSWER_MARK, answer) + question * bool(mark) + after.replace(ANSWER_MARK, answer)
