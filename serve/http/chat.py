"""POST /v1/chat/completions: the label as the answer, with its logarithms of probabilities, for clients that chat."""

import json
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from serve.http.decisions import Message, read_input
from serve.http.refusal import Refusal
from serve.http.service import Decided, Service

_FLOOR = 1e-12


class ChatRequest(BaseModel):
    """The part of a request that matters here; settings of sampling are let pass, as nothing is sampled."""

    model: str | None = None
    messages: list[Message] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    n: int | None = Field(None, ge=1)
    stream: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None


class TopLogprob(BaseModel):
    """A label in the place of a token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """The label that was answered, and the most probable ones."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """One "token": the label's whole word."""

    content: list[TokenLogprob]
    refusal: None = None


class Answer(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Completion(BaseModel):
    """The one answer."""

    index: int = 0
    message: Answer
    finish_reason: Literal["stop"] = "stop"
    logprobs: Logprobs | None


class Usage(BaseModel):
    """Tokens of the prompt; the label is chosen, not written, and counts as one."""

    prompt_tokens: int
    completion_tokens: int = 1
    total_tokens: int


class ChatResponse(BaseModel):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Completion]
    usage: Usage


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", tags=["classifier"], response_model=ChatResponse)
    async def chat(request: ChatRequest) -> ChatResponse | Response:
        """Answer a user's message with its label."""
        service.check_model(request.model)
        if request.tools or request.functions:
            raise Refusal(422, "this classifier calls no tools: leave them out", "tools")
        if (request.n or 1) > 1:
            raise Refusal(422, "this classifier has one answer to a text: leave n out", "n")
        served = service.served
        decided = await service.decide([read_input(request.messages, served.texts, "messages")])
        response = ChatResponse(
            id=f"chatcmpl-{time.time_ns():x}",
            created=int(time.time()),
            model=service.name,
            choices=[
                Completion(message=Answer(content=decided.labels[0]), logprobs=_logprobs(request, decided, service))
            ],
            usage=Usage(prompt_tokens=decided.tokens, total_tokens=decided.tokens + 1),
        )
        return StreamingResponse(_stream(response), media_type="text/event-stream") if request.stream else response

    return routes


def _logprobs(request: ChatRequest, decided: Decided, service: Service) -> Logprobs | None:
    if not request.logprobs:
        return None
    names, shares = service.served.labels.names, decided.probabilities[0]
    every = [
        TopLogprob(token=names[at], logprob=float(np.log(max(shares[at], _FLOOR))), bytes=list(names[at].encode()))
        for at in np.argsort(-shares, kind="stable")
    ]
    answered = next(one for one in every if one.token == decided.labels[0])
    top = every[: request.top_logprobs or 0]
    return Logprobs(content=[TokenLogprob(**answered.model_dump(), top_logprobs=top)])


def _stream(response: ChatResponse) -> Iterator[str]:
    """The same as server-sent events: the answer in one piece, then its end."""
    whole = response.model_dump(exclude={"choices", "usage"}) | {"object": "chat.completion.chunk"}
    one = response.choices[0]
    logprobs = one.logprobs.model_dump() if one.logprobs else None
    deltas = [({"role": "assistant", "content": one.message.content}, None, logprobs), ({}, "stop", None)]
    for delta, reason, logs in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logs}
        yield f"data: {json.dumps({**whole, 'choices': [choice]}, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
