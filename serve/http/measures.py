"""What a server counts, for Prometheus: requests, queue, batches, and what was answered, never a text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
SHARES = tuple(round(0.5 + 0.05 * step, 2) for step in range(1, 11))


class Measures:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("classifier_requests", "Requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "classifier_request_seconds", "From a request's head to its answer", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.ready = Gauge("classifier_ready", "1 when the classifier answers", registry=registry)
        self.waiting = Gauge("classifier_rows_waiting", "Rows in the queue", registry=registry)
        self.batch_rows = Histogram("classifier_batch_rows", "Rows a batch", buckets=ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "classifier_batch_seconds", "Seconds a batch", buckets=SECONDS, registry=registry
        )
        self.answers = Counter("classifier_answers", "Rows by most probable label", ["label"], registry=registry)
        self.abstained = Counter("classifier_abstained", "Rows left to a person by the threshold", registry=registry)
        self.cut = Counter("classifier_cut", "Rows whose text was too long and was cut", registry=registry)
        self.tokens = Counter("classifier_tokens", "Tokens read", registry=registry)
        self.top = Histogram(
            "classifier_top_probability", "Greatest probability of a row", buckets=SHARES, registry=registry
        )

    def batch(self, rows: int, seconds: float) -> None:
        """One batch was scored."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def answered(
        self,
        names: Sequence[str],
        probabilities: NDArray[np.float64],
        abstained: NDArray[np.bool_],
        cut: NDArray[np.bool_],
        tokens: int,
    ) -> None:
        """Rows were answered: probabilities (n, labels), abstained and cut (n,)."""
        for place, count in enumerate(np.bincount(probabilities.argmax(axis=1), minlength=len(names))):
            if count:
                self.answers.labels(names[place]).inc(float(count))
        for top in probabilities.max(axis=1):
            self.top.observe(float(top))
        self.abstained.inc(int(np.sum(abstained)))
        self.cut.inc(int(np.sum(cut)))
        self.tokens.inc(tokens)
