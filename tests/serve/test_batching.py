"""The queue before the scorer: fair, bounded, and left at once by those who go away."""

import asyncio

import numpy as np
import pytest

from serve.http.batching import Batcher
from serve.http.limits import Limits
from serve.http.refusal import Refusal
from tests.serve.made_up import MadeUp
from workspace.child_process import OutOfMemory

PATIENT = {"seconds": 3600, "linger": 0}


def batched(ask, classifier=None, **limits):
    """What `ask(batcher, classifier)` returns, within a loop."""
    classifier = classifier or MadeUp()

    async def run():
        batcher = Batcher(Limits(**{**PATIENT, **limits}))
        batcher.start(classifier.by_pass)
        try:
            return await ask(batcher, classifier)
        finally:
            classifier.gate.set()
            await batcher.end()

    return asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_rows_come_back_in_their_order_whatever_batches_they_were_in():
    async def ask(batcher, classifier):
        requests = [["好" * ((n * k) % 7) + "差" for k in range(n)] for n in range(1, 40)]
        return requests, await asyncio.gather(*map(batcher.score, requests))

    requests, answers = batched(ask, batch_rows=16)
    for texts, rows in zip(requests, answers, strict=True):
        expected = MadeUp().score(texts)
        np.testing.assert_array_equal(rows.probabilities, expected.probabilities)
        assert rows.tokens.tolist() == [len(text) for text in texts]


def test_batches_hold_what_waits_and_no_more_than_the_limits():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        first = asyncio.create_task(batcher.score(["好"]))
        await until(lambda: batcher.taken == 1)
        rest = [asyncio.create_task(batcher.score(["好"])) for _ in range(20)]
        long = asyncio.create_task(batcher.score(["好" * 90, "好" * 90, "好" * 900]))
        await until(lambda: batcher.waiting == 23)
        classifier.gate.set()
        await asyncio.gather(first, *rest, long)
        return classifier.batches

    assert batched(ask, batch_rows=16, batch_characters=100) == [1, 16, 5, 1, 1]


class OnePassAhead(MadeUp):
    """Each text is a pass of its own; the second of a batch waits for `gate`."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def by_pass(self, texts):
        for at, text in enumerate(texts):
            if at:
                self.gate.wait()
            self.passes.append(text)
            if text == "坏":
                raise RuntimeError("it broke")
            yield np.array([at]), MadeUp().score([text])


def test_rows_are_answered_as_each_pass_is_done():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        tasks = [asyncio.create_task(batcher.score([text])) for text in ("好", "差")]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {tasks[0]} and waiting == {tasks[1]}
        classifier.gate.set()
        return [one.probabilities.argmax() for one in await asyncio.gather(*tasks)]

    assert batched(ask, OnePassAhead(), batch_rows=2) == [0, 1]


def test_what_came_during_a_batch_waits_for_no_more_rows():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        full = [asyncio.create_task(batcher.score(["好"])) for _ in range(2)]
        await until(lambda: batcher.taken == 2)
        later = asyncio.create_task(batcher.score(["差"]))
        await until(lambda: batcher.waiting == 1)
        classifier.gate.set()
        await asyncio.gather(*full, later)
        return classifier.batches

    assert batched(ask, batch_rows=2, linger=3600) == [2, 1]


def test_a_row_that_was_answered_before_its_batch_failed_is_not_scored_again():
    async def ask(batcher, classifier):
        tasks = [asyncio.create_task(batcher.score([text])) for text in ("好", "坏", "差")]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return found, classifier.passes

    (good, bad, other), passes = batched(ask, OnePassAhead(), batch_rows=3)
    assert (good.probabilities.argmax(), other.probabilities.argmax(), bad.status) == (0, 1, 500)
    assert passes == ["好", "坏", "坏", "差"]


def test_a_large_request_does_not_keep_a_small_one_waiting():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        large = asyncio.create_task(batcher.score(["好"] * 1000))
        await until(lambda: batcher.taken == 10)
        small = asyncio.create_task(batcher.score(["差"]))
        await until(lambda: batcher.waiting == 991)
        classifier.gate.set()
        await small
        done = len(classifier.texts)
        await large
        return done

    assert batched(ask, batch_rows=10) <= 40


def test_whoever_goes_away_gives_his_place_back():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        first = asyncio.create_task(batcher.score(["好"]))
        await until(lambda: batcher.taken == 1)
        gone = asyncio.create_task(batcher.score(["走了"] * 100))
        await until(lambda: batcher.waiting == 100)
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.waiting == 0
        classifier.gate.set()
        await first
        await batcher.score(["好"])
        return classifier.texts

    assert batched(ask, waiting=100) == ["好", "好"]


def test_a_full_queue_and_a_late_answer_are_refused():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        first = asyncio.create_task(batcher.score(["好"]))
        await until(lambda: batcher.taken == 1)
        second = asyncio.create_task(batcher.score(["好"] * 3))
        await until(lambda: batcher.waiting == 3)
        with pytest.raises(Refusal, match="3 rows are waiting already") as full:
            await batcher.score(["好"] * 2)
        with pytest.raises(Refusal, match="no answer within") as late:
            await first
        with pytest.raises(Refusal):
            await second
        assert batcher.waiting == 0
        return full.value, late.value

    full, late = batched(ask, waiting=4, seconds=0.3)
    assert (full.status, late.status) == (429, 504) and full.retry_after > 0


def test_one_bad_text_fails_alone():
    async def ask(batcher, classifier):
        classifier.gate.clear()
        first = asyncio.create_task(batcher.score(["好"]))
        await until(lambda: batcher.taken == 1)
        rest = [asyncio.create_task(batcher.score([text])) for text in ("好", "坏文本", "差")]
        await until(lambda: batcher.waiting == 3)
        classifier.gate.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    *good, bad = (lambda a, b, c, d: (a, b, d, c))(*batched(ask))
    assert [one.probabilities.argmax() for one in good] == [0, 0, 1]
    assert isinstance(bad, Refusal) and bad.status == 500


def test_want_of_memory_is_told_with_what_helps_and_blames_no_text(caplog):
    """The client was told that the text was at fault, and the log kept the remedy to itself."""
    remedy = "memory does not hold the model and one text of 9 tokens: end other programs, or use a machine with more"

    class Full(MadeUp):
        def by_pass(self, texts):
            raise OutOfMemory(remedy)

    async def ask(batcher, classifier):
        return await asyncio.gather(batcher.score(["好"]), return_exceptions=True)

    [refused] = batched(ask, Full())
    assert isinstance(refused, Refusal) and (refused.status, refused.message) == (503, remedy)
    assert remedy in caplog.text


def test_at_the_end_what_is_under_way_is_answered_and_the_rest_refused():
    async def run():
        classifier = MadeUp()
        batcher = Batcher(Limits(**PATIENT))
        with pytest.raises(Refusal, match="is being loaded"):
            await batcher.score(["好"])
        batcher.start(classifier.by_pass)
        classifier.gate.clear()
        waiting = [asyncio.create_task(batcher.score(["好"])) for _ in range(5)]
        await until(lambda: batcher.taken)
        ending = asyncio.create_task(batcher.end())
        await until(lambda: batcher.ending)
        with pytest.raises(Refusal, match="is ending"):
            await batcher.score(["好"])
        classifier.gate.set()
        await ending
        return [(await one).probabilities.shape for one in waiting]

    assert asyncio.run(run()) == [(1, 2)] * 5


def test_what_does_not_end_in_time_is_refused():
    async def run():
        classifier = MadeUp()
        batcher = Batcher(Limits(**PATIENT, ending=0.1))
        batcher.start(classifier.by_pass)
        classifier.gate.clear()
        waiting = asyncio.create_task(batcher.score(["好"]))
        await until(lambda: batcher.taken)
        await batcher.end()
        classifier.gate.set()
        with pytest.raises(Refusal, match="is ending") as refused:
            await waiting
        return refused.value.status

    assert asyncio.run(run()) == 503
