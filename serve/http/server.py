"""The server's socket, its process and its end: uvicorn, with a clock for clients that are slow to ask.

A signal to end closes the door, answers what is under way and then ends the process: nothing is half answered.
"""

import asyncio
import errno
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.http.limits import Limits
from workspace.errors import UserError

KEEP_ALIVE = 75  # seconds: longer than the clients keep a line for their next request (30)
SPARE = 128  # files that are no clients' lines


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any that is free. Raises `UserError` where that cannot be."""
    where = f"{host} port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=1024)
    except socket.gaierror:
        raise UserError(f"{host} is no address of this machine: take 127.0.0.1, or 0.0.0.0 for all of them") from None
    except OSError as error:
        sentences = {
            errno.EADDRINUSE: "is in use: end what holds it, or take another with --port",
            errno.EACCES: "is for the system's administrator alone: take one from 1024 on with --port",
            errno.EADDRNOTAVAIL: "is no address of this machine: take 127.0.0.1, or 0.0.0.0 for all of them",
        }
        if error.errno not in sentences:
            raise
        raise UserError(f"{where} {sentences[error.errno]}") from None


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which has no clock for a client that opens a line and is slow to say what it wants."""

    seconds = 20.0
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """The clock runs for as long as a request's head is not whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._stop()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A next request's head may have come already: it is not late yet."""
        self._stop()
        super().on_response_complete()

    def _start(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(self.seconds, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()


class _Server(uvicorn.Server):
    """Signals are the listener's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """An application on a socket."""

    def __init__(
        self, app: ASGIApp, sock: socket.socket, limits: Limits, ending: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """`ending` answers what is under way, and returns when that is done or its time is over."""
        self.sock, self.port, self._ending = sock, sock.getsockname()[1], ending
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.server = _Server(
            uvicorn.Config(
                app,
                http=type("Protocol", (PatientProtocol,), {"seconds": limits.reading}),
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=max(64, min(2048, files - SPARE)),
                backlog=1024,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(limits.ending) + 5,
            )
        )

    async def serve(self, signals: bool = False) -> None:
        """Serve until `end`, or until SIGTERM, SIGINT or SIGHUP where `signals`; a second one ends at once."""
        self._loop = asyncio.get_running_loop()
        if signals:
            for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self._loop.add_signal_handler(sign, self._end)
        await self.server.serve(sockets=[self.sock])

    def end(self) -> None:
        """Close the door and answer what is under way; from any thread."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.server.force_exit = self.server.should_exit
        self.server.should_exit = True
        self._answering = self._loop.create_task(self._ending())
