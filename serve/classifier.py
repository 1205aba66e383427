"""A tuned classifier in Python, from the folder of a run or of a bundle.

    from serve import Classifier
    classifier = Classifier.load("runs/demo/minimind2-small")
    classifier.predict(["房间很干净", "再也不来了"])

It keeps to scikit-learn's conventions for a fitted classifier, but for `predict`, which tells the confidence and every
probability next to the label.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from data_prep.chat.tokenizer import ModelTokenizer
from eval.inference.summary import Summary
from hub.find import find_model, fingerprint
from plan.run import Run
from plugins.score_lines import tokens_sha256
from serve.bundle import ADAPTER, is_bundle, open_bundle
from serve.classifier_file import ClassifierFile, Engine, Reading, path_in
from serve.decision import Decided, decide
from serve.describe import describe_finished
from serve.encoding import PromptEncoder, Scored
from serve.finished_run import FinishedRun
from serve.given_texts import given_texts
from serve.linear import LinearScorer
from serve.stack import StackScorer
from train.checkpoints import ADAPTER_WEIGHTS, best_checkpoint, weights_sha256
from workspace.errors import UserError
from workspace.files import sha256_file, sha256_json
from workspace.paths import expanded, shown

TOGETHER = 5_000  # texts, whose neighbours in length are run together
PROBED = 50  # validation rows whose prompts are compared
Advance = Callable[[int], object]


class Classifier(ClassifierMixin, BaseEstimator):
    """What a run or a bundle answers. `file` says how it is asked and what that was measured to be worth."""

    file: ClassifierFile
    identity: str  # the hash of all that decides its answers
    finished: FinishedRun | None = None  # where it is a run's

    def __init__(
        self,
        path: str | Path,
        reading: Reading | None = None,
        base: str | Path | None = None,
        engine: Engine = "transformers",
    ) -> None:
        """As `load`; nothing is read before `fit`."""
        self.path = path
        self.reading = reading
        self.base = base
        self.engine = engine

    @classmethod
    def load(
        cls,
        path: str | Path,
        reading: Reading | None = None,
        base: str | Path | None = None,
        engine: Engine = "transformers",
    ) -> Self:
        """The classifier of a finished run or a bundle, ready to answer.

        `reading`: tuned, linear or stack; by default what the report advises, or what the bundle holds. `base`: the
        base model's folder or id, where a bundle holds an adapter alone. `engine`: what runs the tuned model; vllm
        where it is installed, for a model that answers in words. Raises `UserError` for what is neither run nor bundle,
        is not finished or was changed, and for a model that does not fit in memory.
        """
        return cls(path, reading, base, engine).fit()

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Load the classifier where it is not loaded: it is tuned already, and learns nothing from `X` and `y`."""
        if not self.__sklearn_is_fitted__():
            path = expanded(self.path)
            self.file = self._of_bundle(path) if is_bundle(path) else self._of_run(path)
            self.classes_ = np.sort(np.array(self.file.labels))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Whether it is loaded."""
        return hasattr(self, "file")

    def predict(self, X: Any) -> pd.DataFrame:
        """A row a text, with the index of `X` where it has one: label, confidence (the label's probability), and
        p_<label> of each label in the task's order.

        `X`: a list or column of texts, or, for several text columns, a frame that has them or rows of their texts.
        """
        probabilities = self.score(X).probabilities
        decided = self.decide(probabilities)
        columns = {f"p_{label}": probabilities[:, at] for at, label in enumerate(self.file.labels)}
        index = X.index if isinstance(X, pd.Series | pd.DataFrame) else None
        return pd.DataFrame({"label": decided.labels, "confidence": decided.confidence, **columns}, index=index)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """[texts, labels] probabilities, labels in the order of `classes_`, which is sorted, as scikit-learn has it."""
        return self.score(X).probabilities[:, [self.file.labels.index(label) for label in self.classes_]]

    @overload
    def score(self, X: Any, y: None = None, sample_weight: None = None) -> Scored: ...

    @overload
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> Scored | float:
        """The labels' probabilities after each text; with the right labels `y` the accuracy, as scikit-learn asks.

        Raises `UserError` as the models do.
        """
        self.fit()
        scored = self.score_texts(given_texts(X, self.file.prompt.columns))
        if y is None:
            return scored
        right = self.decide(scored.probabilities).labels == np.asarray(y)
        return float(np.average(right, weights=sample_weight))

    def score_texts(self, texts: Sequence[str], advance: Advance = lambda rows: None) -> Scored:
        """As `score`, of texts that are joined by data_prep.chat.parts where the task has several columns.

        `advance` is told how many were done after each pass. TOGETHER texts are held as tokens at a time.
        """
        starts = range(0, max(len(texts), 1), TOGETHER)
        parts = [self._scored(texts[start : start + TOGETHER], advance) for start in starts]
        return Scored(*(np.concatenate(one) for one in zip(*parts, strict=True)))

    def by_pass(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Scored]]:
        """As `score_texts`, of at most TOGETHER texts: the places of those that were run together with their scores, as
        each pass is done."""
        encoded = self.encoder.encode(texts)
        linear = self._linear.probabilities(encoded.questions) if self._linear else None
        if self._tuned is None:
            if linear is None:
                raise ValueError("neither model is loaded")
            yield np.arange(len(texts)), Scored(self.file.calibration.apply(linear), encoded.cut, encoded.lengths)
            return
        lengths = encoded.lengths
        for rows, found in self._tuned.by_pass(encoded):
            if linear is not None and self._stack is not None:
                found = self._stack.probabilities(found, linear[rows])
            else:
                found = self.file.calibration.apply(found)
            yield rows, Scored(found, encoded.cut[rows], lengths[rows])

    def _scored(self, texts: Sequence[str], advance: Advance) -> Scored:
        count = len(texts)
        whole = Scored(np.empty((count, len(self.file.labels))), np.empty(count, bool), np.empty(count, np.int64))
        for rows, part in self.by_pass(texts):
            for column, values in zip(whole, part, strict=True):
                column[rows] = values
            advance(len(rows))
        return whole

    @property
    def on_cpu(self) -> bool:
        """Whether a language model answers on a CPU: some hundred times slower than whatever else answers."""
        return self._tuned is not None and self._tuned.device.type == "cpu"

    def decide(self, probabilities: NDArray[np.float64], accept: float | None = None) -> Decided:
        """The label of each row of `probabilities` (n, labels in the task's order), and whether it is left to a person:
        below the confidence `accept`, by default by the thresholds that validation rows chose."""
        return decide(self.file, probabilities, accept)

    def _of_bundle(self, path: Path) -> ClassifierFile:
        file, folder = open_bundle(path)
        if self.reading not in (None, file.reading):
            raise UserError(f"{shown(path)} holds the {file.reading} model: export again with --reading {self.reading}")
        _check_not_quantised(file, path)
        model, adapter = folder, None
        if file.weights == "adapter":
            model, adapter = self._base_of(file, path), folder / ADAPTER
        self._linear = LinearScorer.read(folder) if file.reading != "tuned" else None
        self._stack = StackScorer.read(folder, len(file.labels)) if file.reading == "stack" else None
        self._load_tuned(file, model, folder, adapter)
        self.identity = sha256_file(path_in(path))
        return file

    def _of_run(self, path: Path) -> ClassifierFile:
        run = Run.read(path)
        finished = FinishedRun.read(run)
        file = describe_finished(finished, self.reading)
        if run.model_folder is None:
            raise UserError(f"{shown(path)} names no model folder: run the same `bash run_sft.sh` command again")
        _check_not_quantised(file, path)
        self._linear = LinearScorer.fit(finished) if file.reading != "tuned" else None
        self._stack = StackScorer.fit(finished) if file.reading == "stack" else None
        model, adapter = run.model_folder, None
        if file.kind:
            best = best_checkpoint(run.folder)
            model, adapter = (model, best) if (best / ADAPTER_WEIGHTS).is_file() else (best, None)
        self._load_tuned(file, model, run.model_folder, adapter)
        _check_same_prompts(finished, self.encoder)
        weights = weights_sha256(best_checkpoint(run.folder)) if file.kind else None
        self.identity = sha256_json([asdict(file), weights])
        self.finished = finished
        return file

    def _load_tuned(self, file: ClassifierFile, model: Path, tokenizer: Path, adapter: Path | None) -> None:
        self._tuned = None
        if file.kind is None:
            self.encoder = PromptEncoder(file.prompt, file.labels, ModelTokenizer(tokenizer))
            return
        from serve.tuned import load_scorer  # torch, which the linear model does without

        self._tuned = load_scorer(self.engine, file, model, tokenizer, adapter)
        self.encoder = self._tuned.encoder

    def _base_of(self, file: ClassifierFile, path: Path) -> Path:
        """The base model of a bundle that holds an adapter alone. Raises `UserError` where it is another one."""
        name = self.base or file.base_model
        if name is None:
            raise UserError(f"{shown(path)} holds an adapter and names no base model: give its folder with --base DIR")
        folder = find_model(str(name))
        if file.base_fingerprint and fingerprint(folder) != file.base_fingerprint:
            raise UserError(
                f"{shown(folder)} is not the model that the adapter in {shown(path)} was tuned on: give that one's "
                "folder with --base DIR"
            )
        return folder


def _check_not_quantised(file: ClassifierFile, path: Path) -> None:
    """Raise `UserError` for a model that was measured on a base in few bits: whole, that base answers otherwise."""
    if file.quant_bits:
        raise UserError(
            f"{shown(path)} was tuned on a quantised model, which is not read here: ask it by `swift infer`"
        )


def _check_same_prompts(finished: FinishedRun, encoder: PromptEncoder) -> None:
    """Raise `UserError` where the validation texts do not become the tokens that `swift infer` was asked: another
    tokenizer, or a chat template that is written otherwise, would be another classifier than the report's."""
    summary = Summary.read(finished.run.folder / "after")
    asked, val = summary.val_prompt_sha256 if summary else {}, finished.val
    texts = (val.columns or val.reviews)[:PROBED]
    for number, tokens in zip(val.ids, encoder.encode(texts).tokens if texts else [], strict=False):
        if number in asked and tokens_sha256(tokens) != asked[number]:
            raise UserError(
                f"the validation row {number} of {shown(finished.run.folder)} becomes other tokens than when the run "
                "was measured (another ms-swift or tokenizer): run the same `bash run_sft.sh` command again"
            )
