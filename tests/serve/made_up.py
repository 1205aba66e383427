"""A classifier that needs no model, and a real server around it, for the tests of the wires."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from data_prep.chat.parts import parts_of
from serve.classifier_file import ClassifierFile, Measured, Prompt, Thresholds
from serve.http.api_key import KeyCheck
from serve.http.app import make_app
from serve.http.limits import Limits
from serve.http.server import Listener, listen
from serve.http.service import Documents, Service

TWO = ("正面", "负面")
SYNONYMS = {"正面": ("好评", "positive"), "负面": ("差评", "negative")}


class MadeUpScores(NamedTuple):
    probabilities: np.ndarray
    cut: np.ndarray
    tokens: np.ndarray


def made_up_file(labels=TWO, synonyms=SYNONYMS, columns=("review",)) -> ClassifierFile:
    places = tuple(f"{{{name}}}" for name in columns)
    template = "评论：" + " ".join(places) + "\n这条评论是正面还是负面？"
    prompt = Prompt(template, "你是助手。", places, columns, (template,), "qwen", 512, 0.5)
    return ClassifierFile(
        task="hotel_reviews", labels=labels, reading="tuned", reported="after_score", kind="words", prompt=prompt,
        temperature=1.0, thresholds=Thresholds(selective=0.8, target=0.95),
        measured=Measured("macro_f1", 0.9, (0.88, 0.92), 1000),
        advice="tuned", expected=None, synonyms=synonyms,
    )  # fmt: skip


class MadeUp:
    """Says the first label the surer the more 好 a text has, and waits as long as it is told."""

    def __init__(self, file=None, seconds=0.0):
        self.file = file or made_up_file()
        self.seconds, self.batches, self.texts = seconds, [], []
        self.gate = threading.Event()
        self.gate.set()

    def by_pass(self, texts):
        columns = len(self.file.prompt.columns)
        yield np.arange(len(texts)), self.score(["|".join(parts_of(text, columns)) for text in texts])

    def score(self, texts):
        self.gate.wait()
        time.sleep(self.seconds)
        self.batches.append(len(texts))
        self.texts += texts
        if any("坏文本" in text for text in texts):
            raise RuntimeError("it broke")
        odds = np.array([[text.count("好") - text.count("差")] for text in texts], dtype=float).clip(-20, 20)
        logits = np.concatenate(
            [odds, *[-odds * (at + 1) / len(self.file.labels) for at in range(len(self.file.labels) - 1)]], 1
        )
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return MadeUpScores(shares, np.array([len(t) > 500 for t in texts]), np.array([len(t) for t in texts]))

    def decide(self, probabilities, accept=None):
        confidence = probabilities.max(axis=1)
        return np.array(self.file.labels)[probabilities.argmax(axis=1)], confidence, confidence < (accept or 0.8)


DOCUMENTS = Documents(1_790_000_000)
PATIENT = Limits(seconds=3600, reading=3600)  # the machine that tests may be slow


class Running(NamedTuple):
    """A server that answers at `url`."""

    url: str
    classifier: MadeUp
    service: Service
    listener: Listener


def application(classifier, limits=PATIENT, keys=(), documents=DOCUMENTS, load=None):
    """The application without a socket, and its service."""
    service = Service("hotel_reviews", load or (lambda: classifier), limits, documents)
    return make_app(service, KeyCheck(tuple(keys), frozenset())), service


@contextmanager
def running(classifier=None, limits=None, keys=(), load=None, wait=True, documents=DOCUMENTS) -> Iterator[Running]:
    """A real server in a thread, on a free port; of a made-up classifier, or of a real one."""
    classifier = classifier or MadeUp()
    limits = limits or PATIENT
    app, service = application(classifier, limits, keys, documents, load)
    listener = Listener(app, listen("127.0.0.1", 0), limits, service.end)
    thread = threading.Thread(target=lambda: asyncio.run(listener.serve()), daemon=True)
    thread.start()
    while thread.is_alive() and not (listener.server.started and (service.ready or not wait)):
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{listener.port}", classifier, service, listener)
    finally:
        if isinstance(classifier, MadeUp):
            classifier.gate.set()
        listener.end()
        thread.join()
