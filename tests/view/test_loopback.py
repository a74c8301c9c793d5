from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web
from asgi_running import told

from ecoalign.errors import InputError
from ecoalign.view._loopback import Lines, LoopbackServer, body_of, content_policy, listen

PAGE = (
    "<!doctype html><title>x</title><style>p { color: red }</style>"
    '<script type="application/json">{"a": "<b>"}</script><script>const a = "<i>";</script>'
)


class Served:
    """A server with a stream that never ends and an echo."""

    def __init__(self) -> None:
        self.sock = listen("127.0.0.1", 0)
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        self.server = LoopbackServer(
            PAGE,
            [("GET", "/lines", self._lines), ("POST", "/echo", self._echo)],
            self.sock,
            most_body=2 * 1024 * 1024,
        )
        self.port: int = self.sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def _lines(self, request: web.Request) -> web.StreamResponse:
        lines = await Lines.open(request)
        await lines.send({"text": "\u2028 <b>"})
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        return await lines.close()

    async def _echo(self, request: web.Request) -> web.Response:
        return web.json_response(await body_of(request))

    @property
    def headers(self) -> dict[str, str]:
        """As the page's own script asks."""
        return {"Authorization": f"Bearer {self.server.token}", "Origin": self.url}


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served, stop = Served(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(served.server.run(ready.set_result, stop))
    assert await ready == f"{served.url}/#{served.server.token}"
    try:
        yield served
    finally:
        stop.set()
        await task


async def status_of(
    served: Served, method: str, path: str, headers: Mapping[str, str], body: str | None = None
) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            served.url + path,
            headers=headers,
            data=None if body is None else BytesIO(body.encode("utf-8", "surrogatepass")),
        ) as response,
    ):
        await response.read()
        return response.status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org", "127.0.0.2"])  # noqa: S104
def test_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(InputError, match="this machine only"):
        listen(host, 0)


def test_a_port_that_is_taken_is_said() -> None:
    with listen("localhost", 0) as held:
        assert held.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1 port"):
            listen("127.0.0.1", held.getsockname()[1])


async def test_nothing_listens_beyond_loopback() -> None:
    async with serving() as served:
        # All of 127/8 is this machine, and still another address.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", served.port), timeout=5)


async def test_the_page_is_sealed() -> None:
    async with (
        serving() as served,
        aiohttp.ClientSession() as session,
        session.get(served.url) as response,
    ):
        assert response.status == 200
        assert await response.text() == PAGE
        headers = response.headers
    assert served.server.token not in PAGE
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers
    assert "Set-Cookie" not in headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for text in ("p { color: red }", '{"a": "<b>"}', 'const a = "<i>";'):
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_a_page_without_scripts_may_run_none() -> None:
    assert "script-src 'none'; style-src 'none'" in content_policy("<p>Hello</p>")


async def test_an_own_request_is_answered() -> None:
    async with serving() as served:
        for site in ({}, {"Sec-Fetch-Site": "same-origin"}):
            headers = {**served.headers, **site, "Content-Type": "application/json"}
            assert await status_of(served, "POST", "/echo", headers, "{}") == 200
        by_name = {**served.headers, "Host": f"localhost:{served.port}"}
        by_name["Origin"] = f"http://localhost:{served.port}"
        json = {"Content-Type": "application/json"}
        assert await status_of(served, "POST", "/echo", by_name | json, "{}") == 200


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Host": "rebound.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1.rebound.example:{port}"}, 421),
        ({"Origin": "https://foreign.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            403,
        ),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer {token}x"}, 401),
        ({"Authorization": "Basic {token}"}, 401),
        ({"Authorization": "Bearer \xe9\xff"}, 401),
        ({"Cookie": "token={token}", "Authorization": ""}, 401),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
async def test_what_does_not_come_from_the_page_is_refused(
    changes: dict[str, str], status: int
) -> None:
    async with serving() as served:
        known = {"port": served.port, "token": served.server.token}
        changed = {name: value.format(**known) for name, value in changes.items()}
        assert await status_of(served, "POST", "/echo", served.headers | JSON | changed) == status


async def test_a_post_says_where_it_comes_from() -> None:
    async with serving() as served:
        headers = {"Authorization": served.headers["Authorization"], **JSON}
        assert await status_of(served, "POST", "/echo", headers, "{}") == 403


@pytest.mark.parametrize("path", ["/lines", "/echo", "/other", "/%2e%2e/etc/passwd", "//lines"])
async def test_without_the_token_nobody_learns_what_is_there(path: str) -> None:
    async with serving() as served:
        assert await status_of(served, "GET", path, {}) == 401
        assert await status_of(served, "OPTIONS", path, {"Origin": served.url}) == 401


async def test_another_site_may_lead_here_and_nothing_more() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with serving() as served:
        assert await status_of(served, "GET", "/", link | {"Sec-Fetch-Dest": "document"}) == 200
        assert await status_of(served, "GET", "/", link | {"Sec-Fetch-Dest": "iframe"}) == 403
        fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert await status_of(served, "GET", "/", fetched | {"Sec-Fetch-Dest": "script"}) == 403
        assert await status_of(served, "GET", "/lines", served.headers | fetched) == 403


async def test_a_host_is_named_once() -> None:
    async with serving() as served:
        two = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nHost: x\r\n"
        none = "GET / HTTP/1.0\r\n"
        for head in (two, none):
            said = await told(served.port, f"{head}Connection: close\r\n\r\n".encode())
            assert re.match(rb"HTTP/1\.[01] 4", said)


async def test_a_body_is_bounded_and_is_json() -> None:
    async with serving() as served:
        headers = served.headers | JSON
        large = '"' + "x" * 3 * 1024 * 1024 + '"'
        assert await status_of(served, "POST", "/echo", headers, large) == 413
        for body in ("", "{", "[" * 200_000, "\ud800"):
            assert await status_of(served, "POST", "/echo", headers, body) == 400
        # A body whose length is not said is counted as it comes.
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = (
            f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nConnection: close\r\n{head}"
            "Transfer-Encoding: chunked\r\n\r\n"
        ).encode()
        said = await told(served.port, request + 40 * chunk + b"0\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 413")


async def test_who_leaves_is_noticed_at_once() -> None:
    async with serving() as served, aiohttp.ClientSession() as session:
        async with session.get(f"{served.url}/lines", headers=served.headers) as response:
            assert await response.content.readline() == b'{"text":"\\u2028 <b>"}\n'
            await served.begun.wait()
        # Leaving the block closes the connection of an answer that was not read to its end.
        await asyncio.wait_for(served.gone.wait(), 20)


async def test_the_end_of_the_server_ends_what_is_under_way() -> None:
    async with serving() as served, aiohttp.ClientSession() as session:
        response = await session.get(f"{served.url}/lines", headers=served.headers)
        await served.begun.wait()
    assert served.gone.is_set()
    response.close()


async def test_each_server_has_a_secret_of_its_own() -> None:
    async with serving() as one, serving() as two:
        assert one.server.token != two.server.token
        assert len(one.server.token) >= 32
        foreign = {"Authorization": f"Bearer {two.server.token}"}
        assert await status_of(one, "GET", "/lines", one.headers | foreign) == 401
