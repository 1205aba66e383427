"""The application: the wires, the page and the state of one classifier, behind the guard."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from serve.http import chat, classify, decisions, page, systemone
from serve.http.api_key import KeyCheck
from serve.http.guard import Guard
from serve.http.refusal import Refusal
from serve.http.service import Service

SHOWN = 3  # faults of a body that are told


def make_app(service: Service, keys: KeyCheck, failed: Callable[[], None] = lambda: None) -> ASGIApp:
    """The application of a server; `failed` is called where the classifier cannot be loaded (`service.failure`)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.get_running_loop().create_task(service.start(failed))
        yield
        loading.cancel()
        await service.end()

    app = FastAPI(
        title="Classifier",
        description="A text classifier tuned on its own labels: typed decisions, with probabilities.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    for wire in (systemone, decisions, classify, chat):
        app.include_router(wire.router(service))
    app.include_router(page.router(service, keys))
    app.include_router(_state(service))
    return Guard(app, keys, service.limits, service.measures)


def _state(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models", tags=["decisions"])
    async def models() -> dict[str, Any]:
        """The one model, as the clients of both wires read it."""
        day = datetime.datetime.fromtimestamp(service.documents.created, datetime.UTC).date().isoformat()
        labels = ", ".join(service.served.labels.names[:20])
        made = service.documents.created
        own = {"id": service.name, "object": "model", "created": made, "owned_by": "swift-sft"}
        listed = {"name": service.name, "description": f"A text classifier: {labels}", "release_date": day}
        return {"object": "list", "data": [own], "models": [listed]}

    @routes.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @routes.get("/ready", tags=["state"])
    async def ready() -> dict[str, str]:
        """Whether the classifier answers."""
        if not service.ready:
            ending = service.batcher.ending
            raise Refusal(503, "the server is ending" if ending else "the classifier is being loaded", retry_after=2)
        return {"status": "ready"}

    @routes.get("/metrics", tags=["state"])
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(service.measures.registry), media_type=CONTENT_TYPE_LATEST)

    return routes


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)  # noqa: S101  as it was registered
    return error.response()


async def _http(_: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: a path or a method that is none, a body that is no JSON."""
    status = getattr(error, "status_code", 400)
    sentences = {
        404: "there is nothing at this address: /openapi.json lists what there is",
        405: "this address takes another method: /openapi.json lists them",
        400: "the body is no JSON",
    }
    return Refusal(status, sentences.get(status, "the request cannot be read")).response()


async def _not_valid(_: Request, error: Exception) -> JSONResponse:
    """A body of another shape, told without repeating it."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  as it was registered
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Refusal(400, "the body is no JSON").response()
    told = [f"{_place(fault)}: {str(fault['msg'])[:200]}" for fault in faults[:SHOWN]]
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return Refusal(422, f"{'; '.join(told)}{more}", _place(faults[0])).response()


def _place(fault: Any) -> str:
    parts = [str(part)[:40] for part in fault["loc"] if part != "body"]
    return ".".join(parts[:8]) or "body"
