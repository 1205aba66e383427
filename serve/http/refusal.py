"""A request that is not answered: a status and one sentence, in the shape that the official clients read."""

import math
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from workspace.paths import printable

# `type` of OpenAI's errors by status; others are of the server.
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """Not answered. `message` is one sentence for the caller; `retry_after` are seconds, where trying again helps."""

    def __init__(self, status: int, message: str, param: str | None = None, retry_after: float | None = None) -> None:
        message = printable(message)  # it may name what the caller sent
        super().__init__(message)
        self.status, self.message, self.param, self.retry_after = status, message, param, retry_after

    def response(self) -> JSONResponse:
        """OpenAI's error object, whose message the clients of both wires show."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        code = HTTPStatus(self.status).phrase.lower().replace(" ", "_")
        error: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": code}
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return JSONResponse({"error": error}, self.status, headers)
