"""POST /v1/decisions, as OpenAI's clients send and read it: a list of questions about an input."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StrictBool, StrictStr

from serve.http.questions import Labels, confidence, expectation
from serve.http.refusal import Refusal
from serve.http.service import Service
from serve.http.texts import Texts


class Option(BaseModel):
    """An option of a choice."""

    value: StrictStr | StrictBool
    description: str | None = None


class Level(BaseModel):
    """A level of a score."""

    label: str
    description: str | None = None


class Part(BaseModel):
    """A part of a message's content: a text, an object, or what no classifier of texts reads."""

    type: str
    text: str | None = None
    data: dict[str, Any] | list[Any] | None = None


class Message(BaseModel):
    """A message, or a call of a tool, which is refused."""

    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None


class Predicate(BaseModel):
    """How likely a statement about the input is true."""

    type: Literal["predicate"]
    name: str | None = None
    instructions: str | list[Part]


class Choice(BaseModel):
    """Which of the options."""

    type: Literal["choice"]
    name: str | None = None
    instructions: str | list[Part]
    choices: list[Option] = Field(min_length=2, max_length=255)


class Score(BaseModel):
    """Which of the levels, the lowest first."""

    type: Literal["score"]
    name: str | None = None
    instructions: str | list[Part]
    levels: list[Level] = Field(min_length=1, max_length=255)


Question = Annotated[Predicate | Choice | Score, Field(discriminator="type")]


class DecisionRequest(BaseModel):
    """The body of a request."""

    model: str | None = None
    input: str | list[Message]
    questions: list[Question] = Field(min_length=1, max_length=400)


class PredicateAnswer(BaseModel):
    """The probability that the statement is true."""

    type: Literal["predicate"] = "predicate"
    name: str | None
    probability: float


class OptionProbability(BaseModel):
    """The probability of an option."""

    value: str
    probability: float


class ChoiceAnswer(BaseModel):
    """The most probable option. `abstained`: by the classifier's threshold a person should look at it."""

    type: Literal["choice"] = "choice"
    name: str | None
    choice: str
    confidence: float
    probabilities: list[OptionProbability]
    abstained: bool


class LevelProbability(BaseModel):
    """The probability of a level, counted from 0."""

    label: str
    value: int
    probability: float


class ScoreAnswer(BaseModel):
    """The mean of the levels by their probabilities."""

    type: Literal["score"] = "score"
    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class InputDetails(BaseModel):
    """No tokens are cached between requests."""

    cache_write_tokens: int = 0
    cached_tokens: int = 0


class OutputDetails(BaseModel):
    """None are written."""

    reasoning_tokens: int = 0


class Usage(BaseModel):
    """Tokens of the input, which is read once for all questions."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class Decision(BaseModel):
    """The answers, in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer]
    usage: Usage


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/v1/decisions", tags=["decisions"])
    async def decisions(request: DecisionRequest) -> Decision:
        """Answer questions about a text: the tuned classifier's probabilities, in the options' order."""
        service.check_model(request.model)
        served = service.served
        orders = [_order(served.labels, one, f"questions[{at}]") for at, one in enumerate(request.questions)]
        decided = await service.decide([read_input(request.input, served.texts)])
        answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer] = []
        for question, order in zip(request.questions, orders, strict=True):
            ps = decided.probabilities[0][order]
            if isinstance(question, Predicate):
                answers.append(PredicateAnswer(name=question.name, probability=float(ps[0])))
            elif isinstance(question, Choice):
                shares = [
                    OptionProbability(value=str(option.value), probability=float(p))
                    for option, p in zip(question.choices, ps, strict=True)
                ]
                answers.append(
                    ChoiceAnswer(
                        name=question.name,
                        choice=shares[int(ps.argmax())].value,
                        confidence=confidence(ps),
                        probabilities=shares,
                        abstained=bool(decided.abstained[0]),
                    )
                )
            else:
                levels = [
                    LevelProbability(label=level.label, value=at, probability=float(p))
                    for at, (level, p) in enumerate(zip(question.levels, ps, strict=True))
                ]
                score = expectation(ps)
                answers.append(
                    ScoreAnswer(name=question.name, score=score, confidence=confidence(ps), probabilities=levels)
                )
        usage = Usage(input_tokens=decided.tokens, total_tokens=decided.tokens)
        return Decision(model=service.name, answers=answers, usage=usage)

    return routes


def read_input(given: str | list[Message], texts: Texts, param: str = "input") -> str:
    """The text of a string, or of the one user message. Raises `Refusal` (422).

    Another system prompt than that of the tuning is refused: the classifier would not follow it.
    """
    if isinstance(given, str):
        return texts.read(given, param)
    users = []
    for message in given:
        if message.type == "message" and message.role in ("system", "developer"):
            if _plain(message.content, param).strip() != texts.system.strip():
                raise Refusal(422, f"{param} has a system prompt, and this classifier was tuned with its own", param)
        elif message.type == "message" and message.role == "user":
            users.append(message)
        else:
            what = str(message.role if message.type == "message" else message.type)[:40]
            raise Refusal(
                422, f"{param} has a part of {what!r}, and this classifier reads one message of a user", param
            )
    if len(users) != 1:
        raise Refusal(422, f"{param} has {len(users)} messages of a user, and this classifier reads one", param)
    content = users[0].content
    if isinstance(content, list) and len(content) == 1 and content[0].type == "input_json":
        return texts.read(content[0].data, param)
    return texts.read(_plain(content, param), param)


def _order(labels: Labels, question: Predicate | Choice | Score, where: str) -> list[int]:
    """The labels whose probabilities answer a question, in its order. Raises `Refusal` (422)."""
    if isinstance(question, Choice):
        return labels.places([option.value for option in question.choices], where)
    if isinstance(question, Score):
        return labels.places([level.label for level in question.levels], where, "levels")
    return [labels.statement(_plain(question.instructions, where), where)]


def _plain(content: str | list[Part] | None, param: str) -> str:
    """The text of a content. Raises `Refusal` (422) where a part is none."""
    if content is None or isinstance(content, str):
        return content or ""
    if odd := [part.type[:40] for part in content if part.type not in ("input_text", "text") or part.text is None]:
        raise Refusal(422, f"{param} has a part {odd[0]!r}, and this classifier reads texts", param)
    return "".join(part.text or "" for part in content)
