"""POST /v1/systemone, as TypeSafe's clients send and read it: named questions about a state, no text written."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serve.http.questions import Labels, confidence, expectation
from serve.http.refusal import Refusal
from serve.http.service import Service

Content = str | dict[str, Any] | list[Any]


class Choice(BaseModel):
    """Which of the options; each may have a description, which a classifier tuned already has no use for."""

    type: Literal["choice"]
    instructions: Content | None = None
    criteria: dict[str, Content | None] = Field(min_length=2, max_length=255)


class Noul(BaseModel):
    """Yes or no: whether the text has the label that `criteria.true`, or else `instructions`, names."""

    type: Literal["noul"]
    instructions: Content | None = None
    criteria: dict[str, Content | None] | None = None


class Score(BaseModel):
    """A level, the lowest first."""

    type: Literal["score"]
    instructions: Content | None = None
    criteria: list[Content] = Field(min_length=1, max_length=255)


class Box(BaseModel):
    """A place in an image, which no classifier of texts finds."""

    type: Literal["box"]
    instructions: Content | None = None


Question = Annotated[Choice | Noul | Score | Box, Field(discriminator="type")]


class SystemOneRequest(BaseModel):
    """The body of a request."""

    model: str | None = None
    state: Content
    questions: dict[str, Question] = Field(min_length=1, max_length=400)
    assets: dict[str, Any] | None = None


class ChoiceAnswer(BaseModel):
    """The most probable option. `abstained`: by the classifier's threshold a person should look at it."""

    type: Literal["choice"] = "choice"
    choice: str
    confidence: float
    probabilities: dict[str, float]
    abstained: bool


class NoulAnswer(BaseModel):
    """The probability of yes."""

    type: Literal["noul"] = "noul"
    noul: float


class ScoreAnswer(BaseModel):
    """The mean of the levels by their probabilities."""

    type: Literal["score"] = "score"
    score: float
    confidence: float
    legend: dict[str, Content]
    probabilities: dict[str, float]


class Usage(BaseModel):
    """Tokens of the state, which is read once for all questions; none are written."""

    input_tokens: int
    output_tokens: int = 0


class SystemOneResponse(BaseModel):
    """The answers by the questions' names."""

    model: str
    answers: dict[str, ChoiceAnswer | NoulAnswer | ScoreAnswer]
    usage: Usage


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/v1/systemone", tags=["decisions"])
    async def systemone(request: SystemOneRequest) -> SystemOneResponse:
        """Answer named questions about a text: the tuned classifier's probabilities, in the options' order."""
        service.check_model(request.model)
        if request.assets:
            raise Refusal(422, "assets are images, and this classifier reads texts: leave them out", "assets")
        served = service.served
        order = {name: _order(served.labels, name, one) for name, one in request.questions.items()}
        decided = await service.decide([served.texts.read(request.state, "state")])
        shares = decided.probabilities[0]
        answers: dict[str, ChoiceAnswer | NoulAnswer | ScoreAnswer] = {}
        for name, question in request.questions.items():
            ps = shares[order[name]]
            if isinstance(question, Noul):
                answers[name] = NoulAnswer(noul=float(ps[0] if _asks_true(question) else 1 - ps[0]))
            elif isinstance(question, Choice):
                by_option = dict(zip(question.criteria, map(float, ps), strict=True))
                answers[name] = ChoiceAnswer(
                    choice=max(by_option, key=by_option.__getitem__),
                    confidence=confidence(ps),
                    probabilities=by_option,
                    abstained=bool(decided.abstained[0]),
                )
            elif isinstance(question, Score):
                answers[name] = ScoreAnswer(
                    score=expectation(ps),
                    confidence=confidence(ps),
                    legend={str(level): text for level, text in enumerate(question.criteria)},
                    probabilities={str(level): float(p) for level, p in enumerate(ps)},
                )
        return SystemOneResponse(model=service.name, answers=answers, usage=Usage(input_tokens=decided.tokens))

    return routes


def _order(labels: Labels, name: str, question: Choice | Noul | Score | Box) -> list[int]:
    """The labels whose probabilities answer a question, in its order. Raises `Refusal` (422)."""
    where = f"questions.{name[:40]}"
    if isinstance(question, Choice):
        return labels.places(list(question.criteria), where)
    if isinstance(question, Score):
        return labels.places(question.criteria, where, "levels")
    if isinstance(question, Box):
        raise Refusal(422, f"a box is a place in an image, and this classifier reads texts: {labels.sentence}", where)
    criteria = question.criteria or {}
    yes, no = labels.place(criteria.get("true")), labels.place(criteria.get("false"))
    if criteria.get("true") is not None or criteria.get("false") is not None:
        right = yes if _asks_true(question) else no
        both = criteria.get("true") is not None and criteria.get("false") is not None
        if right is not None and not (both and (len(labels.names) > 2 or {yes, no} != {0, 1})):
            return [right]
        what = "of a yes/no question, `true` or `false` has to be one label, or of two labels each one"
        raise Refusal(422, f"{what}, by its word alone: {labels.sentence}", where)
    return [labels.statement(question.instructions, where)]


def _asks_true(question: Noul) -> bool:
    """Whether the label that a question names is that of yes."""
    criteria = question.criteria or {}
    return criteria.get("true") is not None or criteria.get("false") is None
