"""External plugin for `swift infer` with vLLM: the probability of each label word after the prompt, beside the text.

`swift infer … --infer_backend vllm --external_plugins plugins/label_scores_vllm.py` with the environment variable
LABEL_SCORES_VLLM naming a JSON file as plugins/label_scores.py reads it; a line a row is written as that plugin does.

vLLM gives the log probabilities of named tokens after a prompt. Where label words go on, the prompt is asked again with
their beginning after it. By then vLLM has the prompt's keys and values (prefix caching), for these and for the text.
Rows of the mode "score" answer with a label word alone (constrained choice); rows of the mode "single" are run alone.
"""

import copy
import hashlib
import json
import os
import time
from itertools import groupby
from pathlib import Path
from typing import Any

from swift.infer_engine import RequestConfig, VllmEngine
from vllm import SamplingParams
from word_scores import word_tokens  # beside this file

ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
ROWS = 256  # prompts at a time: no more run side by side by default, and what was computed is still there


def next_tokens(words: list[list[int]]) -> dict[tuple[int, ...], list[int]]:
    """What `words` go on with after each of their beginnings, the shorter first; the empty one is the prompt itself."""
    found: dict[tuple[int, ...], set[int]] = {}
    for word in words:
        for step, token in enumerate(word):
            found.setdefault(tuple(word[:step]), set()).add(token)
    return {head: sorted(tokens) for head, tokens in sorted(found.items(), key=lambda item: (len(item[0]), item[0]))}


def run_words(engine: Any, prompts: list[list[int]], words: list[list[int]], adapter: Any) -> list[list[float]]:
    """[rows][words] log probabilities of `words` after each of `prompts`, both token ids."""
    steps: list[dict[tuple[int, ...], float]] = [{} for _ in prompts]  # of each beginning of a word, its last token's
    heads = next_tokens(words)
    for length in sorted({len(head) for head in heads}):
        asked = {
            f"label-{row}-{column}": (row, head)
            for row in range(len(prompts))
            for column, head in enumerate(heads)
            if len(head) == length
        }
        for name, (row, head) in asked.items():
            inputs = {"input_ids": [*prompts[row], *head]}
            wanted = SamplingParams(**ONE_TOKEN, logprob_token_ids=heads[head])
            engine._add_request(inputs, wanted, name, adapter_request=adapter)
        while engine.engine.has_unfinished_requests():
            for output in engine.engine.step():
                if output.finished:
                    row, head = asked["-".join(output.request_id.split("-")[:3])]
                    found = output.outputs[0].logprobs[0]
                    steps[row] |= {(*head, token): found[token].logprob for token in heads[head]}
    return [[sum(row[tuple(word[: end + 1])] for end in range(len(word))) for word in words] for row in steps]


def scoring_engine(base: type, config: dict[str, Any]) -> type:
    """A subclass of ms-swift's vLLM engine `base` whose `infer` writes label scores as well."""
    modes = [mode for mode, rows in config["modes"] for _ in range(rows)]
    out = Path(config["out"])

    class ScoringEngine(base):
        """ms-swift's vLLM engine, with label scores written beside each answer."""

        rows_done = 0

        def infer(self, infer_requests: list[Any], request_config: Any = None, *args: Any, **kwargs: Any) -> list[Any]:
            """Answer the requests: rows of one mode at a time, those to be run alone one by one."""
            start = ScoringEngine.rows_done
            ScoringEngine.rows_done += len(infer_requests)
            told = list(zip(modes[start : start + len(infer_requests)], infer_requests, strict=True))
            answers = []
            for mode, rows in groupby(told, key=lambda pair: pair[0]):
                part, size = [request for _, request in rows], 1 if mode == "single" else ROWS
                for first in range(0, len(part), size):
                    chunk = part[first : first + size]
                    answers += self.score_and_answer(mode, chunk, request_config, *args, **kwargs)
            return answers

        def score_and_answer(
            self, mode: str, requests: list[Any], request_config: Any, *args: Any, **kwargs: Any
        ) -> list[Any]:
            """Score the label words, then answer as the base class does."""
            self.template.set_mode("vllm")
            encoded, faults = self._batch_encode(copy.deepcopy(requests), strict=True)
            if faults:
                raise ValueError(f"rows that cannot be encoded: {faults}")
            prompts = [list(row["input_ids"]) for row in encoded]
            words = word_tokens(self.tokenizer, config["labels"])
            begin = time.perf_counter()
            scores = run_words(self, prompts, words, kwargs.get("adapter_request"))
            scored = time.perf_counter()
            if mode == "score":
                request_config = copy.deepcopy(request_config or RequestConfig())
                request_config.structured_outputs_regex = "|".join(config["labels"])
            answers = super().infer(requests, request_config, *args, **kwargs)
            spent = None if mode == "score" else (time.perf_counter() - scored) / len(requests)
            with open(out, "a", encoding="utf-8") as stream:
                for prompt, row in zip(prompts, scores, strict=True):
                    line = {
                        "prompt_tokens": len(prompt),
                        "prompt_sha256": hashlib.sha256(json.dumps(prompt).encode()).hexdigest(),
                        "score_seconds": (scored - begin) / len(requests),
                        "generate_seconds": spent,
                        "logprobs": dict(zip(config["labels"], row, strict=True)),
                    }
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            return answers

    return ScoringEngine


def install() -> None:
    """Put the scoring engine in the place where ms-swift takes its vLLM engine from."""
    import swift.infer_engine

    config = json.loads(Path(os.environ["LABEL_SCORES_VLLM"]).read_text(encoding="utf-8"))
    swift.infer_engine.VllmEngine = scoring_engine(VllmEngine, config)


if "LABEL_SCORES_VLLM" in os.environ:
    install()
