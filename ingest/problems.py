"""Refusals over HTTP: `application/problem+json` (RFC 9457) that names the field and the fix.

In: a `Problem` raised anywhere below an endpoint, or what FastAPI and the database raise. Out: one
form for all: {type, title, status, detail, errors: [{field, message}]}, and fields of its own.
Guaranteed: 503 carries `Retry-After`; 500 means a bug of ours and nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError, TimeoutError
from starlette.exceptions import HTTPException

RETRY_AFTER_S = 2

log = structlog.get_logger()


class FieldError(BaseModel):
    """One wrong field and what to do about it."""

    field: str
    message: str


class ProblemBody(BaseModel):
    """The JSON form of a problem."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):
    """An answer other than success; `fields` are added to its body."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.body = ProblemBody(title=title, status=status, detail=detail, errors=list(errors))
        self.headers = dict(headers or {})
        self.fields = fields

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(
            self.body.model_dump() | self.fields,
            self.body.status,
            self.headers,
            media_type="application/problem+json",
        )


def unavailable(detail: str) -> Problem:
    """503: nothing was promised; the same request may be sent again after `Retry-After`."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(503, "Unavailable", detail, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every exception of an app in this form."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(OperationalError, _answer_database)
    app.add_exception_handler(TimeoutError, _answer_database)
    app.add_exception_handler(Exception, _answer_bug)


def _answer_problem(_request: Request, error: Exception) -> JSONResponse:
    return cast(Problem, error).response()


def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    problems = cast(RequestValidationError, error).errors()
    errors = [
        FieldError(
            field=".".join(str(part) for part in problem["loc"][1:]) or "body",
            message=problem["msg"].removeprefix("Value error, "),
        )
        for problem in problems
    ]
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return Problem(422, "Invalid request", detail, errors=errors).response()


def _answer_http(_request: Request, error: Exception) -> JSONResponse:
    http = cast(HTTPException, error)
    return Problem(http.status_code, http.detail, http.detail, headers=http.headers).response()


def _answer_database(request: Request, error: Exception) -> JSONResponse:
    log.error("database_failed", path=request.url.path, error=str(error))
    return unavailable("the database does not answer; send the request again").response()


def _answer_bug(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    log.error("request_failed", path=request.url.path, request_id=request_id, exc_info=error)
    detail = f"a bug of the server's; its log has the trace, under request {request_id}"
    return Problem(
        500, "Internal error", detail, headers={"X-Request-ID": str(request_id)}
    ).response()
