"""External plugin for `swift infer` with vLLM: the probability of each label word after the prompt, next to the text.

`swift infer … --infer_backend vllm --external_plugins plugins/label_scores_vllm.py` with the environment variable
LABEL_SCORES_VLLM naming a JSON file as plugins/label_scores.py reads it; the same line a row is written.

How words are scored is in vllm_words.py. What vLLM has of a prompt by then (prefix caching) serves the text, too.
Rows of the mode "score" answer with a label word alone (constrained choice); rows of the mode "single" are run alone.
"""

import copy
import re
import time
from itertools import groupby
from typing import Any

from score_lines import KEY, STRIP_NEWLINE, KeyedRow, ScoreFile, chat_sha256  # next to this file
from swift.infer_engine import RequestConfig, VllmEngine
from vllm import SamplingParams
from vllm_words import ONE_TOKEN, ROWS, Ask, named_logprobs, word_logprobs  # next to this file
from word_tree import word_tokens  # next to this file


def asked_of(engine: Any, adapter: Any) -> Ask:
    """What asks ms-swift's vLLM engine for the log probabilities of named tokens."""

    def ask(prompts: list[list[int]], tokens: list[list[int]]) -> list[dict[int, float]]:
        for place, (prompt, wanted) in enumerate(zip(prompts, tokens, strict=True)):
            settings = SamplingParams(**ONE_TOKEN, logprob_token_ids=wanted)
            engine._add_request({"input_ids": prompt}, settings, f"label-{place}", adapter_request=adapter)
        found: list[dict[int, float]] = [{}] * len(prompts)
        while engine.engine.has_unfinished_requests():
            for output in engine.engine.step():
                if output.finished:
                    place = int(output.request_id.split("-")[1])
                    found[place] = named_logprobs(output)
        return found

    return ask


def scoring_engine(base: type, scores: ScoreFile) -> type:
    """A subclass of ms-swift's vLLM engine `base` whose `infer` writes label scores as well."""

    class ScoringEngine(base):
        """ms-swift's vLLM engine, with label scores written next to each answer."""

        def infer(self, infer_requests: list[Any], request_config: Any = None, *args: Any, **kwargs: Any) -> list[Any]:
            """Answer the requests: rows of one mode at a time, those to be run alone one by one."""
            answers = []
            for mode, rows in groupby(infer_requests, key=lambda request: scores.modes[request[KEY]]):
                part, size = list(rows), 1 if mode == "single" else ROWS
                for first in range(0, len(part), size):
                    chunk = part[first : first + size]
                    answers += self.score_and_answer(mode, chunk, request_config, *args, **kwargs)
            return answers

        def score_and_answer(
            self, mode: str, requests: list[Any], request_config: Any, *args: Any, **kwargs: Any
        ) -> list[Any]:
            """Score the label words, then answer as the base class does."""
            self.template.set_mode("vllm")
            self.template.strip_newline = STRIP_NEWLINE
            encoded, faults = self._batch_encode(copy.deepcopy(requests), strict=True)
            if faults:
                raise ValueError(f"rows that cannot be encoded: {faults}")
            rows = [
                KeyedRow(request[KEY], chat_sha256(request["messages"]), list(row["input_ids"]))
                for request, row in zip(requests, encoded, strict=True)
            ]
            words = word_tokens(self.tokenizer, scores.labels)
            begin = time.perf_counter()
            ask = asked_of(self, kwargs.get("adapter_request"))
            logprobs = word_logprobs(ask, [row.tokens for row in rows], words).tolist()
            scored = time.perf_counter()
            if mode == "score":
                request_config = copy.deepcopy(request_config or RequestConfig())
                request_config.structured_outputs_regex = "|".join(map(re.escape, scores.labels))
            answers = super().infer(requests, request_config, *args, **kwargs)
            generated = None if mode == "score" else (time.perf_counter() - scored) / len(rows)
            reasons = None if mode == "score" else [answer.choices[0].finish_reason for answer in answers]
            scores.append(rows, logprobs, [(scored - begin) / len(rows)] * len(rows), generated, reasons)
            return answers

    return ScoringEngine


if scores := ScoreFile.named_by("LABEL_SCORES_VLLM"):
    import swift.infer_engine

    swift.infer_engine.VllmEngine = scoring_engine(VllmEngine, scores)  # where ms-swift takes its engine from
