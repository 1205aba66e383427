"""External plugin for `swift sft`: accuracy and macro F1 of the real labels on the validation rows.

`external_plugins: [plugins/label_metric.py]` with `eval_metric: label` logs `eval_label_accuracy` and
`eval_label_macro_f1`. A row's prediction is the label word with the highest probability after the prompt, which is
what counts when the model is used; ms-swift's own token and sequence accuracy are teacher-forced and count the end
token too. The label words are those that occur as answers in the training and validation rows. With `task_type:
seq_cls` the prediction is the head's most probable class.

With `callbacks: [row_check]` what ms-swift really trains on is written, before the first step, to
`output_dir`/label_metric.json: {"train_rows", "val_rows", "val_prompt_sha256": [hex over each validation prompt's token
ids, in row order]}; where the environment variable LABEL_ROWS names other counts ("train val"), nothing is trained.

The evaluation pass has the log probability of the gold word, and of the first token of every other word: an upper
bound on that word. Only where the bound leaves the winner open are the other words run, so that the result is
exact at little cost.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from score_lines import tokens_sha256  # next to this file
from swift.callbacks import TrainerCallback, callbacks_map
from swift.metrics import eval_metrics_map
from swift.metrics.base import EvalMetrics
from transformers.trainer_utils import EvalPrediction

SPLITS = ("train", "validation")
IGNORED = -100  # the label of a token without loss
RESCORE_ROWS = 8  # rows in a batch when open rows are run again


def answer_words(datasets: Iterable[Any]) -> list[tuple[int, ...]]:
    """The distinct answers of tokenised rows, as token ids with the end token, in a fixed order."""
    words = {
        tuple(token for token in row["labels"] if token != IGNORED)
        for dataset in datasets
        if dataset is not None
        for row in dataset
    }
    return sorted(words)


def split_answers(tokens: list[int], words: Sequence[tuple[int, ...]]) -> list[int]:
    """The indices of the words, one after the other, that `tokens` consist of. Raises `ValueError` for other tokens.

    Of two words that fit the longer is taken; with its end token no word begins another.
    """
    found, start = [], 0
    while start < len(tokens):
        fitting = [i for i, word in enumerate(words) if tuple(tokens[start : start + len(word)]) == word]
        if not fitting:
            raise ValueError(f"tokens {tokens[start : start + 8]} are no answer of the training or validation rows")
        found.append(max(fitting, key=lambda i: len(words[i])))
        start += len(words[found[-1]])
    return found


def macro_f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Unweighted mean of the F1 of every class that occurs in `gold` (integer codes, one a row).

    The definition of eval.scoring.metrics, which the report uses: test_label_metric.py compares the two.
    """
    scores = []
    for label in np.unique(gold):
        hits = np.sum((gold == label) & (predicted == label))
        scores.append(2 * hits / (np.sum(gold == label) + np.sum(predicted == label)))
    return float(np.mean(scores))


def one_each(gathered: Any, count: int) -> np.ndarray:
    """One entry for each of the `count` evaluation rows, in their order.

    Several processes fill their last batches up with the first rows again, and ms-swift's trainer for text gathers
    those too, at the end.
    """
    return np.asarray(gathered)[:count]


def prompt_tokens(features: dict[str, Any]) -> list[int]:
    """The token ids before the answer of a tokenised row; all of them for a head, whose label is a number."""
    if isinstance(features["labels"], int):
        return list(features["input_ids"])
    answer = np.asarray(features["labels"]) != IGNORED
    return list(features["input_ids"][: int(answer.argmax())])


class RowCheck(TrainerCallback):
    """Records the rows before the first step, and ends where they are not those that LABEL_ROWS ("train val") names."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise `ValueError` where ms-swift left rows out: it says nothing of it."""
        write_rows(self.trainer)
        datasets = (self.trainer.train_dataset, self.trainer.eval_dataset)
        wanted = os.environ.get("LABEL_ROWS", "").split()
        for name, rows, count in zip(SPLITS, datasets, wanted, strict=False):
            if rows is not None and len(rows) != int(count):
                raise ValueError(f"ms-swift kept {len(rows)} of {count} {name} rows")


def write_rows(trainer: Any) -> None:
    """Record in label_metric.json how many rows ms-swift kept, and which prompts it tunes for."""
    if not trainer.is_world_process_zero():
        return
    prompts = [prompt_tokens(row) for row in trainer.eval_dataset or ()]
    seen = {
        "train_rows": len(trainer.train_dataset),
        "val_rows": None if trainer.eval_dataset is None else len(prompts),
        "val_prompt_sha256": [tokens_sha256(prompt) for prompt in prompts],
    }
    Path(trainer.args.output_dir, "label_metric.json").write_text(json.dumps(seen), encoding="utf-8")


class LabelMetrics(EvalMetrics):
    """Accuracy and macro F1 of the most probable label word, on the whole evaluation set."""

    words: tuple[tuple[int, ...], ...] = ()  # known with the first batch

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """[answers, words + 1]: log probabilities, exact for an answer's gold word, an upper bound for the others.

        `logits` [rows, tokens, vocabulary], `labels` [rows, tokens] with -100 where there is no loss. The last column
        is the gold word's index. With `padding_free` a batch is one row, which holds the answers of all.
        """
        if not self.words:
            self.words = tuple(answer_words([self.trainer.train_dataset, self.trainer.eval_dataset]))
        if isinstance(logits, list | tuple):
            logits = logits[0]
        found = []
        for row, row_labels in enumerate(labels):
            where = torch.nonzero(row_labels != IGNORED)[:, 0]
            steps = torch.log_softmax(logits[row, where - 1].float(), -1)
            start = 0
            for gold in split_answers(row_labels[where].tolist(), self.words):
                word = torch.tensor(self.words[gold], device=steps.device)
                bounds = steps[start, [word[0] for word in self.words]]
                bounds[gold] = steps[start : start + len(word)].gather(1, word[:, None]).sum()
                found.append(torch.cat([bounds, bounds.new_tensor([gold])]))
                start += len(word)
        return torch.stack(found).to(labels.device)  # where ranks can gather it

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, from the bounds of every row and, for open rows, the words' exact log probabilities."""
        predictions = one_each(prediction.predictions, len(self.trainer.eval_dataset))
        scores, gold = predictions[:, :-1].copy(), predictions[:, -1].astype(int)
        best = scores.argmax(-1)
        open_rows = np.nonzero(best != gold)[0]
        if len(open_rows):
            scores[open_rows] = self.exact_scores(open_rows)
        best = scores.argmax(-1)
        return {"label_accuracy": float(np.mean(best == gold)), "label_macro_f1": macro_f1(gold, best)}

    def exact_scores(self, rows: np.ndarray) -> np.ndarray:
        """[rows, words] exact log probabilities of every word, each with its end token, after the rows' prompts.

        Under several processes each runs its share: all of them call this with the same rows. The shares are filled
        up to one size, because a model that is itself spread over the processes needs them all at each step.
        """
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        share = -(-len(rows) // world)
        filled = np.resize(rows, share * world)
        scores = self.run_words(filled[rank * share : (rank + 1) * share])
        if world > 1:
            parts = [torch.empty_like(scores) for _ in range(world)]
            dist.all_gather(parts, scores)
            scores = torch.cat(parts)
        return scores[: len(rows)].cpu().numpy()

    @torch.no_grad()
    def run_words(self, rows: np.ndarray) -> torch.Tensor:
        """[rows, words] log probabilities in float32 of every word after the prompts of the evaluation rows `rows`."""
        model, device = self.trainer.model, self.trainer.args.device
        pad = self.trainer.processing_class.pad_token_id or 0
        result = torch.empty(len(rows), len(self.words), device=device)
        for start in range(0, len(rows), RESCORE_ROWS):
            chunk = rows[start : start + RESCORE_ROWS]
            prompts = [prompt_tokens(self.trainer.eval_dataset[int(row)]) for row in chunk]
            for column, word in enumerate(self.words):
                width = max(map(len, prompts)) + len(word)
                padding = [width - len(prompt) - len(word) for prompt in prompts]
                ids = [[pad] * short + prompt + list(word) for short, prompt in zip(padding, prompts, strict=True)]
                mask = torch.tensor([[0] * short + [1] * (width - short) for short in padding], device=device)
                output = model(
                    input_ids=torch.tensor(ids, device=device),
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                    logits_to_keep=len(word) + 1,
                )
                steps = torch.log_softmax(output.logits[:, :-1].float(), -1)
                tokens = torch.tensor(word, device=device)
                result[start : start + len(chunk), column] = steps[:, torch.arange(len(word)), tokens].sum(-1)
        return result


class HeadMetrics(EvalMetrics):
    """Accuracy and macro F1 of a classification head's most probable class, on the whole evaluation set."""

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """[rows] the most probable class; `logits` [rows, classes]."""
        return (logits[0] if isinstance(logits, list | tuple) else logits).argmax(-1)

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, from every row's predicted and gold class."""
        count = len(self.trainer.eval_dataset)
        gold, best = one_each(prediction.label_ids, count), one_each(prediction.predictions, count)
        return {"label_accuracy": float(np.mean(best == gold)), "label_macro_f1": macro_f1(gold, best)}


def label_metrics(args: Any, trainer: Any) -> EvalMetrics:
    """The metric that fits what is tuned: a head, or answers in words."""
    return (HeadMetrics if trainer.template.task_type == "seq_cls" else LabelMetrics)(args, trainer)


eval_metrics_map["label"] = label_metrics
callbacks_map["row_check"] = RowCheck
