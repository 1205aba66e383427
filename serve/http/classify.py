"""POST /classify, in vLLM's shape: many texts at once, a label and the probabilities of each."""

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serve.http.occlusion import pieces_of, weights
from serve.http.service import Service


class ClassifyRequest(BaseModel):
    """A text, an object with the texts of its columns, or a list of either."""

    model: str | None = None
    input: str | dict[str, Any] | list[str | dict[str, Any]]


class Classification(BaseModel):
    """An answer. probs: in the order of the labels that /v1/classifier lists. `label` is chosen by the threshold,
    `abstained` where the threshold leaves the text to a person, `cut` where it was too long."""

    index: int
    label: str
    probs: list[float]
    num_classes: int
    abstained: bool
    cut: bool


class Usage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class ClassifyResponse(BaseModel):
    """The answers, in the order of the texts."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Classification]
    usage: Usage


class OcclusionRequest(BaseModel):
    """A text of one column."""

    model: str | None = None
    input: str = Field(min_length=1)


class Piece(BaseModel):
    """A piece of the text, and how much less probable the label is without it (log odds)."""

    text: str
    weight: float


class OcclusionResponse(BaseModel):
    """The pieces, which joined are the text: a hint at what weighed, not an explanation."""

    model: str
    label: str
    pieces: list[Piece]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.post("/classify", tags=["classifier"])
    async def classify(request: ClassifyRequest) -> ClassifyResponse:
        """Label texts."""
        service.check_model(request.model)
        served = service.served
        given = request.input if isinstance(request.input, list) else [request.input]
        texts = [served.texts.read(one, f"input[{at}]") for at, one in enumerate(given[: service.limits.rows + 1])]
        decided = await service.decide(texts)
        data = [
            Classification(
                index=at,
                label=decided.labels[at],
                probs=decided.probabilities[at].tolist(),
                num_classes=len(served.labels.names),
                abstained=bool(decided.abstained[at]),
                cut=bool(decided.cut[at]),
            )
            for at in range(len(texts))
        ]
        return ClassifyResponse(
            id=f"classify-{time.time_ns():x}",
            created=int(time.time()),
            model=service.name,
            data=data,
            usage=Usage(prompt_tokens=decided.tokens, total_tokens=decided.tokens),
        )

    @routes.post("/occlusion", tags=["classifier"])
    async def occlusion(request: OcclusionRequest) -> OcclusionResponse:
        """Which characters weigh: the text is scored again without each piece of it."""
        service.check_model(request.model)
        text = service.served.texts.read(request.input, "input")
        pieces = pieces_of(text)
        without = ["".join(pieces[:at] + pieces[at + 1 :]) or " " for at in range(len(pieces))]
        scores = await service.batcher.score([text, *without])
        label = int(scores.probabilities[0].argmax())
        found = weights(scores.probabilities[:, label])
        return OcclusionResponse(
            model=service.name,
            label=service.served.labels.names[label],
            pieces=[Piece(text=piece, weight=float(w)) for piece, w in zip(pieces, found, strict=True)],
        )

    return routes
