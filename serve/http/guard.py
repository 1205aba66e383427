"""What stands before the application: who may ask, how much and how slowly, and what is counted and logged of it.

A request's body is read whole, within bounds, before anything else sees it. While it is answered its connection is
watched: where the client goes away, the answer is given up and its place in the queue is free. Logs have the route and
the status of a request, and neither its address nor a word of its body.
"""

import asyncio
import io
import secrets
import time
from collections.abc import Mapping

import pyarrow as pa
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.api_key import KeyCheck
from serve.http.limits import Limits
from serve.http.logs import LOG, log_failure
from serve.http.measures import Measures
from serve.http.refusal import Refusal

OPEN = ("/", "/health", "/ready")  # need no key: they say nothing of the classifier
QUIET = ("/health", "/ready", "/metrics")  # are asked every few seconds: not logged
DRAINED = 8  # times the limit of a body that is still read, so that the client hears why it was refused


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, keys: KeyCheck, limits: Limits, measures: Measures) -> None:
        self.app, self.keys, self.limits, self.measures = app, keys, limits, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(send, self.limits.reading)
        try:
            await self._answered(scope, receive, answer)
        except Refusal as refusal:
            await refusal.response()(scope, receive, answer.send)
        except _Gone:
            answer.status = 499  # as nginx counts them
        except Exception as error:
            log_failure(f"a request to {_route(scope)} failed", error)
            if answer.status is None:
                await Refusal(500, "the server failed: its log says how").response()(scope, receive, answer.send)
        seconds, route, status = time.perf_counter() - began, _route(scope), answer.status or 499
        self.measures.requests.labels(route, status).inc()
        self.measures.seconds.labels(route).observe(seconds)
        if route not in QUIET:
            LOG.info("%s %s %d %.0f ms %s", scope["method"], route, status, seconds * 1000, answer.id)

    async def _answered(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN:
            self.keys.check(headers, report=scope["path"].startswith("/report") and scope["method"] == "GET")
        elif not self.keys.asks:
            self.keys.check(headers)
        body = await self._body(headers, receive)
        if scope["method"] == "POST":
            media = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media != "application/json":  # a form of another site's page, too, is stopped here
                raise Refusal(415, "send JSON, with `Content-Type: application/json`")
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(given, None) or await receive()

        work = asyncio.ensure_future(self.app(scope, replay, answer.send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not answer.whole:
                raise _Gone
            await work
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The body, unpacked. Raises `Refusal`: 408, 413, 415 for a packing that is not known, 400 for a broken one."""
        packing = headers.get("content-encoding", "identity").lower()
        if packing not in ("identity", "zstd", "gzip"):
            raise Refusal(415, "the body is packed in a way that is not known here: send it plain, or as zstd or gzip")
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self.limits.reading):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size <= self.limits.body:
                        pieces.append(piece)
                    elif size > DRAINED * self.limits.body:
                        break
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            late = f"the body did not arrive within {self.limits.reading:g} seconds"
            raise Refusal(408, f"{late}: send a smaller one, or all at once") from None
        body = b"".join(pieces) if size <= self.limits.body else None
        if body and packing != "identity":
            body = _unpacked(body, packing, self.limits.body)
        if body is None:
            raise Refusal(413, f"the body has more than {self.limits.body:,} bytes: send fewer texts at once")
        return body


class _Gone(Exception):
    """The client went away."""


class _Answer:
    """What is sent back: its status once it has begun, and the headers that every answer has."""

    def __init__(self, send: Send, seconds: float) -> None:
        self.status: int | None = None
        self.whole = False  # all of it was sent: that its line is at an end is no client who goes away
        self.id = secrets.token_hex(8)
        self._send, self._seconds = send, seconds

    async def send(self, message: Message) -> None:
        """Raises `_Gone` for a client that does not take what it asked for."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            # Both clients show the id that they know; the log has it.
            headers["X-Request-Id"] = headers["X-TypeSafe-Request-Id"] = self.id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        try:
            async with asyncio.timeout(self._seconds):
                self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)
                await self._send(message)
        except TimeoutError:
            raise _Gone from None


def _unpacked(body: bytes, packing: str, most: int) -> bytes | None:
    """The body, None where it is larger than `most`; no more than that is unpacked."""
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), packing) as stream:
            out = io.BytesIO()
            while piece := stream.read(min(2**16, most + 1 - out.tell())):
                out.write(piece)
                if out.tell() > most:
                    return None
            return out.getvalue()
    except (OSError, pa.ArrowException):
        raise Refusal(400, f"the body is no {packing}, as its Content-Encoding says") from None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _route(scope: Scope) -> str:
    """The route that was asked for: a path that is none may hold anything."""
    return getattr(scope.get("route"), "path", "other")
