"""Images as clients write them: the same is taken and the same refused on every route."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import httpx2
import pytest
from hostile import HostileServer, Received, Reply
from PIL import Image
from routes import ROUTES, Route, ask
from served import in_events, well_behaved
from serving import ANY_METHOD, WAIT, Served, serving

EACH = pytest.mark.parametrize("route", ROUTES, ids=str)


def _png() -> bytes:
    file = io.BytesIO()
    # Of a size at which its base64 needs padding, with letters that the alphabets write otherwise.
    Image.effect_noise((40, 41), 90).save(file, "PNG")
    data = file.getvalue()
    return data + b"\0" * ((1 - len(data)) % 3)


PNG = _png()

PLAIN = base64.b64encode(PNG).decode()

SAFE = base64.urlsafe_b64encode(PNG).decode()

TAKEN = {
    "as it should be": f"data:image/png;base64,{PLAIN}",
    "no padding": f"data:image/png;base64,{PLAIN.rstrip('=')}",
    "the alphabet of URLs": f"data:image/png;base64,{SAFE}",
    "the same without padding": f"data:image/png;base64,{SAFE.rstrip('=')}",
    "lines": "data:image/png;base64," + "\n".join(re.findall(".{1,76}", PLAIN)),
    "lines of Windows, blanks": "data:image/png;base64, "
    + "\r\n ".join(re.findall(".{1,64}", PLAIN)),
    "upper case": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "a blank before the comma": f"data:image/png;base64 ,{PLAIN}",
    "a character set": f"data:image/png;charset=utf-8;base64,{PLAIN}",
    "a name": f"data:image/png;name=a.png;base64,{PLAIN}",
    "no type": f"data:;base64,{PLAIN}",
    "another type": f"data:application/octet-stream;base64,{PLAIN}",
    "jpg for a PNG": f"data:image/jpg;base64,{PLAIN}",
    "percent signs": f"data:image/png;base64,{quote(PLAIN, safe='')}",
    "bytes, percent-encoded": f"data:image/png,{quote(PNG)}",
}

REFUSED = {
    "a file": ("file:///etc/passwd", "file"),
    "a path": ("/home/ann/sign.png", "data:"),
    "a path of Windows": ("C:\\signs\\sign.png", "data:"),
    "a name": ("sign.png", "data:"),
    "bare base64": (PLAIN, "data:image/png;base64,"),
    "bare base64, long": (PLAIN.rstrip("=") * 9, "data:image/png;base64,"),
    "bare base64 of a JPEG": ("/9j/" + "4AAQSkZJRgABAQAA" * 20, "data:image/png;base64,"),
    "half a URI": (f"image/png;base64,{PLAIN}", "data:"),
    "a blob": ("blob:https://app.example/0-1", "data:"),
    "a bucket": ("gs://bucket/sign.png", "data:"),
    "an address": ("https://images.example.org/sign.png", "URL"),
    "no comma": ("data:image/png;base64", "comma"),
    "no data": ("data:image/png;base64,", "empty"),
    "no base64": ("data:image/png;base64,????", "base64"),
    "cut short": (f"data:image/png;base64,{PLAIN[:5]}", "base64"),
    "no image": ("data:text/plain;base64,aGVsbG8gd29ybGQgaGVsbG8=", "PNG"),
    "a vector": ("data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dyI+", "PNG"),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileServer]:
    def handler(request: Received) -> Reply:
        return in_events(well_behaved(request), request.json)

    with HostileServer(handler) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("forms")
    with serving(home, "--model", "gpt-4o", "--base-url", upstream.url, *ANY_METHOD) as served:
        yield served


def _content(url: str) -> list[dict[str, object]]:
    return [
        {"type": "text", "text": "What does the sign say?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]


@EACH
@pytest.mark.parametrize("form", TAKEN)
def test_what_is_taken(gateway: Served, upstream: HostileServer, route: Route, form: str) -> None:
    begun = len(upstream.received)
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        got = ask(client, route, {}, _content(TAKEN[form]))
    assert (got.content, got.error) == ("42", ""), got
    sent = json.dumps([request.json for request in upstream.received[begun:]])
    urls = re.findall(r'"(data:[^"]*)"', sent)
    assert urls
    for url in urls:
        # Whatever it was, it is what every server takes.
        head, _, data = url.partition(",")
        assert re.fullmatch("data:image/(png|jpeg);base64", head)
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert image.size == (40, 41)


@EACH
@pytest.mark.parametrize("form", REFUSED)
def test_what_is_refused_and_why(
    gateway: Served, upstream: HostileServer, route: Route, form: str
) -> None:
    url, word = REFUSED[form]
    begun = len(upstream.received)
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        got = ask(client, route, {}, _content(url))
    assert got.status == 400, got
    error = json.loads(got.error)
    place = "messages[0].content[1].image_url.url"
    assert error["param"] == (place if route.path == "chat" else "input[0].content[1].image_url")
    assert word in error["message"], error
    assert len(error["message"]) < 400
    # Nothing was asked, so nothing was spent.
    assert len(upstream.received) == begun
