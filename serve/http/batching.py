"""Micro-batches: what requests wait for is scored together by one thread, in turns that are fair to each.

A batch is made of what waits, so a server that has time answers at once and a busy one fills its batches. Its rows are
answered as each pass of the model is done, and what their clients ask next waits for the next batch: the scorer has
always something to do. Requests take turns within a batch: one with a thousand rows does not keep one with a single row
waiting. A request that ends early (its client went away, its time is over) gives its rows' places back.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serve.http.limits import Limits
from serve.http.logs import log_failure
from serve.http.refusal import Refusal
from workspace.child_process import OutOfMemory

ENDING = "the server is ending: ask again when it is back"


class Scores(Protocol):
    """What a classifier says of n texts: probabilities (n, labels), whether each was cut, and its tokens."""

    @property
    def probabilities(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def cut(self) -> NDArray[np.bool_]: ...  # noqa: D102
    @property
    def tokens(self) -> NDArray[np.int64]: ...  # noqa: D102


class Rows(NamedTuple):
    """`Scores` of a request's texts, in their order."""

    probabilities: NDArray[np.float64]
    cut: NDArray[np.bool_]
    tokens: NDArray[np.int64]


# What scores texts: the places among them of those that were run together, and their scores, as each pass is done.
Passes = Callable[[list[str]], Iterable[tuple[NDArray[np.int64], Scores]]]


@dataclass(eq=False)
class _Request:
    texts: Sequence[str]
    done: asyncio.Future[Rows]
    taken: int = 0  # rows that batches have had
    answered: set[int] = field(default_factory=set)  # places
    rows: Rows | None = None

    def answer(self, place: int, scores: Scores, at: int) -> None:
        """The row at `place` has the scores at `at`."""
        if self.rows is None:
            n = len(self.texts)
            shape = n, scores.probabilities.shape[1]
            self.rows = Rows(np.empty(shape), np.empty(n, np.bool_), np.empty(n, np.int64))
        self.rows.probabilities[place] = scores.probabilities[at]
        self.rows.cut[place] = scores.cut[at]
        self.rows.tokens[place] = scores.tokens[at]
        self.answered.add(place)
        if len(self.answered) == len(self.texts) and not self.done.done():
            self.done.set_result(self.rows)

    def fail(self, refusal: Refusal) -> None:
        if not self.done.done():
            self.done.set_exception(refusal)


_Batch = list[tuple[_Request, int]]  # requests, and the place of a row in each


class Batcher:
    """The queue before a scorer, and its one thread. To be used from one event loop."""

    def __init__(self, limits: Limits, seen: Callable[[int, float], None] = lambda rows, seconds: None) -> None:
        """`seen` is told the rows and seconds of each batch."""
        self.limits, self.seen = limits, seen
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self.waiting = 0  # rows that no batch has had yet
        self.taken = 0  # rows of the batch that is being scored
        self.ending = False
        self._score: Passes | None = None
        self._queue: deque[_Request] = deque()
        self._open: set[_Request] = set()
        self._arrived = asyncio.Event()
        self._rate = 0.0  # rows a second of the latest batches

    def start(self, score: Passes) -> None:
        """Answer with `score` from now on."""
        self._score = score
        self._work = asyncio.get_running_loop().create_task(self._answer(score))

    async def score(self, texts: Sequence[str]) -> Rows:
        """The scores of `texts`. Raises `Refusal`: 429 where the queue is full, 503, 504; ValueError for none."""
        if not texts:
            raise ValueError("there is no text to score")
        if self.ending:
            raise Refusal(503, ENDING)
        if self._score is None:
            raise Refusal(503, "the classifier is being loaded: ask again in a few seconds", retry_after=2)
        if self.waiting and self.waiting + len(texts) > self.limits.waiting:
            wait = self.waiting / self._rate if self._rate else 1.0
            raise Refusal(429, f"{self.waiting:,} rows are waiting already: ask again later", retry_after=wait)
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self._open.add(request)
        self._queue.append(request)
        self.waiting += len(texts)
        self._arrived.set()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await request.done
        except TimeoutError:
            late = f"no answer within {self.limits.seconds:g} seconds: send fewer rows at once, or ask again later"
            raise Refusal(504, late) from None
        finally:
            self._open.discard(request)
            if request in self._queue:
                self._queue.remove(request)
                self.waiting -= len(request.texts) - request.taken

    async def end(self) -> None:
        """Take nothing new, answer what is under way for as long as the limits allow, and refuse the rest."""
        self.ending = True
        if self._open:
            await asyncio.wait([one.done for one in self._open], timeout=self.limits.ending)
        for one in self._open:
            one.fail(Refusal(503, ENDING))
        if self._score is not None:
            self._work.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, score: Passes) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:  # what came during a batch has waited long enough
                self._arrived.clear()
                await self._arrived.wait()
                if self.waiting < self.limits.batch_rows:
                    await asyncio.sleep(self.limits.linger)
            if not (batch := self._next()):
                continue
            began, self.taken = loop.time(), len(batch)
            try:
                await self._run(batch, score)
            except Exception as error:
                # One text may be at fault: the others get their answers.
                log_failure(f"a batch of {len(batch)} rows failed", error)
                for request, place in batch:
                    try:
                        if place not in request.answered:
                            await self._run([(request, place)], score)
                    except OutOfMemory as fault:  # which says what to do, and quotes no text
                        request.fail(Refusal(503, str(fault)))
                    except Exception:
                        request.fail(Refusal(500, "the classifier failed on this text; the server's log says how"))
            seconds, self.taken = loop.time() - began, 0
            self._rate = 0.7 * self._rate + 0.3 * len(batch) / max(seconds, 1e-6)
            self.seen(len(batch), seconds)

    async def _run(self, batch: _Batch, score: Passes) -> None:
        loop, texts = asyncio.get_running_loop(), [request.texts[place] for request, place in batch]

        def answer(places: NDArray[np.int64], scores: Scores) -> None:
            for at, one in enumerate(places.tolist()):
                request, place = batch[one]
                request.answer(place, scores, at)

        def work() -> None:
            for places, scores in score(texts):
                loop.call_soon_threadsafe(answer, places, scores)

        await loop.run_in_executor(self.thread, work)

    def _next(self) -> _Batch:
        """The rows of the next batch: from each request that waits the same number, as far as there is room."""
        limits = self.limits
        batch: _Batch = []
        characters = 0
        share = max(1, limits.batch_rows // max(1, len(self._queue)))
        while self._queue and len(batch) < limits.batch_rows:
            request = self._queue[0]
            for _ in range(share):
                length = len(request.texts[request.taken])
                if len(batch) == limits.batch_rows or (batch and characters + length > limits.batch_characters):
                    return batch
                batch.append((request, request.taken))
                characters += length
                request.taken += 1
                self.waiting -= 1
                if request.taken == len(request.texts):
                    break
            self._queue.popleft()
            if request.taken < len(request.texts):
                self._queue.append(request)
        return batch
