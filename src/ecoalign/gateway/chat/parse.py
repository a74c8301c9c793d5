"""From the bytes of a request to a `ChatCall`."""

from __future__ import annotations

from collections.abc import Mapping

from ecoalign.gateway.chat.call import ChatCall
from ecoalign.gateway.chat.messages import read_messages
from ecoalign.gateway.chat.options import read_options
from ecoalign.gateway.chat.parameters import check_parameters, read_sampling
from ecoalign.gateway.errors import invalid
from ecoalign.gateway.limits import JsonError, parse_json

__all__ = ["read_body", "read_call", "read_head"]

_OPTIONS = "ecoalign"


def read_body(body: bytes) -> dict[str, object]:
    """The JSON object of a request.

    Raises:
        ApiError: 400.
    """
    try:
        value = parse_json(body)
    except JsonError as error:
        raise invalid(str(error), None, "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body of the request must be a JSON object", None)
    return value


def read_head(body: Mapping[str, object]) -> ChatCall:
    """Everything but the messages, which may be passed on as they are.

    Raises:
        ApiError: 400, naming the parameter.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("model must name a model; GET /v1/models lists them", "model")
    options = read_options(body.get(_OPTIONS))
    check_parameters(body)
    raw = {name: value for name, value in body.items() if name != _OPTIONS}
    streamed = body.get("stream_options")
    return ChatCall(
        raw=raw,
        model=model,
        stream=body.get("stream") is True,
        include_usage=isinstance(streamed, dict) and streamed.get("include_usage") is True,
        options=options,
    )


def read_call(head: ChatCall, *, most_images: int) -> ChatCall:
    """The whole request.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    talk = read_messages(head.raw.get("messages"), most_images=most_images)
    return ChatCall(
        raw=head.raw,
        model=head.model,
        question=talk.question,
        images=tuple(talk.images),
        context=tuple(talk.context),
        stream=head.stream,
        include_usage=head.include_usage,
        sampling=read_sampling(head.raw),
        options=head.options,
    )
