"""Errors of the API: one shape for everything that goes wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from ecoalign.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    EcoAlignError,
    InputError,
    ModelError,
    OutOfDomainError,
    VerdictError,
)
from ecoalign.gateway._forward import UpstreamError

INVALID = "invalid_request_error"

SERVER = "server_error"


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="A human-readable message.")
    type: str = Field(
        description="The class of error: invalid_request_error, server_error and so on."
    )
    param: str | None = Field(
        description="The parameter at fault, as in messages[0].content; null if none."
    )
    code: str | None = Field(description="A machine-readable code; null if none.")


class ErrorResponse(BaseModel):
    """The body of every response that is no success."""

    error: ErrorDetail


class ApiError(Exception):
    """The error that a client gets in place of an answer.

    Attributes:
        status: HTTP status.
        message: for people; holds no key, no address of an upstream and nothing that a model said.
        kind: the API's `type`.
        param: the part of the request that it is about ("messages[0].content"), if any.
        code: for programs.
        retry_after: seconds after which the same request may succeed; None where unknown.
        retry: whether the official clients shall repeat the request by themselves; None leaves it
            to their own rules (they do so for 408, 409, 429 and 5xx).
        allow: the methods of a 405.
        told: what failed and its cure, for the log: one line that holds no key and nothing that a
            client or a server said; "" where the code says it all.
    """

    told: str = ""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        retry: bool | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.retry = retry
        self.allow = allow

    def body(self) -> bytes:
        """The body of the response: an `ErrorResponse` as JSON."""
        detail = ErrorDetail(message=self.message, type=self.kind, param=self.param, code=self.code)
        made = ErrorResponse(error=detail).model_dump()
        return json.dumps(made, ensure_ascii=False).encode("utf-8", "replace")

    def headers(self) -> Mapping[str, str]:
        """The headers that go with it."""
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.retry is not None:
            headers["x-should-retry"] = "true" if self.retry else "false"
        if self.allow is not None:
            headers["Allow"] = self.allow
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    """A request that cannot be answered as it is: 400."""
    return ApiError(400, message, param=param, code=code)


Kind = Literal["spent", "crowded", "paced"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Why a key's window gave a request less than it wanted.

    Attributes:
        kind: it is spent, open requests hold it, or it is shared out between those to come.
        retry_after: seconds until open requests should have given some of it back.
    """

    kind: Kind
    retry_after: float


def crowded(message: str, retry_after: float) -> ApiError:
    """There is room in the key's window, but requests under way hold it for now: 429, which the
    official clients try again by themselves."""
    return ApiError(429, message, "tokens", code="rate_limit_exceeded", retry_after=retry_after)


def out_of_time(limit: str, doing: str, *, spent: bool) -> ApiError:
    """The budget's time ran out before there was anything to give: 504.

    Args:
        limit: the time, counted from the request's arrival ("1 s").
        doing: what the request was waiting for.
        spent: whether anything may have been spent; where nothing was, it is worth trying again.
    """
    return ApiError(
        504,
        f"the budget's time of {limit}, counted from the arrival of the request, ran out while it "
        f"waited for {doing}",
        SERVER,
        code="budget_time",
        retry=False if spent else None,
    )


def shutting_down() -> ApiError:
    """The server ends before the request does."""
    message = "the server is shutting down"
    return ApiError(503, message, SERVER, code="shutting_down", retry_after=1)


def internal_error() -> ApiError:
    """An error that was not foreseen: 500."""
    return ApiError(500, "internal error; see the server log", SERVER, code="internal_error")


_UPSTREAM_STATUS = {"timeout": 504}

_CLIENT_FAULTS = frozenset({400, 413, 415, 422})

_TOO_LONG = re.compile(
    r"context.{0,3}(?:length|window|size)|maximum context|(?:prompt|input|request) is too long"
    r"|too many (?:input |prompt )?tokens",
    re.IGNORECASE,
)
"""What servers say of a request that their model cannot hold."""


def of_error(error: BaseException, *, cut: Cut | None = None) -> ApiError:
    """The error that a client gets for an error of the engine.

    Args:
        error: what was raised.
        cut: why the budget was less than the client wanted, if its key had no more.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ModelError):
        return _of_upstream(error)
    if isinstance(error, BudgetTooSmall | BudgetExceeded):
        return _of_budget(error, cut)
    if isinstance(error, OutOfDomainError):
        return invalid(str(error), "messages", "out_of_domain")
    if isinstance(error, InputError):
        return invalid(str(error), error.param)
    if isinstance(error, VerdictError):
        return ApiError(
            502,
            "none of the evaluator's verdicts could be read, so nothing can be shown",
            SERVER,
            code="evaluator_unreadable",
            retry=False,
        )
    if isinstance(error, EcoAlignError):
        return ApiError(500, "the answer failed", SERVER, code=type(error).__name__)
    return internal_error()


def _of_budget(error: BudgetTooSmall | BudgetExceeded, cut: Cut | None) -> ApiError:
    if cut is not None and cut.kind != "spent":
        return crowded(
            "the requests of this key share its window, and what others hold or are to have left "
            "too little for this answer",
            cut.retry_after,
        )
    if cut is not None:
        return ApiError(
            429,
            "the remaining budget of this key in the current window is too small for an answer",
            "insufficient_quota",
            code="insufficient_quota",
            retry=False,
        )
    return ApiError(400, str(error), param="ecoalign.budget", code="budget_too_small")


def _of_upstream(error: ModelError) -> ApiError:
    role = error.role or "model"
    if error.param is not None:
        # A parameter of the client's was refused there: the client can do something about it.
        return ApiError(
            400,
            f"the {role}'s upstream does not take {error.param} as it is; leave it out",
            param=error.param,
            code="unsupported_parameter",
        )
    if isinstance(error, UpstreamError) and error.status in _CLIENT_FAULTS and not error.cause:
        # The request itself was refused there, as it came from the client. What the server says is
        # not shown: it may quote what the model wrote.
        code, why = f"{role}_rejected", "it does not say why in words that can be shown"
        if error.fault == "filtered":
            code, why = "content_filter", "its content filter refused it"
        elif _TOO_LONG.search(error.text):
            code, why = "context_length_exceeded", "it is longer than the model's context"
        message = f"the {role}'s upstream did not take the request: {why}"
        return ApiError(error.status, message, code=code)
    words = {
        "down": "cannot be reached",
        "timeout": "did not answer in time",
        "rate-limited": "limits the rate of requests",
        "rejected": "refused the server's request",
        "filtered": "withheld the answer (content filter)",
        "bad-response": "sent no usable answer",
        "server": "failed",
        "false-usage": "reported more tokens than a call can have used, and the run was stopped",
    }[error.fault]
    if error.public:
        words = f"failed: {error.public}"
    failed = ApiError(
        _UPSTREAM_STATUS.get(error.fault, 502),
        f"the {role}'s upstream {words}; nothing unscored is shown",
        SERVER,
        code=f"{role}_{error.fault.replace('-', '_')}",
        retry_after=error.retry_after,
        # It has been tried again already, as often as the settings say.
        retry=False,
    )
    failed.told = error.told and f"{role}: {error.told}"
    return failed
