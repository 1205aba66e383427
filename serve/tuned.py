"""A tuned language model asked in this process: the probability of each label, as `swift infer` wrote it before.

Plain transformers and peft, with the project's own plugins, which define what a label's probability is
(plugins/word_tree.py); ms-swift, whose import takes some fourteen seconds, is not needed.
"""

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.chat.tokenizer import ModelTokenizer
from plan.cpu_kernels import cpu_precision
from plan.hardware import Machine, computing_device, this_machine
from plan.resolve_infer import answers_dtype
from plugins import grouped_attention
from plugins.cpu.whole_batches import multiply_whole_batches
from plugins.prompt_cache import sees_all
from plugins.word_scores import (
    MIN_SHARED_TOKENS,
    PASS_TOKENS,
    merge_adapter,
    pad_left,
    score_words,
    shared_prefix,
)
from serve.classifier_file import ClassifierFile, Engine, Prompt
from serve.encoding import Encoded, PromptEncoder, Scored, shares_of
from workspace.child_process import OutOfMemory
from workspace.errors import UserError, is_want_of_memory
from workspace.gate import check_checkpoint, check_model
from workspace.paths import shown
from workspace.safetensors_header import is_whole, read_header

if TYPE_CHECKING:
    from serve.by_vllm import VllmScorer

GPU_TOKENS = 32_768  # in one pass on a GPU; halved where its memory does not hold that
PASS_COST = 60  # tokens that could be read in the time that a pass takes beside its tokens; measured: 51 on one core
PROBES = ("a", "好", "1", " ", "。", "\n")  # texts that begin differently
FloatArray = NDArray[np.float64]


class TunedScorer:
    """A model, with its adapter where that is apart, and the prompt that it was tuned with."""

    def __init__(
        self,
        model: Path,
        prompt: Prompt,
        labels: Sequence[str],
        adapter: Path | None = None,
        head: bool = False,
        dtype: str | None = None,
        tokenizer: Path | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Load the model in the folder `model`; with `head` a classification head answers, in the order of `labels`.

        `tokenizer`: the folder that has it, where it is not `model`. `dtype` is torch's name of what the answers were
        measured in, which a GPU computes in where it can (plan.resolve_infer.answers_dtype); a CPU computes in float32.
        `machine`: what it is computed on, by default this one.
        Raises `UserError` for a model that brings code or cannot be loaded, `OutOfMemory` for one that is too large.
        """
        check_model(model)
        if adapter:
            check_checkpoint(adapter)
        self.labels, self.head = tuple(labels), head
        machine = machine or this_machine()
        self.device = torch.device(computing_device(machine))
        reader = ModelTokenizer(tokenizer or model)
        self.encoder = PromptEncoder(prompt, labels, reader, head)
        self.words = [reader.ids(label) for label in labels]  # as plugins/word_tree.py's word_tokens
        if self.device.type == "cpu":
            _by_the_fastest_products(machine)
        dtype = answers_dtype(dtype, model, machine)
        try:
            self.model = _loaded(model, adapter, len(labels) if head else None, dtype, self.device)
            self._prefix, self._past = self._shared()
        except Exception as error:
            if not is_want_of_memory(error):
                raise
            raise OutOfMemory(
                f"the model in {shown(model)} does not fit in memory: end other programs, or use a machine with more"
            ) from None
        self._pad = self.model.config.pad_token_id or 0
        self._together = PASS_TOKENS if self.device.type == "cpu" else GPU_TOKENS

    def score(self, texts: Sequence[str], advance: Callable[[int], object] = lambda rows: None) -> Scored:
        """The labels' probabilities after each text, uncalibrated; of several columns the texts are joined by
        data_prep.chat.parts.

        Raises `UserError` as `probabilities` does.
        """
        encoded = self.encoder.encode(texts)
        return Scored(self.probabilities(encoded, advance), encoded.cut, encoded.lengths)

    def probabilities(self, encoded: Encoded, advance: Callable[[int], object] = lambda rows: None) -> FloatArray:
        """[prompts, labels] probabilities, uncalibrated; `advance` is told how many rows were done after each pass.

        Raises `UserError` where the model gives no finite probabilities, `OutOfMemory` where memory does not hold one
        text.
        """
        found = np.empty((len(encoded.tokens), len(self.labels)))
        for rows, probabilities in self.by_pass(encoded):
            found[rows] = probabilities
            advance(len(rows))
        return found

    def by_pass(self, encoded: Encoded) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
        """The prompts that are run together, and their [prompts, labels] probabilities, as each pass is done.

        Raises `UserError` as `probabilities` does.
        """
        for rows in self._batches(encoded.tokens, encoded.lengths):
            logprobs = self._logprobs([encoded.tokens[row] for row in rows])
            yield rows, shares_of(logprobs)

    def _batches(self, prompts: Sequence[list[int]], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows that are run together: neighbours in length, those that begin with the prefix apart from others."""
        size = len(self._prefix)
        begins = np.array([one[:size] == self._prefix for one in prompts], bool)
        for rows, held in ((np.flatnonzero(begins), size), (np.flatnonzero(~begins), 0)):
            rows = rows[np.argsort(lengths[rows], kind="stable")]
            start = 0
            while start < len(rows):  # `self._together` may become smaller meanwhile
                together = self._together
                for part in least_padded(lengths[rows[start:]] - held, together, PASS_COST):
                    yield rows[start : start + part]
                    start += part
                    if self._together != together:
                        break

    @torch.inference_mode()
    def _logprobs(self, prompts: list[list[int]]) -> FloatArray:
        """[prompts, labels] log P*; in halves where memory does not hold them together."""
        try:
            found = self._by_head(prompts) if self.head else self._by_words(prompts)
            return found.float().cpu().numpy().astype(np.float64)
        except Exception as error:
            if not is_want_of_memory(error):
                raise
            if len(prompts) == 1:
                raise OutOfMemory(
                    f"memory does not hold the model and one text of {len(prompts[0])} tokens: end other programs, or "
                    "use a machine with more"
                ) from None
        gc.collect()
        torch.cuda.empty_cache()
        self._together = max(1, self._together // 2)
        half = len(prompts) // 2
        return np.concatenate([self._logprobs(prompts[:half]), self._logprobs(prompts[half:])])

    def _by_words(self, prompts: list[list[int]]) -> torch.Tensor:
        prefix, past = self._prefix, None
        if prefix and prompts[0][: len(prefix)] == prefix:
            past = copy.deepcopy(self._past)
            past.batch_repeat_interleave(len(prompts))
        else:
            prefix = []
        ids, attended = pad_left([one[len(prefix) :] for one in prompts], self._pad, self.device)
        mask = torch.cat([attended.new_ones(len(prompts), len(prefix)), attended], 1)
        return score_words(self.model, ids, mask, self.words, past)[0]

    def _by_head(self, prompts: list[list[int]]) -> torch.Tensor:
        width = max(map(len, prompts))  # padded on the right: the head reads the last token that is no padding
        ids = torch.tensor([one + [self._pad] * (width - len(one)) for one in prompts], device=self.device)
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in prompts], device=self.device)
        return torch.log_softmax(self.model(input_ids=ids, attention_mask=mask).logits.float(), -1)

    @torch.inference_mode()
    def _shared(self) -> tuple[list[int], Any]:
        """The tokens that prompts begin with whatever the text, and their cache; none where that would not pay."""
        prefix = shared_prefix(self.encoder.encode(PROBES).tokens)
        if self.head or len(prefix) < MIN_SHARED_TOKENS or not sees_all(self.model):
            return [], None
        tokens = torch.tensor([prefix], device=self.device)
        return prefix, self.model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values


def load_scorer(
    engine: Engine, file: ClassifierFile, model: Path, tokenizer: Path, adapter: Path | None
) -> "TunedScorer | VllmScorer":
    """The language model in the folder `model`, run by `engine`. Raises `UserError` as both do."""
    if engine == "transformers":
        return TunedScorer(model, file.prompt, file.labels, adapter, file.kind == "head", file.dtype, tokenizer)
    if file.kind == "head":
        raise UserError("vLLM is asked for words here, and this model answers by a head: leave --engine out")
    from serve.by_vllm import VllmScorer

    return VllmScorer(model, file.prompt, file.labels, adapter, file.dtype, tokenizer)


def least_padded(lengths: NDArray[np.int64], tokens: int, cost: int) -> list[int]:
    """How many neighbours in ascending `lengths` (n,) to run together each time, for the least time in all.

    A group takes as long as its tokens, padded to its longest, and `cost` more; it has no more than `tokens` of them,
    unless it is a single row. By dynamic programming over where the last group begins.
    """
    least, begins = np.zeros(len(lengths) + 1), np.zeros(len(lengths) + 1, np.int64)
    for end in range(1, len(lengths) + 1):
        longest = int(lengths[end - 1])
        first = max(0, end - max(1, tokens // max(1, longest)))
        found = least[first:end] + longest * np.arange(end - first, 0, -1)
        begins[end] = first + int(found.argmin())
        least[end] = found.min() + cost
    groups, end = [], len(lengths)
    while end:
        groups.append(end - int(begins[end]))
        end = int(begins[end])
    return groups[::-1]


def _by_the_fastest_products(machine: Machine) -> None:
    """As the plugins do in `swift infer`: the measured way of multiplying, and no copies of frozen weights or keys."""
    multiply_whole_batches()
    grouped_attention.install()
    precision = cpu_precision(machine)
    if precision and precision.by_onednn:
        torch.set_float32_matmul_precision("medium")  # plugins/cpu/onednn_matmul.py


def _loaded(model: Path, adapter: Path | None, classes: int | None, dtype: str, device: torch.device) -> Any:
    """The model with its adapter's weights added, ready to answer."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    given: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "attn_implementation": "sdpa"}
    kind = "AutoModelForCausalLM"
    if classes is not None:
        kind, given["num_labels"] = "AutoModelForSequenceClassification", classes
    check_room(model, dtype, device)
    loaded = getattr(transformers, kind).from_pretrained(model, **given)
    if adapter:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, adapter)
    loaded = loaded.to(device).eval()
    if loaded.config.pad_token_id is None:
        loaded.config.pad_token_id = 0
    merge_adapter(loaded)
    return loaded


def check_room(model: Path, dtype: str, device: torch.device) -> None:
    """Raise `MemoryError` where the weights alone are more than what is free: Linux would kill the process."""
    import psutil

    files = list(model.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    if all(map(is_whole, files)):  # whatever they are stored in
        size = (4 if dtype == "float32" else 2) * sum(read_header(path).parameters for path in files)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if size > free:
        raise MemoryError
