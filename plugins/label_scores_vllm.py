"""External plugin for `swift infer` with vLLM: the probability of each label word after the prompt, beside the text.

`swift infer … --infer_backend vllm --external_plugins plugins/label_scores_vllm.py` with the environment variable
LABEL_SCORES_VLLM naming a JSON file as plugins/label_scores.py reads it; a line a row is written as that plugin does.

vLLM gives the log probabilities of a prompt's own tokens: each prompt is run once more with each label word after it.
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

from label_scores import word_tokens  # beside this file
from swift.infer_engine import RequestConfig, VllmEngine
from vllm import SamplingParams

ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}  # 0: of the prompt's tokens alone


def run_words(engine: Any, prompts: list[list[int]], words: list[list[int]], adapter: Any) -> list[list[float]]:
    """[rows][words] log probabilities of `words` after each of `prompts`, both token ids."""
    asked = [(row, column) for row in range(len(prompts)) for column in range(len(words))]
    for row, column in asked:
        inputs = {"input_ids": prompts[row] + words[column]}
        engine._add_request(inputs, SamplingParams(**ONE_TOKEN), f"label-{row}-{column}", adapter_request=adapter)
    scores = [[0.0] * len(words) for _ in prompts]
    while engine.engine.has_unfinished_requests():
        for output in engine.engine.step():
            if output.finished:
                row, column = map(int, output.request_id.split("-")[1:3])
                steps = output.prompt_logprobs[len(prompts[row]) :]
                scores[row][column] = sum(step[token].logprob for step, token in zip(steps, words[column], strict=True))
    return scores


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
                part = [request for _, request in rows]
                for chunk in [[one] for one in part] if mode == "single" else [part]:
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
