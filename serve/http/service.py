"""One classifier in service: loaded aside while the server listens already, then asked in batches."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from serve.classifier_file import NAME, ClassifierFile
from serve.http.batching import Batcher, Scores
from serve.http.limits import Limits
from serve.http.logs import LOG, log_answer
from serve.http.measures import Measures
from serve.http.questions import Labels
from serve.http.refusal import Refusal
from serve.http.texts import Texts

WARM_UP = "很好"


class Classifying(Protocol):
    """What is served; `serve.classifier.Classifier` is one."""

    @property
    def file(self) -> ClassifierFile: ...  # noqa: D102
    def by_pass(self, texts: list[str], /) -> Iterable[tuple[NDArray[np.int64], Scores]]: ...  # noqa: D102
    def decide(self, probabilities: NDArray[np.float64], /) -> tuple[Any, Any, Any]: ...  # noqa: D102


class Decided(NamedTuple):
    """What a classifier says of n texts: probabilities (n, labels), the rest (n,); tokens: of all."""

    probabilities: NDArray[np.float64]
    labels: list[str]  # by the threshold
    abstained: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    tokens: int


@dataclass(frozen=True)
class Documents:
    """What is told of a classifier beside its file: when it was made (seconds since 1970), report.html, README.md."""

    created: int
    report: Path | None = None
    card: Path | None = None

    @classmethod
    def of(cls, path: Path) -> Self:
        """Those of the folder of a run or a bundle."""

        def found(*names: str) -> Path | None:
            return next((path / name for name in names if (path / name).is_file()), None)

        made = found(NAME, "metrics.json") or path
        return cls(int(made.stat().st_mtime), found("report/report.html", "report.html"), found("README.md"))


NO_DOCUMENTS = Documents(0)


@dataclass
class Served:
    """A classifier that is loaded, and what was made of its file once."""

    classifier: Classifying
    labels: Labels
    texts: Texts


class Service:
    """The classifier of a server. `name` is that of its model on the wires, by default its task's."""

    def __init__(
        self,
        name: str | None,
        load: Callable[[], Classifying],
        limits: Limits,
        documents: Documents = NO_DOCUMENTS,
    ) -> None:
        self.name, self.limits, self.documents = name or "", limits, documents
        self.measures = Measures()
        self.batcher = Batcher(limits, self.measures.batch)
        self.measures.waiting.set_function(lambda: self.batcher.waiting)
        self.failure: BaseException | None = None
        self._load = load
        self._served: Served | None = None

    async def start(self, failed: Callable[[], None]) -> None:
        """Load the classifier and let it answer once, then serve; where that fails, keep why and call `failed`."""
        try:
            thread = asyncio.get_running_loop().run_in_executor
            classifier = await thread(self.batcher.thread, self._load)
            texts = Texts(classifier.file, self.limits)
            warm_up = [texts.read(dict.fromkeys(texts.columns, WARM_UP), "input")]
            await thread(self.batcher.thread, lambda: list(classifier.by_pass(warm_up)))
        except Exception as error:
            self.failure = error
            failed()
            return
        self.name = self.name or classifier.file.task
        self._served = Served(classifier, Labels(classifier.file), texts)
        self.batcher.start(classifier.by_pass)
        self.measures.ready.set(1)
        LOG.info("ready: %s answers %s", self.name, ", ".join(classifier.file.labels[:20]))

    async def end(self) -> None:
        """Answer what is under way."""
        self.measures.ready.set(0)
        await self.batcher.end()

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self._served is not None and not self.batcher.ending

    @property
    def served(self) -> Served:
        """The classifier. Raises `Refusal` (503) while it is being loaded."""
        if self._served is None:
            raise Refusal(503, "the classifier is being loaded: ask again in a few seconds", retry_after=2)
        return self._served

    def check_model(self, name: str | None) -> None:
        """Raise `Refusal`: 404 for the name of another model, 503 while the one that is here is loaded."""
        self.served  # noqa: B018  its name may come with it
        if name is not None and name != self.name:
            raise Refusal(404, f"there is no model of that name here: this server has {self.name}", "model")

    async def decide(self, texts: Sequence[str]) -> Decided:
        """The classifier's answers. Raises `Refusal`."""
        served = self.served
        if not texts:
            raise Refusal(422, "input has no text: send at least one", "input")
        if len(texts) > self.limits.rows:
            raise Refusal(422, f"{len(texts):,} texts are more than {self.limits.rows:,}: send fewer at once", "input")
        scores = await self.batcher.score(texts)
        labels, _, abstained = served.classifier.decide(scores.probabilities)
        tokens, out = int(scores.tokens.sum()), np.asarray(abstained, dtype=bool)
        self.measures.answered(served.labels.names, scores.probabilities, out, scores.cut, tokens)
        for text, label in zip(texts, labels, strict=True):
            log_answer(text, label)
        return Decided(scores.probabilities, [str(label) for label in labels], out, scores.cut, tokens)
