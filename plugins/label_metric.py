"""External plugin for `swift sft`: accuracy and macro F1 of the real labels on the validation rows.

`external_plugins: [plugins/label_metric.py]` with `eval_metric: label` logs `eval_label_accuracy` and
`eval_label_macro_f1`. A row's prediction is the label word with the highest probability after the prompt, which is
what counts when the model is used (P* of word_tree.py, as in scoring); ms-swift's own token and sequence accuracy are
teacher-forced and count the end token too. The label words are those that occur as answers in the training and
validation rows. With `task_type: seq_cls` the prediction is the head's most probable class, and
`eval_label_balanced_accuracy` and `eval_label_mcc` are logged, too.

With `callbacks: [row_check]` what ms-swift really trains on is written, before the first step, to
`output_dir`/label_metric.json: {"train_rows", "val_rows", "val_prompt_sha256": [hex over each validation prompt's token
ids, in row order]}; where the environment variable LABEL_ROWS names other counts ("train val"), nothing is trained.

The evaluation pass has the log probability of the gold word, and of every other word that of its tokens as far as the
gold word goes along and one more: an upper bound on that word, and its own where that is all of it. Only where the
bounds leave the winner open are the other words run, so that the result is exact at little cost.
"""

import itertools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from score_lines import tokens_sha256  # next to this file
from sklearn.metrics import matthews_corrcoef
from swift.callbacks import TrainerCallback, callbacks_map
from swift.metrics import eval_metrics_map
from swift.metrics.base import EvalMetrics
from transformers.trainer_utils import EvalPrediction
from word_scores import pad_left, score_words  # next to this file
from word_tree import Tokens, WordTree

SPLITS = ("train", "validation")
IGNORED = -100  # the label of a token without loss
RESCORE_ROWS = 8  # rows in a batch when open rows are run again


def answers_of(datasets: Iterable[Any]) -> list[Tokens]:
    """The distinct answers of tokenised rows, as token ids with what ends them, in a fixed order."""
    words = {
        tuple(token for token in row["labels"] if token != IGNORED)
        for dataset in datasets
        if dataset is not None
        for row in dataset
    }
    return sorted(words)


def without_end(answer: Tokens, tokenizer: Any) -> Tokens:
    """The label word of an answer: its tokens before the first one that ends a turn, as every template has them."""
    ends = {tokenizer.eos_token_id, *(token for token, one in tokenizer.added_tokens_decoder.items() if one.special)}
    return tuple(itertools.takewhile(lambda token: token not in ends, answer))


def split_answers(tokens: list[int], words: Sequence[Tokens]) -> list[int]:
    """The indices of the answers `words`, one after the other, that `tokens` consist of. Raises `ValueError` for other
    tokens.

    Of two that fit the longer is taken; with what ends it none begins another.
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


def upper_bounds(steps: torch.Tensor, words: Sequence[Tokens], gold: int) -> torch.Tensor:
    """[words] log probabilities that none of `words` exceeds; of the one at `gold`, its own.

    `steps` [gold word's tokens or more, vocabulary]: those after the prompt and after each of the gold word's tokens.
    """
    own = words[gold]
    along = steps[torch.arange(len(own)), own].cumsum(0)
    sums = torch.cat([along.new_zeros(1), along])
    same = [
        next(at for at, (a, b) in enumerate(zip((*word, None), (*own, IGNORED), strict=False)) if a != b)
        for word in words
    ]
    bounds = sums[same]
    goes_on = [at for at, word in enumerate(words) if same[at] < min(len(word), len(steps))]
    bounds[goes_on] += steps[[same[at] for at in goes_on], [words[at][same[at]] for at in goes_on]]
    return bounds


class LabelMetrics(EvalMetrics):
    """Accuracy and macro F1 of the most probable label word, on the whole evaluation set."""

    answers: tuple[Tokens, ...] = ()  # with what ends them; known with the first batch
    tree: WordTree  # of the words, in the same order

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """[answers, words + 1]: log P*, exact for an answer's gold word, an upper bound for the others.

        `logits` [rows, tokens, vocabulary], `labels` [rows, tokens] with -100 where there is no loss. The last column
        is the gold word's index. With `padding_free` a batch is one row, which holds the answers of all. A gold word
        that begins others has -inf: its exact value is left to be run.
        """
        if not self.answers:
            self.answers = tuple(answers_of([self.trainer.train_dataset, self.trainer.eval_dataset]))
            self.tree = WordTree.of([without_end(one, self.trainer.processing_class) for one in self.answers])
        if isinstance(logits, list | tuple):
            logits = logits[0]
        found = []
        for row, row_labels in enumerate(labels):
            where = torch.nonzero(row_labels != IGNORED)[:, 0]
            steps = torch.log_softmax(logits[row, where - 1].float(), -1)
            start = 0
            for gold in split_answers(row_labels[where].tolist(), self.answers):
                bounds = upper_bounds(steps[start:], self.tree.words, gold)
                if gold in self.tree.longer:
                    bounds[gold] = -torch.inf
                found.append(torch.cat([bounds, bounds.new_tensor([gold])]))
                start += len(self.answers[gold])
        return torch.stack(found).to(labels.device)  # where ranks can gather it

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, from the bounds of every row and, for open rows, the words' exact log probabilities."""
        predictions = one_each(prediction.predictions, len(self.trainer.eval_dataset))
        scores, gold = predictions[:, :-1].copy(), predictions[:, -1].astype(int)
        pairs = enumerate(zip(scores.argmax(-1), gold, strict=True))
        open_rows = np.array([row for row, (best, own) in pairs if not self.settled(best, own)], dtype=int)
        if len(open_rows):
            scores[open_rows] = self.exact_scores(open_rows)
        best = scores.argmax(-1)
        return {"label_accuracy": float(np.mean(best == gold)), "label_macro_f1": macro_f1(gold, best)}

    def settled(self, best: int, gold: int) -> bool:
        """Whether the highest bound is that word's own probability: then it has won."""
        word, own, begins = self.tree.words[best], self.tree.words[gold], self.tree.longer
        return best == gold or (word[:-1] == own[: len(word) - 1] and not {best, gold} & begins.keys())

    def exact_scores(self, rows: np.ndarray) -> np.ndarray:
        """[rows, words] exact log P* of every word after the rows' prompts.

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
        """[rows, words] log P* in float32 of every word after the prompts of the evaluation rows `rows`."""
        model, device = self.trainer.model, self.trainer.args.device
        pad = self.trainer.processing_class.pad_token_id or 0
        parts = []
        for start in range(0, len(rows), RESCORE_ROWS):
            chunk = rows[start : start + RESCORE_ROWS]
            prompts = [prompt_tokens(self.trainer.eval_dataset[int(row)]) for row in chunk]
            parts.append(score_words(model, *pad_left(prompts, pad, device), self.tree.words)[0])
        return torch.cat(parts)


def recalls(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Balanced accuracy: the unweighted mean of the recall of every class that occurs in `gold`."""
    return float(np.mean([np.mean(predicted[gold == label] == label) for label in np.unique(gold)]))


class HeadMetrics(EvalMetrics):
    """A classification head's most probable class against the gold one, by every metric that a task may decide by."""

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """[rows] the most probable class; `logits` [rows, classes]."""
        return (logits[0] if isinstance(logits, list | tuple) else logits).argmax(-1)

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, from every row's predicted and gold class."""
        count = len(self.trainer.eval_dataset)
        gold, best = one_each(prediction.label_ids, count), one_each(prediction.predictions, count)
        return {
            "label_accuracy": float(np.mean(best == gold)),
            "label_macro_f1": macro_f1(gold, best),
            "label_balanced_accuracy": recalls(gold, best),
            "label_mcc": float(matthews_corrcoef(gold, best)),
        }


def label_metrics(args: Any, trainer: Any) -> EvalMetrics:
    """The metric that fits what is tuned: a head, or answers in words."""
    return (HeadMetrics if trainer.template.task_type == "seq_cls" else LabelMetrics)(args, trainer)


eval_metrics_map["label"] = label_metrics
callbacks_map["row_check"] = RowCheck
