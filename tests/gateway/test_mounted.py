"""The app below a path of another one: routed by the framework, answered the same."""

from __future__ import annotations

import httpx2
from command import PLAIN
from starlette.applications import Starlette
from starlette.routing import Mount

from ecoalign.gateway import GatewayConfig, create_app


async def test_the_app_answers_below_a_path_of_its_own() -> None:
    app = create_app(GatewayConfig(names=("m",), method="base"))
    outer = Starlette(routes=[Mount("/eco", app=app)])
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": PLAIN}],
    }
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(outer), base_url="http://127.0.0.1/eco/v1"
        ) as client,
    ):
        done = await client.post("/chat/completions", json=body)
        assert done.status_code == 200, done.text
        assert list(done.json()) == [
            *("id", "object", "created", "model", "choices", "usage", "ecoalign")
        ]
        refused = await client.post("/chat/completions", json=body | {"n": 2})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")
        assert (await client.get("/models/m")).json()["id"] == "m"
        assert (await client.get("/models/x")).json()["error"]["code"] == "model_not_found"
