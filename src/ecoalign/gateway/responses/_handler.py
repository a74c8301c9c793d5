"""POST /v1/responses: from a request to a response, by way of a chat completion."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ecoalign.errors import EcoAlignError
from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._state import AppState
from ecoalign.gateway.chat._handler import answer_body
from ecoalign.gateway.chat._request import read_body
from ecoalign.gateway.observe._requests import RequestRecord
from ecoalign.gateway.responses._form import ResponseForm
from ecoalign.gateway.responses._request import read_request


async def answer_response(state: AppState, request: Request, record: RequestRecord) -> Response:
    """The response to a request for one, which may be a stream.

    Raises:
        ApiError: the error that the client gets instead, by the names of its request.
        ClientDisconnected: the client has disconnected.
    """
    body = read_body(await request.body())
    asked = read_request(body, state.config.passes)
    try:
        return await answer_body(state, request, record, asked.body, ResponseForm(asked))
    except (ApiError, EcoAlignError) as error:
        own = asked.own(error)
        if own is error:
            raise
        raise own from error
