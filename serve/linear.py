"""The linear model as arrays and JSON: TF-IDF of characters and logistic regression, fitted again from a run's rows.

Its stage keeps what it answered and no model; fitting draws no random number, so the same rows give the same one. Both
are scikit-learn's own, so that what is read back answers as what was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, FiniteFloat
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from data_prep.chat.shown_text import around, shown_texts
from eval.baselines import fit_linear, primary_metric, spread
from eval.scoring.predictions import LINEAR
from serve.finished_run import FinishedRun
from workspace.errors import UserError
from workspace.files import write_bytes, write_json
from workspace.paths import shown
from workspace.records import read

# In a folder of their own: vLLM takes every *.safetensors beside config.json for the language model's.
SETTINGS, ARRAYS = "linear/vocabulary.json", "linear/coefficients.safetensors"
CLOSE = 1e-6  # of a probability, to what the run's report has
AGAIN = "export the bundle again"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Vocabulary:
    """SETTINGS: the terms in the order of the arrays, how they are counted, and how many characters of a prompt's
    wording stand before and after the text."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    labels: tuple[str, ...]
    edges: tuple[int, int]
    ngram_range: tuple[int, int]
    sublinear_tf: bool
    c: FiniteFloat
    terms: tuple[str, ...]


@dataclass(frozen=True)
class LinearScorer:
    """A fitted linear model."""

    vocabulary: Vocabulary
    vectorizer: TfidfVectorizer
    classifier: LogisticRegression

    @classmethod
    def fit(cls, finished: FinishedRun) -> "LinearScorer":
        """The linear model of a run, fitted again. Raises `UserError` where it does not answer the test rows as that of
        the report did: another scikit-learn, or other rows."""
        run = finished.run
        train, val, test = finished.as_shown()
        model = fit_linear(train, val, run.labels, metric=primary_metric(run))
        questions = [one for split in (finished.train, finished.val, finished.test) for one in split.questions]
        vectorizer = model.vectorizer
        vocabulary = Vocabulary(
            run.labels,
            around(questions),
            tuple(vectorizer.ngram_range),
            bool(vectorizer.sublinear_tf),
            model.c,
            tuple(vectorizer.get_feature_names_out().tolist()),
        )
        reported = finished.predictions.test.get(LINEAR)
        known = None if reported is None else reported.own_probabilities
        if known is not None:
            apart = float(np.abs(model.probabilities(test.reviews) - known).max())
            if not apart <= CLOSE:
                raise UserError(
                    f"the linear model of {shown(run.folder)}, fitted again, answers otherwise than in its report (by "
                    f"up to {apart:.1g}): run `python -m eval.baselines {shown(run.folder)}` and "
                    f"`python -m eval.report {shown(run.folder)}` again with this scikit-learn"
                )
        return cls(vocabulary, vectorizer, model.classifier)

    def probabilities(self, questions: Sequence[str]) -> FloatArray:
        """Label probabilities (n, labels) of user's turns as the language model is shown them: the texts with control
        tokens made harmless and cut, inside the prompt. Uncalibrated."""
        labels = self.vocabulary.labels
        if not questions:
            return np.zeros((0, len(labels)))
        texts = shown_texts(questions, self.vocabulary.edges)
        return spread(self.classifier, self.vectorizer.transform(texts), len(labels))

    def write(self, folder: Path) -> list[Path]:
        """Write SETTINGS and ARRAYS; the same model gives the same bytes. Returns their paths."""
        classifier = self.classifier
        arrays = {
            "idf": np.asarray(self.vectorizer.idf_),
            "coefficients": np.ascontiguousarray(classifier.coef_),
            "intercepts": np.ascontiguousarray(classifier.intercept_),
            "classes": np.asarray(classifier.classes_, np.int64),
        }
        (folder / ARRAYS).parent.mkdir(exist_ok=True)
        write_bytes(folder / ARRAYS, save(arrays))
        write_json(folder / SETTINGS, _as_json(self.vocabulary))
        return [folder / SETTINGS, folder / ARRAYS]

    @classmethod
    def read(cls, folder: Path) -> "LinearScorer":
        """What `write` wrote. Raises `UserError` for files that are missing or do not fit together."""
        vocabulary = read(folder / SETTINGS, Vocabulary, AGAIN)
        path = folder / ARRAYS
        try:
            arrays = load_file(path)
            idf, coefficients = arrays["idf"], arrays["coefficients"]
            intercepts, classes = arrays["intercepts"], arrays["classes"]
        except (OSError, KeyError, SafetensorError) as error:
            raise UserError(f"{shown(path)} cannot be read ({error!s:.80}): {AGAIN}") from None
        terms = len(vocabulary.terms)
        rows = 1 if len(classes) == 2 else len(classes)
        fits = idf.shape == (terms,) and coefficients.shape == (rows, terms) and intercepts.shape == (rows,)
        if not fits or not set(classes.tolist()) <= set(range(len(vocabulary.labels))):
            raise UserError(f"{shown(path)} does not fit {shown(folder / SETTINGS)}: {AGAIN}")
        vectorizer = TfidfVectorizer(
            analyzer="char",
            ngram_range=vocabulary.ngram_range,
            sublinear_tf=vocabulary.sublinear_tf,
            dtype=idf.dtype,
            vocabulary={term: at for at, term in enumerate(vocabulary.terms)},
        )
        vectorizer.idf_ = idf
        classifier = LogisticRegression()
        classifier.classes_, classifier.coef_, classifier.intercept_ = classes, coefficients, intercepts
        classifier.n_features_in_ = terms
        return cls(vocabulary, vectorizer, classifier)


def _as_json(vocabulary: Vocabulary) -> dict[str, Any]:
    return {name: getattr(vocabulary, name) for name in Vocabulary.__dataclass_fields__}
