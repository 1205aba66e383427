"""A server under load: its rate against the scorer's own in one process, how late answers are, whether memory grows.

Run as: python -m bench serving RUN_OR_BUNDLE [--reading tuned] [--rows N] [--soak MINUTES] [--json FILE]

Server and clients share the machine's cores; a request has one of the demo's reviews, which is what a page or a program
asks one at a time. After the soak the server is killed, and has to start again on the same port.
"""

import asyncio
import csv
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import psutil
from scipy.stats import linregress

import serve
from bench.limits import Stolen
from bench.subject import Figures, reviews_table
from plan.hardware import this_machine
from serve.classifier_file import Reading
from workspace.errors import UserError
from workspace.markdown import table
from workspace.paths import ROOT

CLIENTS, ROUNDS = 64, 3
SHARE, GROWTH = 0.8, 0.02  # of the scorer's own rate, at least; of memory over the soak's second half, at most
PATIENT = ("--seconds", "3600")  # a slow machine is measured, too
LOOKS = 240  # at memory, evenly over a soak


class Soaked(NamedTuple):
    """Rows answered in a soak; seconds since its begin and bytes of resident memory at each look."""

    rows: int
    seconds: list[float]
    memory: list[int]

    @property
    def growth(self) -> float:
        """The share by which memory grew over the second half, by the line of least squares through its looks."""
        half = len(self.seconds) // 2
        seconds, memory = self.seconds[half:], self.memory[half:]
        line = linregress(seconds, memory)
        return float(line.slope * (seconds[-1] - seconds[0]) / np.mean(memory))


def run(folder: Path, reading: Reading = "tuned", rows: int = 1000, soak: int = 3) -> tuple[Figures, bool]:
    """The figures, and whether the limits are kept. Raises UserError where the server does not start."""
    with reviews_table(None).open(encoding="utf-8") as stream:
        texts = [row["review"] for row in csv.DictReader(stream)][:rows]
    classifier = serve.Classifier.load(folder, reading)
    server, port = started(folder, "--reading", reading)
    own, served, spent = [], [], []
    try:
        with Stolen() as stolen:
            for _ in range(ROUNDS):
                began, cpu = time.perf_counter(), time.process_time()
                classifier.score(texts)
                own.append(len(texts) / (time.perf_counter() - began))
                cpu, before = time.process_time() - cpu, sum(psutil.Process(server.pid).cpu_times()[:2])
                served.append(len(texts) / asyncio.run(closed_loop(port, texts, CLIENTS, len(texts)))[0])
                spent.append((sum(psutil.Process(server.pid).cpu_times()[:2]) - before - cpu) / len(texts))
            rate = median(served)
            late = asyncio.run(open_loop(port, texts, rate / 2, max(200, rows // 2)))
            soaked = soak_of(server.pid, port, texts, 60 * soak)
    finally:
        server.kill()
        server.wait()
    again, _ = started(folder, "--reading", reading, port=port)
    try:
        asyncio.run(closed_loop(port, texts, CLIENTS, min(len(texts), CLIENTS)))
    finally:
        again.send_signal(signal.SIGTERM)
        status = again.wait()
    found: Figures = {
        "bench": "serving", "machine": this_machine().describe(), "stolen": stolen.share, "reading": reading,
        "rows": len(texts),
        "own": own, "served": served, "share": median(b / a for a, b in zip(own, served, strict=True)),
        "http_seconds": median(spent),
        "p50": float(np.percentile(late, 50)), "p99": float(np.percentile(late, 99)), "half": rate / 2,
        "soak_minutes": soak, "soak_rows": soaked.rows, "growth": soaked.growth, "memory": soaked.memory[-1],
        "status": status,
    }  # fmt: skip
    return found, found["share"] >= SHARE and found["growth"] <= GROWTH and found["status"] == 0


def soak_of(
    pid: int, port: int, texts: Sequence[str], seconds: float, clients: int = CLIENTS, pause: float = 0.0
) -> Soaked:
    """`clients` ask the server `pid` for so long, each with a `pause` (seconds) between two requests."""
    process, began, at, memory = psutil.Process(pid), time.perf_counter(), list[float](), list[int]()

    async def look() -> None:
        while True:
            at.append(time.perf_counter() - began)
            memory.append(process.memory_info().rss)
            await asyncio.sleep(seconds / LOOKS)

    async def both() -> int:
        looking = asyncio.create_task(look())
        _, rows = await closed_loop(port, texts, clients, None, seconds, pause)
        looking.cancel()
        return rows

    return Soaked(asyncio.run(both()), at, memory)


def started(folder: Path, *words: str, port: int = 0) -> tuple["subprocess.Popen[str]", int]:
    """A server that is ready, and its port. Raises UserError where it ends before."""
    command = [sys.executable, "-m", "serve", str(folder.absolute()), "--port", str(port), *PATIENT, *words]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None  # noqa: S101  as it was started
    log = []
    for text in server.stderr:
        log.append(text)
        if "http://" in text:
            port = int(text.split("127.0.0.1:")[1].split("/")[0])
        if " ready: " in text:
            # The log goes on, and nobody may let it fill the pipe.
            threading.Thread(target=deque, args=(server.stderr, 0), daemon=True).start()
            return server, port
    raise UserError(f"the server did not start: {''.join(log)}")


async def closed_loop(
    port: int, texts: Sequence[str], clients: int, rows: int | None, seconds: float = 0.0, pause: float = 0.0
) -> tuple[float, int]:
    """`clients` that each ask again when they are answered and have paused, until `rows` are or `seconds` are over.

    Returns the seconds that it took and the rows that were answered.
    """
    given, began, done = cycle(texts), time.perf_counter(), 0
    asked = 0

    async def client() -> None:
        nonlocal asked, done
        line = await asyncio.open_connection("127.0.0.1", port)
        while asked < rows if rows else time.perf_counter() - began < seconds:
            asked += 1
            await _ask(line, next(given))
            done += 1
            if pause:
                await asyncio.sleep(pause)
        line[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, done


async def open_loop(port: int, texts: Sequence[str], rate: float, rows: int) -> list[float]:
    """The seconds of each answer where `rate` requests a second come by chance (Poisson), however long others take."""
    draw, free, late = random.Random(0), list[tuple[asyncio.StreamReader, asyncio.StreamWriter]](), list[float]()

    async def client(text: str) -> None:
        began = time.perf_counter()
        line = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        await _ask(line, text)
        late.append(time.perf_counter() - began)
        free.append(line)

    waiting, clock = [], time.perf_counter()
    for _, text in zip(range(rows), cycle(texts), strict=False):
        clock += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, clock - time.perf_counter()))
        waiting.append(asyncio.create_task(client(text)))
    await asyncio.gather(*waiting)
    for _, writer in free:
        writer.close()
    return late


async def _ask(line: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: str) -> None:
    """One request; a client of few instructions, as it shares the cores. Raises UserError for a refusal."""
    reader, writer = line
    body = json.dumps({"input": text}).encode()
    head = (
        f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = answer.partition("content-length:")[2].split("\r\n")[0]
    content = await reader.readexactly(int(length))
    if " 200 " not in answer.split("\r\n")[0]:
        raise UserError(f"the server refused a request: {content.decode()}")


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""

    def spread(every: Sequence[float]) -> str:
        return f"{median(every):.0f} ({min(every):.0f}–{max(every):.0f})"

    what = f"{found['soak_minutes']} minutes of {CLIENTS} clients, {found['soak_rows']:,} rows"
    rows = [
        [f"the scorer's own ({found['reading']}), rows/s", spread(found["own"]), ""],
        [f"served to {CLIENTS} clients, rows/s", spread(found["served"]), ""],
        ["share", f"{found['share']:.0%}", _limit(found["share"] >= SHARE, f"{SHARE:.0%} at least")],
        [f"answer at {found['half']:.0f} a second, p50 ms", f"{found['p50'] * 1000:.0f}", ""],
        ["p99 ms", f"{found['p99'] * 1000:.0f}", ""],
        ["beside scoring, ms of processor time a request", f"{found['http_seconds'] * 1000:.2f}", ""],
        [f"memory over the second half of {what}", f"{found['growth']:+.1%} of {found['memory'] / 2**20:.0f} MiB",
         _limit(found["growth"] <= GROWTH, f"{GROWTH:+.0%} at most")],
        ["killed (-9), again on the same port, ended", f"status {found['status']}", _limit(found["status"] == 0, "0")],
    ]  # fmt: skip
    return [f"{found['machine']}; stolen by the host {found['stolen']:.1%}", "", *table(["", "", "limit"], rows)]


def _limit(kept: bool, text: str) -> str:
    return f"{text}: {'kept' if kept else 'NOT kept'}"
