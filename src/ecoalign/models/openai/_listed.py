"""The list of a server's models: what costs nothing to ask for, and tells whether it is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ecoalign.models._causes import Failure
from ecoalign.models._endpoint import Endpoint

_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """An answer.

    Attributes:
        status: of HTTP.
        body: as it came.
    """

    status: int
    body: bytes


async def listed(endpoint: Endpoint, patience: float) -> Listed | Failure:
    """Ask for it once, on a connection of its own.

    Args:
        endpoint: the server.
        patience: seconds that it may take; half of them to be reached.

    Returns:
        The answer, whatever its status; or why there is none.
    """
    from ecoalign.models.http import URL, HttpClient, HttpError

    client = HttpClient(
        endpoint.headers,
        connections=1,
        most=_MOST_BYTES,
        tls=endpoint.tls,
        proxy=endpoint.proxy,
        keep=False,
        connect=patience / 2,
    )
    try:
        url = URL(f"{endpoint.base_url.rstrip('/')}/models")
        deadline = asyncio.get_running_loop().time() + patience
        async with client.exchange("GET", url, deadline=deadline) as answer:
            return Listed(answer.status, await answer.whole())
    except HttpError as error:
        return Failure(error.cause, endpoint, error.why, error.seconds or patience)
    finally:
        await client.aclose()
