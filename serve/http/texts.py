"""From what a client sends to the text that the classifier reads."""

from collections.abc import Mapping
from typing import Any

from data_prep.chat.parts import joined
from data_prep.label_words import shortened
from serve.classifier_file import ClassifierFile
from serve.http.limits import Limits
from serve.http.refusal import Refusal


class Texts:
    """What counts as a text of one classifier: a string, or an object with a text for each of its columns."""

    def __init__(self, file: ClassifierFile, limits: Limits) -> None:
        self.limits = limits
        prompt = file.prompt
        self.columns, self.system = prompt.columns, prompt.system
        places = [place.strip("{}") for place in prompt.places]
        self.names = dict(zip(places, self.columns, strict=True)) | {name: name for name in self.columns}
        self.around = ("", "")  # what stands before and after the one text in the prompt
        if len(places) == 1:
            before, _, after = prompt.template.partition(f"{{{places[0]}}}")
            self.around = before.lstrip(), after.rstrip()

    def read(self, value: Any, param: str) -> str:
        """The text of a string or an object. Raises `Refusal` (422) for what is none, is empty or too long."""
        if isinstance(value, Mapping):
            return joined(self._by_column(value, param))
        if not isinstance(value, str):
            raise Refusal(422, f"{param} is no text{self._expected}", param)
        if len(self.columns) > 1:
            raise Refusal(422, f"{param} is one text, and this classifier reads several{self._expected}", param)
        return self._checked(self._unwrapped(value), param)

    def _by_column(self, value: Mapping[Any, Any], param: str) -> list[str]:
        if unknown := [str(name)[:40] for name in value if name not in self.names]:
            raise Refusal(422, f"{param} has unknown keys: {shortened(unknown)}{self._expected}", param)
        by_column = {self.names[name]: text for name, text in value.items()}
        if missing := [name for name in self.columns if name not in by_column]:
            raise Refusal(422, f"{param} lacks {shortened(missing)}{self._expected}", param)
        texts = [by_column[name] for name in self.columns]
        if not all(isinstance(text, str) for text in texts):
            raise Refusal(422, f"{param} holds what is no text{self._expected}", param)
        self._checked("".join(texts), param)
        return texts

    def _unwrapped(self, text: str) -> str:
        """The review within the prompt that the model was tuned with, where a client sends the whole prompt."""
        (before, after), whole = self.around, text.strip()
        if (before or after) and whole.startswith(before) and whole.endswith(after):
            return whole.removeprefix(before).removesuffix(after) or text
        return text

    def _checked(self, text: str, param: str) -> str:
        if not text.strip():
            raise Refusal(422, f"{param} is empty: send a text", param)
        if len(text) > self.limits.characters:
            most = f"{len(text):,} characters, of which {self.limits.characters:,} are read at most: send a part of it"
            raise Refusal(422, f"{param} has {most}", param)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refusal(
                422, f"{param} holds half of a character (a lone surrogate): send whole ones", param
            ) from None
        return text

    @property
    def _expected(self) -> str:
        if len(self.columns) > 1:
            return f": send an object with the texts {', '.join(self.columns)}"
        return f": send a text, or an object with the text {self.columns[0]}"
