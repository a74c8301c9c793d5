"""A gateway without keys on this machine, and the pages that its owner's browser has open: none of
them spends anything or reads anything, unless it is on the list."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest
from browser import chromium
from command import run
from hostile import HostileServer, Reply, completion
from serving import JSON, WAIT, Served, asking, serving

from ecoalign.errors import InputError
from ecoalign.gateway import GatewayConfig
from ecoalign.gateway.keys import KeyPolicy, open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["chromium"]

PAGE = "https://app.example"
CHAT = "/v1/chat/completions"

RESPONSES = "/v1/responses"
BODY = json.dumps(asking("hello"))
FOREIGN = "https://foreign.example"


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileServer]:
    with HostileServer(lambda request: Reply(completion("fine"))) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    arguments = ("--model", "m", "--base-url", upstream.url, "--method", "base", "--budget", "9000")
    with serving(tmp_path_factory.mktemp("web"), *arguments, "--allow-origin", PAGE) as served:
        yield served


def sent(
    served: Served, method: str, path: str, body: str | None = None, **headers: str
) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx2.Client(verify=_NO_TLS, timeout=WAIT) as client:
        return client.request(method, served.url + path, content=body, headers=named)


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: reading the certificates of the system would take most of the time."""


# Attacks: each is what a browser sends, or could be made to send, for a page of another site

BROWSER = {"origin": FOREIGN, "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}

FORMS = (
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain; application/json",
    "application/jsonx",
    "application/json, text/plain",
    "text/json",
    "",
)


PATHS = (CHAT, RESPONSES, "/v1/models", "/metrics", "/openapi.json", "/v1/x", "/")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        # A name that was led to 127.0.0.1 (DNS rebinding): the page is of the same origin then.
        {"host": "rebound.example"},
        {"host": "rebound.example:{port}"},
        {"host": "127.0.0.1.rebound.example:{port}"},
        {"host": "localhost.rebound.example"},
        {"host": "127.0.0.1:{port}@rebound.example"},
        {"host": "rebound.example", "sec_fetch_site": "same-origin"},
        {"host": "192.168.1.7:{port}"},
        {"host": "2130706433"},
        {"host": "0.0.0.0:{port}"},
        {"host": "[::ffff:10.0.0.1]"},
        {"host": "xn--lcalhost-n3a"},
        {"host": "localhost."},
        {"host": ""},
        # Pages of other sites, by name or without one.
        {"origin": FOREIGN},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:{port}"},
        {"origin": "http://localhost:3000"},
        {"origin": PAGE + ".foreign.example"},
        {"origin": PAGE + ":8443"},
        {"origin": PAGE + "/"},
        {"origin": "http://app.example"},
        {"origin": "https://APP.example"},
        {"origin": f"{PAGE} {FOREIGN}"},
        {"origin": f"{PAGE}, {FOREIGN}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "anything"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        BROWSER,
    ],
)
def test_what_a_page_of_another_site_sends(
    gateway: Served, upstream: HostileServer, method: str, headers: dict[str, str]
) -> None:
    given = {name: value.format(port=gateway.port) for name, value in headers.items()}
    body = BODY if method == "POST" else None
    before = len(upstream.received)
    for path in PATHS:
        reply = sent(gateway, method, path, body, **JSON, **given)
        assert reply.status_code == 403, (path, reply.text)
        assert reply.json()["error"]["code"] == "not_allowed"
        assert "access-control-allow-origin" not in reply.headers
    assert len(upstream.received) == before


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("origin", ["", PAGE])
def test_what_a_form_can_send(
    gateway: Served, upstream: HostileServer, kind: str, origin: str
) -> None:
    """No browser asks first for these types, so they are refused whoever sends them."""
    before = len(upstream.received)
    headers = {"origin": origin} if origin else {}
    if kind:
        headers["content_type"] = kind
    reply = sent(gateway, "POST", CHAT, BODY, **headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in reply.json()["error"]["message"]
    assert len(upstream.received) == before


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost", "localhost:9000", "[::1]:{port}"]
)
def test_programs_of_this_machine_are_answered(gateway: Served, host: str) -> None:
    """By whatever port: it may have been forwarded."""
    given = host.format(port=gateway.port)
    reply = sent(gateway, "POST", CHAT, BODY, host=given, content_type="Application/JSON; a=b")
    assert reply.status_code == 200
    # What is typed into the browser's own line.
    typed = sent(gateway, "GET", "/metrics", host=given, sec_fetch_site="none")
    assert typed.status_code == 200
    with openai.OpenAI(base_url=gateway.v1, api_key="any") as client:
        done = client.chat.completions.create(
            model="ecoalign", messages=[{"role": "user", "content": "hello"}]
        )
        assert done.choices[0].message.content == "fine"
        assert client.models.list().data


def test_a_probe_may_call_it_as_it_likes(gateway: Served) -> None:
    for path in ("/healthz", "/readyz"):
        assert sent(gateway, "GET", path, host="10.0.0.7:8000").status_code == 200
        # With a body it is no probe.
        assert sent(gateway, "POST", path, "x" * 1000, host="10.0.0.7").status_code == 403


# Pages on the list


def preflight(served: Served, origin: str, **headers: str) -> httpx2.Response:
    """What a browser asks before the official client of JavaScript may ask."""
    asked = {
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization,content-type,x-stainless-lang",
        "sec_fetch_site": "cross-site",
        "sec_fetch_mode": "cors",
    }
    return sent(served, "OPTIONS", CHAT, None, origin=origin, **(asked | headers))


def test_a_page_on_the_list_may_ask_and_read(gateway: Served) -> None:
    allowed = preflight(gateway, PAGE, access_control_request_private_network="true")
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "POST" in allowed.headers["access-control-allow-methods"]
    named = allowed.headers["access-control-allow-headers"].split(",")
    assert {"authorization", "content-type", "x-stainless-lang"} <= set(named)
    assert allowed.headers["access-control-allow-private-network"] == "true"
    assert "Origin" in allowed.headers["vary"]
    page = {"origin": PAGE, "sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}
    asked = json.dumps({"model": "ecoalign", "input": "hello"})
    for path, body, status in (
        *((CHAT, BODY, 200), (CHAT, "{", 400)),
        *((RESPONSES, asked, 200), (RESPONSES, "{", 400)),
    ):
        reply = sent(gateway, "POST", path, body, **JSON, **page)
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in reply.headers["vary"]
        exposed = reply.headers["access-control-expose-headers"]
        assert {"x-request-id", "retry-after"} <= {name.strip() for name in exposed.split(",")}
    # An answer that is kept by a cache is told apart by who asked for it.
    assert "Origin" in sent(gateway, "GET", "/v1/models").headers["vary"]


def test_credentials_and_others_are_never_allowed(gateway: Served) -> None:
    for origin in (PAGE, FOREIGN, "null", "*"):
        reply = preflight(gateway, origin)
        assert "access-control-allow-credentials" not in reply.headers
        assert reply.headers.get("access-control-allow-origin") in {None, PAGE}
        assert (reply.status_code == 204) == (origin == PAGE)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "", "app.example", "https://", "https://*.example", "https://a b"),
        *(f"{PAGE}/path", f"{PAGE}?x", "https://user@app.example"),
        *("https://app.example:0", "https://app.example:99999"),
    ],
)
def test_only_exact_origins_can_be_listed(origin: str) -> None:
    with pytest.raises(InputError, match="exact origin"):
        GatewayConfig(origins=(PAGE, origin))


def test_the_command_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--port", "0", "--allow-origin", "*")
    assert done.returncode == 2
    assert b"exact origin" in done.stderr


def test_origins_are_written_as_browsers_send_them() -> None:
    given = ("https://App.Example:443/", "http://localhost:3000", "http://x:80", "app://-")
    config = GatewayConfig(origins=given)
    assert config.origins == (PAGE, "http://localhost:3000", "http://x", "app://-")


async def _made(url: str) -> str:
    store = open_store(url)
    try:
        return (await store.create("page", KeyPolicy())).secret
    finally:
        await store.aclose()


async def test_with_keys_a_page_needs_both(upstream: HostileServer, tmp_path: Path) -> None:
    url = str(tmp_path / "keys.sqlite3")
    secret = await _made(url)
    arguments = ("--model", "m", "--base-url", upstream.url, "--method", "base", "--keys", url)
    with serving(tmp_path, *arguments, "--allow-origin", PAGE) as served:
        assert preflight(served, PAGE).headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-origin" not in preflight(served, FOREIGN).headers
        key = {"authorization": f"Bearer {secret}"}
        done = sent(served, "POST", CHAT, BODY, origin=PAGE, **JSON, **key)
        assert done.status_code == 200
        assert done.headers["access-control-allow-origin"] == PAGE
        refused = sent(served, "POST", CHAT, BODY, origin=PAGE, **JSON)
        assert refused.status_code == 401
        # The page can read why.
        assert refused.headers["access-control-allow-origin"] == PAGE
        # By what name it is asked for says nothing where there are keys.
        named = sent(served, "POST", CHAT, BODY, host="gateway.example", **JSON, **key)
        assert named.status_code == 200


_ASK = """async ([url, how]) => {
  try {
    const reply = await fetch(url, how);
    return [reply.status, reply.headers.get("x-request-id") ? await reply.text() : "unnamed"];
  } catch { return [0, ""]; }
}"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    """The origin of a page on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_real_browser(
    chromium: Browser, upstream: HostileServer, origin: str, tmp_path: Path
) -> None:
    """An app in a browser gets its answers through the list; the same page by another name none,
    in any way that a page has."""
    arguments = ("--model", "m", "--base-url", upstream.url, "--method", "base")
    with serving(tmp_path, *arguments, "--allow-origin", origin) as served:
        # Not with the usual tab: it would answer for the browser's own preflights.
        page = chromium.new_page()
        page.goto(origin)
        posted = {"method": "POST", "body": BODY, "headers": JSON | {"Authorization": "Bearer any"}}
        status, text = page.evaluate(_ASK, [served.url + CHAT, posted])
        assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, "fine")
        status, text = page.evaluate(_ASK, [served.url + CHAT, posted | {"body": "{"}])
        assert (status, json.loads(text)["error"]["code"]) == (400, "invalid_json")
        assert page.evaluate(_ASK, [served.url + "/v1/models", {}])[0] == 200
        asked = len(upstream.received)
        page.goto(origin.replace("localhost", "127.0.0.1"))
        plain = {"method": "POST", "body": BODY, "mode": "no-cors"}
        for how in (
            posted,
            plain,
            plain | {"headers": {"Content-Type": "text/plain"}},
            plain | {"credentials": "include"},
        ):
            assert page.evaluate(_ASK, [served.url + CHAT, how])[0] == 0
        page.evaluate(
            """async ([url, body]) => {
              navigator.sendBeacon(url, body);
              const form = Object.assign(document.createElement("form"),
                {method: "POST", action: url, enctype: "text/plain", target: "into"});
              form.append(Object.assign(document.createElement("input"), {name: body, value: ""}));
              const frame = Object.assign(document.createElement("iframe"), {name: "into"});
              document.body.append(frame, form);
              const loaded = new Promise((done) => { frame.onload = done; });
              form.submit();
              await loaded;
              const image = new Image();
              const failed = new Promise((done) => { image.onload = image.onerror = done; });
              image.src = url.replace("/chat/completions", "/models");
              await failed;
            }""",
            [served.url + CHAT, BODY],
        )
        page.close()
        assert served.metric('ecoalign_turned_away_total{reason="place"}') >= 5
    assert len(upstream.received) == asked
