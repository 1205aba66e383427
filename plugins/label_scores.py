"""External plugin for `swift infer`: the probability of each label word after the prompt, next to the generated text.

`swift infer … --external_plugins plugins/label_scores.py` with the environment variable LABEL_SCORES naming a JSON
file {"template", "labels", "modes", "out"}: the chat template's class is registered again with a `generate` that runs
each prompt once, writes one line a row to `out` (`ScoreLine` in score_lines.py), and continues generation from the same
key/value cache.

`modes` names the keys of the rows (their `channel`) that are answered in each mode:
  generate  score the label words, then generate text, no more than answer_end.py finds worth reading
  single    the same, one row at a time (to check that the batch makes no difference)
  score     score only; the "answer" is the most probable label word
Tokens that all rows of a batch begin with (system prompt, few-shot examples) are run once.
"""

import copy
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from answer_end import AnswerEnd  # next to this file
from grouped_attention import install  # next to this file
from prompt_cache import can_be_cropped, new_cache, sees_all  # next to this file
from score_lines import STRIP_NEWLINE, FinishReason, KeyedRow, KeyedRows, ScoreFile  # next to this file
from swift.template import register_template
from swift.template.register import TEMPLATE_MAPPING
from transformers import StoppingCriteriaList
from word_scores import (  # next to this file
    MIN_SHARED_TOKENS,
    PASS_TOKENS,
    joined,
    merge_adapter,
    pad_left,
    passes,
    score_words,
    shared_prefix,
)
from word_tree import word_tokens  # next to this file


def scoring_template(base: type, scores: ScoreFile) -> type:
    """A subclass of the template class `base` whose `generate` writes label scores as well."""

    def turn_of(place: int, row: KeyedRow) -> tuple[str, str, int]:
        """Neighbouring rows with the same turn are run together: those of one purpose, but each `single` row alone.

        In one turn with others, rows with examples would share no more with them than the system prompt, and each read
        the examples anew.
        """
        mode = scores.modes[row.key]
        return mode, row.purpose, place if mode == "single" else -1

    class ScoringTemplate(KeyedRows, base):
        """The chat template of the recipe, with label scores written next to each answer."""

        words: tuple[list[int], ...] = ()  # known with the first batch
        prefix: tuple[list[int], Any] = ([], None)  # the tokens that rows began with last, and their cache
        strip_newline = STRIP_NEWLINE

        def generate(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            """Answer a batch: rows of one mode at a time. Returns {"sequences": [rows, prompt + answer tokens]}.

            Raises `ValueError` when the batch is not that of the rows encoded last.
            """
            if not self.words:
                self.words = tuple(word_tokens(self.tokenizer, scores.labels))
                merge_adapter(model)
            input_ids, mask = kwargs.pop("input_ids"), kwargs.pop("attention_mask")
            kwargs.pop("position_ids", None)
            if prompts_of(input_ids, mask) != [row.tokens for row in self.rows]:
                raise ValueError("ms-swift asks for other rows than it has just put together")
            answers: list[torch.Tensor] = []
            for (mode, *_), group in groupby(enumerate(self.rows), key=lambda one: turn_of(*one)):
                places = [place for place, _ in group]
                part = slice(places[0], places[-1] + 1)
                batch = (self.rows[part], input_ids[part], mask[part])
                if mode == "score":
                    answers += self.score_only(model, *batch)
                else:
                    answers += self.score_and_generate(model, *batch, args, kwargs)
            padded = torch.nn.utils.rnn.pad_sequence(answers, True, self.tokenizer.pad_token_id)
            return {"sequences": torch.cat([input_ids, padded], 1)}

        def score_and_generate(
            self,
            model: Any,
            rows: list[KeyedRow],
            input_ids: torch.Tensor,
            mask: torch.Tensor,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> list[torch.Tensor]:
            """Score the label words, then generate from the prompts' cache as the base class does."""
            begin = time.perf_counter()
            ids, attended, prefix = self.after_prefix(model, input_ids, mask)
            parts, caches = zip(*self.read(model, ids, attended, prefix), strict=True)
            # To the host before the clock is read: a GPU's kernels are only launched until then.
            logprobs, used = torch.cat(parts).tolist(), attended.shape[1]
            before = ids.new_tensor(prefix).expand(len(ids), -1)
            inputs = {**kwargs, "input_ids": torch.cat([before, ids], 1), "attention_mask": attended}
            if can_be_cropped(caches[0]):
                cache = joined(list(caches), len(prefix))
                cache.crop(-1)  # the last prompt token is run again: generation starts from its logits
                inputs["past_key_values"] = cache
            scored = time.perf_counter()
            end = AnswerEnd(self.tokenizer, scores.labels, used, len(rows))
            inputs["stopping_criteria"] = StoppingCriteriaList(
                [*copy.deepcopy(kwargs.get("stopping_criteria") or []), end]
            )
            output = super().generate(model, *args, **inputs)
            sequences = output["sequences"] if isinstance(output, dict) else output.sequences
            answers = sequences[:, used:]
            ended = zip(end.reasons, finish_reasons(answers.tolist(), kwargs, self.tokenizer), strict=True)
            reasons = [own or usual for own, usual in ended]
            generated = (time.perf_counter() - scored) / len(rows)
            seconds = [(scored - begin) / len(rows)] * len(rows)
            scores.append(rows, logprobs, seconds, generated, reasons)
            return list(answers)

        def score_only(
            self, model: Any, rows: list[KeyedRow], input_ids: torch.Tensor, mask: torch.Tensor
        ) -> list[torch.Tensor]:
            """Score the label words; the answer is the most probable one."""
            begin = time.perf_counter()
            ids, attended, prefix = self.after_prefix(model, input_ids, mask)
            logprobs = torch.cat([part for part, _ in self.read(model, ids, attended, prefix)]).cpu()
            seconds = (time.perf_counter() - begin) / len(rows)
            scores.append(rows, logprobs.tolist(), [seconds] * len(rows), None)
            end = self.tokenizer.eos_token_id
            return [torch.tensor([*self.words[i], end], device=input_ids.device) for i in logprobs.argmax(-1).tolist()]

        def read(
            self, model: Any, ids: torch.Tensor, attended: torch.Tensor, prefix: list[int]
        ) -> Iterator[tuple[torch.Tensor, Any]]:
            """(Log probabilities, key/value cache) of the rows, of as many at a time as are fastest."""
            shared = len(prefix)
            lengths = attended[:, shared:].sum(-1).tolist()
            small = ids.device.type == "cpu" and can_be_cropped(new_cache(model))  # only such caches can be joined
            together = PASS_TOKENS if small else ids.numel()
            for rows in passes(lengths, together):
                part, kept, longest = ids[rows], attended[rows], max(lengths[rows])
                past = None
                if prefix:
                    past = copy.deepcopy(self.prefix[1])
                    past.batch_repeat_interleave(len(part))
                mask = torch.cat([kept[:, :shared], kept[:, kept.shape[1] - longest :]], 1)
                yield score_words(model, part[:, -longest:], mask, self.words, past)

        def after_prefix(
            self, model: Any, input_ids: torch.Tensor, mask: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
            """What the prompts have beyond the tokens that all begin with, whose cache is kept from batch to batch.

            Returns (token ids [rows, tokens left], padded on the left; attention mask [rows, shared tokens + tokens
            left]; the shared tokens, whose cache is in `self.prefix`: none where it would not pay).
            """
            prompts = prompts_of(input_ids, mask)
            prefix = shared_prefix(prompts)
            kept_prefix = self.prefix[0]
            if kept_prefix and all(prompt[: len(kept_prefix)] == kept_prefix for prompt in prompts):
                saved = (len(prefix) - len(kept_prefix)) * len(prompts)
                prefix = prefix if saved > len(prefix) else kept_prefix  # examples may follow the same system prompt
            if len(prompts) == 1 or len(prefix) < MIN_SHARED_TOKENS or not sees_all(model):
                prefix = []
            elif kept_prefix != prefix:
                tokens = torch.tensor([prefix], device=input_ids.device)
                self.prefix = (prefix, model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values)
            left = [prompt[len(prefix) :] for prompt in prompts]
            ids, kept = pad_left(left, self.tokenizer.pad_token_id, input_ids.device)
            return ids, torch.cat([kept.new_ones(len(prompts), len(prefix)), kept], 1), prefix

    return ScoringTemplate


def finish_reasons(answers: list[list[int]], given: dict[str, Any], tokenizer: Any) -> list[FinishReason]:
    """Why each of `answers` (token ids, filled up to the longest) ended: "length" where max_new_tokens ended it.

    `given` are the arguments of `generate`. An answer that another ended before is filled up; ms-swift itself calls all
    of max_new_tokens "length", one whose last token is its end too.
    """
    config = given.get("generation_config")
    limit, ends = (given.get(name, getattr(config, name, None)) for name in ("max_new_tokens", "eos_token_id"))
    stops = {tokenizer.eos_token_id, tokenizer.pad_token_id, *(ends if isinstance(ends, list | tuple) else [ends])}
    ended = [limit is None or len(answer) < limit or bool(stops & set(answer)) for answer in answers]
    return ["stop" if stop else "length" for stop in ended]


def prompts_of(input_ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The token ids of each prompt, without padding; `input_ids` and `mask` [rows, tokens]."""
    return [ids[kept.bool()].tolist() for ids, kept in zip(input_ids, mask, strict=True)]


if scores := ScoreFile.named_by("LABEL_SCORES"):
    install()
    meta = copy.copy(TEMPLATE_MAPPING[scores.settings["template"]])
    meta.template_cls = scoring_template(meta.template_cls, scores)
    register_template(meta, exist_ok=True)
