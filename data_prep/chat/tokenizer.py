"""A model's tokenizer as training will use it, without the seconds that loading transformers takes each time."""

import importlib.metadata
import itertools
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data_prep.chat.token_bound import TokenBound, is_byte_level
from workspace.errors import UserError
from workspace.files import sha256_file, sha256_json, write_text
from workspace.gate import check_model
from workspace.paths import cache_folder, shown
from workspace.progress import progress

FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")  # all that decides how text becomes tokens
BATCH = 2_000  # texts encoded at a time


class ModelTokenizer:
    """The tokenizer of a model folder.

    transformers puts parts of its own in place of those in tokenizer.json for some kinds of model (for qwen2 the
    pre-tokenizer: one review in three of the demo model comes out longer). What it makes of them is what ms-swift
    trains on, so that is used here, and kept in the cache. A folder with nothing but tokenizer.json is used as it is.
    """

    def __init__(self, folder: Path):
        """Load the tokenizer. Raises UserError where it is missing or broken, and for a model that brings code."""
        self.folder = Path(folder)
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{shown(self.folder)} has no tokenizer.json: give a model's folder with --model DIR")
        check_model(self.folder)
        self.sha256 = sha256_file(path)
        self.identity = self.sha256
        try:
            whole = (self.folder / "config.json").is_file()
            self._tokenizer = Tokenizer.from_str(self._as_transformers_loads_it() if whole else path.read_text("utf-8"))
        except Exception as error:  # the Rust side raises bare Exceptions
            raise UserError(
                f"the tokenizer in {shown(self.folder)} cannot be read ({error}): fetch it again"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder().values()
        self.control_tokens = tuple(sorted(token.content for token in added if token.special))

    def ids(self, text: str) -> list[int]:
        """The tokens of a text; control tokens in it are recognised, none is added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each of many texts, as `ids` has them."""
        return [tokens.ids for tokens in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    @cached_property
    def first_tokens(self) -> tuple[int, ...]:
        """The tokens that it puts before a text that is a whole prompt by itself."""
        whole, text = self._tokenizer.encode("a").ids, self.ids("a")
        return tuple(whole[: next((at for at in range(len(whole)) if whole[at : at + len(text)] == text), 0)])

    def bound(self) -> TokenBound | None:
        """The bound on the tokens of a text, without counting; None where the kind of tokenizer does not allow that."""
        parts = json.loads(self._tokenizer.to_str())
        return TokenBound(parts, self.control_tokens) if is_byte_level(parts) else None

    def count(self, texts: Iterable[str], total: int) -> np.ndarray:
        """The number of tokens of each of `total` texts: int64, shape (total,). Long lists show a progress bar."""
        counts = np.empty(total, np.int64)
        texts, done = iter(texts), 0
        with progress(total, "prep: counting tokens") as bar:
            while batch := list(itertools.islice(texts, BATCH)):
                encoded = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                counts[done : done + len(batch)] = [len(tokens) for tokens in encoded]
                done += len(batch)
                bar.update(len(batch))
        return counts

    def _as_transformers_loads_it(self) -> str:
        """The tokenizer.json that transformers really uses, from the cache; without one it takes seconds each time."""
        hashes = {name: sha256_file(self.folder / name) for name in FILES if (self.folder / name).is_file()}
        self.identity = sha256_json(hashes | {"transformers": importlib.metadata.version("transformers")})
        path = cache_folder() / "tokenizers" / f"{self.identity}.json"
        with suppress(OSError):
            return path.read_text(encoding="utf-8")
        from transformers import AutoTokenizer

        advice = logging.getLogger("transformers")  # on the tokenizer, which ms-swift offers no way to take
        level = advice.level
        advice.setLevel(logging.ERROR)
        try:
            loaded = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        finally:
            advice.setLevel(level)
        text = loaded.backend_tokenizer.to_str()
        with suppress(OSError):  # a cache that cannot be written is no fault of the model's
            write_text(path, text)
        return text
