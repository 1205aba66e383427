"""A server under load: its rate against the scorer's own in one process, how late answers are, whether memory grows.

Run as: python -m bench serving RUN_OR_BUNDLE [--reading tuned] [--rows N] [--soak SECONDS] [--json FILE]

Server and clients share the machine's cores; a request has one of the demo's reviews, which is what a page or a program
asks one at a time.
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
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

import serve
from bench.limits import Stolen
from bench.subject import Figures, reviews_table
from plan.hardware import this_machine
from serve.classifier_file import Reading
from workspace.errors import UserError
from workspace.markdown import table
from workspace.paths import ROOT

CLIENTS, ROUNDS = 64, 3
SHARE, GROWTH = 0.8, 0.05  # of the scorer's own rate, at least; of resident memory over the soak, at most


def run(folder: Path, reading: Reading = "tuned", rows: int = 1000, soak: int = 180) -> tuple[Figures, bool]:
    """The figures, and whether the limits are kept. Raises UserError where the server does not start."""
    with reviews_table(None).open(encoding="utf-8") as stream:
        texts = [row["review"] for row in csv.DictReader(stream)][:rows]
    classifier = serve.Classifier.load(folder, reading)
    words = [sys.executable, "-m", "serve", str(folder.absolute()), "--port", "0", "--reading", reading]
    server = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        port = _port(server)
        own, served = [], []
        with Stolen() as stolen:
            for _ in range(ROUNDS):
                began = time.perf_counter()
                classifier.score(texts)
                own.append(len(texts) / (time.perf_counter() - began))
                served.append(len(texts) / asyncio.run(closed_loop(port, texts, CLIENTS, len(texts)))[0])
            rate = median(served)
            late = asyncio.run(open_loop(port, texts, rate / 2, max(200, rows // 2)))
            before = psutil.Process(server.pid).memory_info().rss
            asked = asyncio.run(closed_loop(port, texts, CLIENTS, None, soak))[1]
            after = psutil.Process(server.pid).memory_info().rss
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait()
    found: Figures = {
        "bench": "serving", "machine": this_machine().describe(), "stolen": stolen.share, "reading": reading,
        "rows": len(texts),
        "own": own, "served": served, "share": median(b / a for a, b in zip(own, served, strict=True)),
        "p50": float(np.percentile(late, 50)), "p99": float(np.percentile(late, 99)), "half": rate / 2,
        "soak_seconds": soak, "soak_rows": asked, "before": before, "after": after, "status": status,
    }  # fmt: skip
    return found, found["share"] >= SHARE and after <= before * (1 + GROWTH) and status == 0


async def closed_loop(
    port: int, texts: Sequence[str], clients: int, rows: int | None, seconds: float = 0.0
) -> tuple[float, int]:
    """`clients` that each ask again when they are answered, until `rows` are or `seconds` are over: seconds, rows."""
    given, began, done = cycle(texts), time.perf_counter(), 0
    asked = 0

    async def client() -> None:
        nonlocal asked, done
        line = await asyncio.open_connection("127.0.0.1", port)
        while asked < rows if rows else time.perf_counter() - began < seconds:
            asked += 1
            await _ask(line, next(given))
            done += 1
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


def _port(server: "subprocess.Popen[str]") -> int:
    """The port of a server that is ready. Raises UserError where it ends before."""
    assert server.stderr is not None  # noqa: S101  as it was started
    port, log = 0, []
    for text in server.stderr:
        log.append(text)
        if "http://" in text:
            port = int(text.split("127.0.0.1:")[1].split("/")[0])
        if " ready: " in text:
            # The log goes on, and nobody may let it fill the pipe.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return port
    raise UserError(f"the server did not start: {''.join(log)}")


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""

    def spread(every: Sequence[float]) -> str:
        return f"{median(every):.0f} ({min(every):.0f}–{max(every):.0f})"

    grown = found["after"] / found["before"] - 1
    rows = [
        [f"the scorer's own ({found['reading']}), rows/s", spread(found["own"]), ""],
        [f"served to {CLIENTS} clients, rows/s", spread(found["served"]), ""],
        ["share", f"{found['share']:.0%}", _limit(found["share"] >= SHARE, f"{SHARE:.0%} at least")],
        [f"answer at {found['half']:.0f} a second, p50 ms", f"{found['p50'] * 1000:.0f}", ""],
        ["p99 ms", f"{found['p99'] * 1000:.0f}", ""],
        [f"memory after {found['soak_rows']:,} rows in {found['soak_seconds']} s", f"{grown:+.1%}",
         _limit(grown <= GROWTH, f"{GROWTH:+.0%} at most")],
    ]  # fmt: skip
    return [f"{found['machine']}; stolen by the host {found['stolen']:.1%}", "", *table(["", "", "limit"], rows)]


def _limit(kept: bool, text: str) -> str:
    return f"{text}: {'kept' if kept else 'NOT kept'}"
