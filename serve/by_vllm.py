"""A tuned language model asked by vLLM in this process: for many texts on a GPU, in an environment that has vLLM.

The same prompts and the same definition of a label's probability as serve/tuned.py (plugins/word_tree.py).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.chat.tokenizer import ModelTokenizer
from plan.hardware import Machine, one_gpu, this_machine
from plan.resolve_infer import answers_dtype, vllm_rank, vllm_share
from plugins.vllm_words import ONE_TOKEN, ROWS, named_logprobs, word_logprobs
from serve.classifier_file import Prompt
from serve.encoding import Encoded, PromptEncoder, shares_of
from train.checkpoints import ADAPTER_CONFIG
from workspace.child_process import OutOfMemory
from workspace.errors import UserError, is_want_of_memory
from workspace.gate import check_checkpoint, check_model
from workspace.paths import shown
from workspace.records import read

MEMORY = 0.8  # the share of a GPU's that vLLM takes
NONE = (
    "vLLM is not installed here: put REQUIREMENTS=requirements-vllm.txt before the command, which fills an environment "
    "of its own (on a CPU leave --engine out)"
)


@dataclass(frozen=True)
class AdapterSettings:
    """Of adapter_config.json."""

    r: int


class VllmScorer:
    """A model that answers in words, with its adapter where that is apart, and the prompt that it was tuned with."""

    def __init__(
        self,
        model: Path,
        prompt: Prompt,
        labels: Sequence[str],
        adapter: Path | None = None,
        dtype: str | None = None,
        tokenizer: Path | None = None,
    ) -> None:
        """Load the model in the folder `model`; the rest as serve.tuned.TunedScorer has it.

        Raises `UserError` where vLLM is not installed, for a model that brings code, and for one that vLLM cannot load.
        """
        check_model(model)
        if adapter:
            check_checkpoint(adapter)
        self.labels = tuple(labels)
        machine = this_machine()
        os.environ.update(one_gpu(machine))  # before CUDA is asked: the best card alone
        self.device = torch.device("cuda" if machine.gpu else "cpu")
        reader = ModelTokenizer(tokenizer or model)
        self.encoder = PromptEncoder(prompt, labels, reader)
        self.words = [reader.ids(label) for label in labels]
        self._settings, self._engine, self._adapter = _loaded(
            model, tokenizer or model, prompt.max_length + 1, adapter, dtype, machine
        )

    def by_pass(self, encoded: Encoded) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The prompts that are run together, and their [prompts, labels] probabilities, as each pass is done.

        Raises `UserError` where the model gives no finite probabilities.
        """
        for start in range(0, len(encoded.tokens), ROWS):
            rows = np.arange(start, min(start + ROWS, len(encoded.tokens)))
            logprobs = word_logprobs(self._ask, [encoded.tokens[row] for row in rows], self.words).numpy()
            yield rows, shares_of(logprobs.astype(np.float64))

    def _ask(self, prompts: list[list[int]], tokens: list[list[int]]) -> list[dict[int, float]]:
        try:
            answers = self._engine.generate(
                [{"prompt_token_ids": prompt} for prompt in prompts],
                [self._settings(**ONE_TOKEN, logprob_token_ids=wanted) for wanted in tokens],
                use_tqdm=False,
                lora_request=self._adapter,
            )
        except (ValueError, RuntimeError) as error:  # an adapter is looked at when it is first asked
            _raise_want_of_memory(error)
            raise UserError(f"vLLM does not answer by this model ({error!s:.200}): leave --engine out") from error
        return [named_logprobs(answer) for answer in answers]


def _loaded(
    model: Path, tokenizer: Path, tokens: int, adapter: Path | None, dtype: str | None, machine: Machine
) -> tuple[Any, Any, Any]:
    """What settings of a request are made by, vLLM's engine, and the adapter as it names it. Raises `UserError`."""
    on_cpu = machine.gpu is None
    # In this process: an engine in one of its own would outlive a server that is killed.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # nothing is sent to anybody
    if on_cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; a share of all memory otherwise
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError:
        raise UserError(NONE) from None
    given: dict[str, Any] = {}
    lora = None
    if adapter:
        rank = read(adapter / ADAPTER_CONFIG, AdapterSettings, "export the run again").r
        given = {"enable_lora": True, "max_lora_rank": vllm_rank(rank)}
        lora = LoRARequest("adapter", 1, str(adapter))
    try:
        engine = LLM(
            model=str(model),
            tokenizer=str(tokenizer),
            # Left to itself it rounds float32; its kernels for an adapter take half precision alone.
            dtype=answers_dtype(dtype, model, machine, half_alone=adapter is not None),
            max_model_len=tokens,
            gpu_memory_utilization=vllm_share(MEMORY, machine.best_free),
            enforce_eager=on_cpu,  # compiling takes longer than it saves there
            enable_prefix_caching=True,
            **given,
        )
    except (ValueError, RuntimeError, OSError) as error:
        _raise_want_of_memory(error)
        told = str(error).strip().splitlines()
        what = f"{told[-1] if told else type(error).__name__:.200}"
        raise UserError(f"vLLM does not load {shown(model)} ({what}): leave --engine out") from error
    return SamplingParams, engine, lora


def _raise_want_of_memory(error: Exception) -> None:
    """Raise `OutOfMemory` where that is what vLLM says."""
    if is_want_of_memory(error):
        raise OutOfMemory(
            "vLLM has too little memory for this model: end other programs, or leave --engine out"
        ) from error
