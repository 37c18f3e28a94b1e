"""Errors of the HTTP API: status, code and parameter, in the shapes that clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarmllm.errors import ContextError, HaltedError, SwarmError, UsageError

RETRY_AFTER_S: Final = 5

_KINDS: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


class Problem(Exception):
    """Why a request is not answered, or no further. `param` names the field that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self._more = {name.lower(): value for name, value in (headers or {}).items()}

    @property
    def kind(self) -> str:
        return _KINDS.get(self.status, "invalid_request_error")

    @property
    def headers(self) -> dict[str, str]:
        match self.status:
            case 429 | 503:
                return {"retry-after": str(RETRY_AFTER_S)}
            case 401:
                return {"www-authenticate": "Bearer"}
            case _:
                return self._more


def refused(param: str, why: str) -> Problem:
    """A field that cannot be served."""
    return Problem(400, f"{param} {why}", code="unsupported_parameter", param=param)


def invalid(param: str, why: str) -> Problem:
    """A field whose value makes no sense."""
    return Problem(400, f"{param} {why}", code="invalid_value", param=param)


def problem_of(error: SwarmError) -> Problem:
    """What an error of the service means to a client."""
    match error:
        case ContextError():
            return Problem(400, str(error), code=error.code, param="messages")
        case UsageError():
            return Problem(400, str(error), code="invalid_value")
        case HaltedError():
            return Problem(503, str(error), code="halted")
        case _:
            return Problem(503, str(error), code="unavailable")


def broken_off(reason: str, why: str) -> Problem:
    """An answer whose last record says that it was halted or failed."""
    if reason == "halted":
        return Problem(503, why or "the swarm is halted; no text is generated", code="halted")
    return Problem(503, why or "the answer ended with an error", code="unavailable")


def as_openai(problem: Problem) -> dict[str, Any]:
    return {
        "error": {
            "message": problem.message,
            "type": problem.kind,
            "param": problem.param,
            "code": problem.code,
        }
    }


def as_anthropic(problem: Problem) -> dict[str, Any]:
    return {"type": "error", "error": {"type": problem.kind, "message": problem.message}}
