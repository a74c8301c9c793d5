"""`ecoalign serve` as a process: what it logs, traces and fetches, and what it never does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from listening import listening
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import ANY_METHOD, JSON, WAIT, Served, asking, picture, serving, text

CANARY = "canary"
UPSTREAM_KEY = "sk-canary-of-the-upstream-0123456789"
CLIENT_KEY = "eco-canarycanary-" + "canary" * 9
PROMPT = "canary: what is in the picture?"


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("fetching"), "--image-urls", *ANY_METHOD) as served:
        yield served


def requests(served: Served) -> list[dict[str, object]]:
    """The lines of the log for requests, one each; what failed in one has lines of its own."""
    found = [json.loads(line) for line in served.said if line.startswith("{")]
    return [line for line in found if line["message"] == "request"]


def url(address: str) -> dict[str, object]:
    return asking(text(PROMPT), {"type": "image_url", "image_url": {"url": address}})


def test_no_canary_comes_out_of_a_process(tmp_path: Path) -> None:
    def echo(body: bytes) -> tuple[int, bytes]:
        """A server that quotes what it was asked in every way there is."""
        said = f"{body.decode()} Bearer {UPSTREAM_KEY}"
        statuses = [500, 400, 401, 429, 200]
        heard = len(upstream.bodies)
        return statuses[heard % 5], json.dumps({"error": {"message": said}, "x": said}).encode()

    with (
        listening(echo) as upstream,
        listening() as collector,
        serving(
            tmp_path,
            *("--model", "openai:canary-model", "--base-url", f"{upstream.url}/v1"),
            *("--otel", "--log-level", "debug", "--budget", "100000", "--set", "retries=0"),
            *ANY_METHOD,
            OPENAI_API_KEY=UPSTREAM_KEY,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        ) as served,
    ):
        answers = []
        for method in ("ecoalign", "base", "best-of-2", "vlm-guard", "ecoalign"):
            body = asking(text(PROMPT), picture(), ecoalign={"method": method}, model="ecoalign")
            answers.append(served.post(body, CLIENT_KEY))
        streamed = asking(text(PROMPT), picture(), stream=True)
        answers.append(served.post(streamed, CLIENT_KEY))
        answers.append(served.post(asking(PROMPT, model="canary-" * 9), CLIENT_KEY))
        answers.append(served.post({"messages": PROMPT, "model": "ecoalign"}, CLIENT_KEY))
        answers.append(served.post(url(f"http://user:{CANARY}@10.0.0.1/{CANARY}.png"), CLIENT_KEY))
        raw = f"{served.v1}/chat/completions?key={CLIENT_KEY}"
        broken = b'{"canary": ' + b"[" * 9999
        answers.append(httpx2.post(raw, content=broken, headers=JSON, timeout=WAIT))
        answers.append(served.get(f"/{CANARY}/{CLIENT_KEY}", **{"x-request-id": CLIENT_KEY}))
        # Without the option no image is fetched, whatever the address.
        assert "data: URI" in answers[8].json()["error"]["message"]
        assert served.metric('ecoalign_image_url_refusals_total{reason="off"}') == 1
        assert served.stop() == 0
    assert UPSTREAM_KEY in "".join(upstream.heads)
    for answer in answers:
        assert UPSTREAM_KEY not in answer.text
        assert answer.headers["x-request-id"].startswith("req-")
    logged = "".join(served.said).replace("openai:canary-model", "")
    assert CANARY not in logged
    assert len(requests(served)) == len(answers)
    assert {line["status"] for line in requests(served)} >= {404, 400}
    # The libraries' own lines were asked for, and came without what they say.
    assert '"message":"(message withheld' in logged, sorted(
        {line["logger"] for line in map(json.loads, served.said)}
    )
    spans = b"".join(collector.bodies).replace(b"canary-model", b"")
    assert b"invoke_workflow ecoalign" in spans
    assert CANARY.encode() not in spans


def test_spans_reach_a_collector(tmp_path: Path) -> None:
    with listening() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with serving(tmp_path, "--otel", **variables) as served:
            answer = served.post(asking(text("How many signs are there?"), picture()))
            assert answer.status_code == 200
            assert served.stop() == 0
    assert set(collector.paths) == {"/v1/traces"}
    spans, services = [], set()
    for body in collector.bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            }
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    assert services == {"ecoalign"}
    (root,) = [span for span in spans if not span.parent_span_id]
    calls = [span for span in spans if span.parent_span_id]
    assert len(calls) == answer.json()["ecoalign"]["spent"]["calls"]
    assert {call.parent_span_id for call in calls} == {root.span_id}
    assert {call.trace_id for call in calls} == {root.trace_id}
    for call in calls:
        # A call is said to begin as long before its end as it took, by another clock.
        assert call.start_time_unix_nano >= root.start_time_unix_nano - 2_000_000
        assert call.end_time_unix_nano <= root.end_time_unix_nano


INSIDE = [
    "http://127.0.0.1:{port}/canary.png",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://localhost:{port}/",
    "http://localhost.:{port}/",
    "http://127.0.0.1",
    "http://[::ffff:7f00:1]/",
    "http://0.0.0.0/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://user:pass@127.0.0.1/",
    "http://example.org@127.0.0.1/",
    "http://127.0.0.1#@example.org/",
    "http://127.0.0.1\\@example.org/",
    "file:///etc/passwd",
    "/etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nX: y",
]


def test_addresses_inside_cannot_be_reached_through_the_api(fetching: Served) -> None:
    told = set()
    with listening() as door:
        port = door.url.rpartition(":")[2]
        for address in INSIDE:
            for method in ("ecoalign", "base"):
                body = url(address.format(port=port)) | {"ecoalign": {"method": method}}
                answer = fetching.post(body)
                assert answer.status_code == 400
                error = answer.json()["error"]
                assert error["param"].startswith("messages[0].content[1]")
                told.add(error["message"])
        assert not door.paths
    assert not [each for each in told if re.search(r"127|169\.254|::1|root:|canary", each)]
    assert fetching.metric('ecoalign_image_url_refusals_total{reason="url"}') > 0
    assert fetching.metric('ecoalign_image_url_refusals_total{reason="address"}') > 0


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM"])
def test_only_the_kinds_of_the_api_are_decoded(fetching: Served, kind: str) -> None:
    import base64
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    data = base64.b64encode(buffer.getvalue()).decode()
    # What it says it is does not matter.
    answer = fetching.post(url(f"data:image/png;base64,{data}"))
    assert answer.status_code == 400
    assert "PNG, JPEG, GIF or WebP" in answer.json()["error"]["message"]


def test_deep_json_and_large_bodies_leave_the_server_standing(fetching: Served) -> None:
    where = f"{fetching.v1}/chat/completions"
    deep = b'{"model": "ecoalign", "messages": ' + b"[" * 500_000
    for body, status in ((deep, 400), (b"x" * (33 * 1024 * 1024), 413)):
        answer = httpx2.post(where, content=body, headers=JSON, timeout=WAIT)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert fetching.get("/healthz").status_code == 200
