"""External plugin for a classification head (`task_type: seq_cls`): the head reads the question, never the answer.

For a head ms-swift encodes every message of a row, the assistant's turn too: the answer would be in the input, and
the head would learn to read it off. `external_plugins: [plugins/label_head.py]` registers the class of every chat
template again with an `encode` that leaves a closing assistant turn out. What the head is tuned to is the row's integer
`label`. Other task types are not touched.

In `swift infer`, with the environment variable LABEL_HEAD naming a JSON file as plugins/label_scores.py reads it, the
same line a row is written, with the head's log probabilities in place of the words'. A row of the mode "single" is run
alone, to check that the batch makes no difference; rows of any other mode are run in their batch.

`swift infer` pads a batch on the left, whatever it tunes. An encoder such as BERT counts positions from the left and
answers by what it makes of the first token, which would be padding: its rows are moved to the left, as in training.
"""

import copy
import time
from typing import Any

import torch
from score_lines import KeyedRows, ScoreFile  # next to this file
from swift.template import register_template
from swift.template.register import TEMPLATE_MAPPING

ENCODER_TEMPLATE = "dummy"  # puts nothing around a text


def without_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns up to the last question: without the assistant's turns that close the chat."""
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def head_template(base: type) -> type:
    """A subclass of the template class `base` that encodes no answer where a head is tuned or asked."""

    class HeadTemplate(base):
        """The chat template of the recipe, without the answer for `task_type: seq_cls`."""

        leaves_answer_out = True

        def encode(self, inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            """Encode a row as the base class does; for a head, up to the question."""
            if self.task_type == "seq_cls":
                inputs = copy.deepcopy(inputs)
                if isinstance(inputs, dict):
                    inputs["messages"] = without_answer(inputs["messages"])
                else:  # a request of the inference engine, or ms-swift's own form, which holds the chat in `chosen`
                    chat = getattr(inputs, "chosen", inputs)
                    chat.messages = without_answer(chat.messages)
            return super().encode(inputs, *args, **kwargs)

    return HeadTemplate


def padded_right(batch: dict[str, Any]) -> dict[str, Any]:
    """A padded batch with each row's tokens before its padding, in their order."""
    order = batch["attention_mask"].argsort(dim=-1, descending=True, stable=True)
    tokens = {key: one for key, one in batch.items() if isinstance(one, torch.Tensor) and one.shape == order.shape}
    return batch | {key: one.gather(-1, order) for key, one in tokens.items()}


def recording_template(base: type, scores: ScoreFile) -> type:
    """A subclass of the head's template class `base` that writes what the head says of each row."""

    class RecordingTemplate(KeyedRows, base):
        """The head's template, with the probability of each label written for each row."""

        use_model = True  # ms-swift then sets `self.model`

        def data_collator(self, batch: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:
            """Pad a batch as the base class does, an encoder's on the right, and keep its rows and the time."""
            self.begin = time.perf_counter()
            padded = super().data_collator(batch, **kwargs)
            return padded_right(padded) if scores.settings.get("template") == ENCODER_TEMPLATE else padded

        def decode_seq_cls(self, logits: torch.Tensor, top_logprobs: int) -> Any:
            """Write a line a row; `logits` [rows, labels]. The rows to run alone are run again, and count as such."""
            logits = logits.float().cpu()  # before the clock is read: a GPU's kernels are only launched until then
            seconds = [(time.perf_counter() - self.begin) / len(logits)] * len(logits)
            for place, row in enumerate(self.rows):
                if scores.modes[row.key] == "single":
                    alone = time.perf_counter()
                    ids = torch.tensor([row.tokens], device=self.model.device)
                    logits[place] = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].cpu()
                    seconds[place] = time.perf_counter() - alone
            scores.append(self.rows, torch.log_softmax(logits, -1).tolist(), seconds, None)
            return super().decode_seq_cls(logits, top_logprobs)

    return RecordingTemplate


def install() -> None:
    """Register every template again: which one the recipe names is not known yet."""
    scores = ScoreFile.named_by("LABEL_HEAD")
    for meta in list(TEMPLATE_MAPPING.values()):
        if getattr(meta.template_cls, "leaves_answer_out", False):
            continue  # a checkpoint's args.json may name another copy of this file
        meta = copy.copy(meta)
        meta.template_cls = head_template(meta.template_cls)
        if scores:
            meta.template_cls = recording_template(meta.template_cls, scores)
        register_template(meta, exist_ok=True)


install()
