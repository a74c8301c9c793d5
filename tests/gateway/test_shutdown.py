"""What clients are told whose requests the end of the server cuts off."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from hostile import HostileServer, Received, Reply
from serving import ANY_METHOD, WAIT, asking, serving


def test_a_request_that_is_cut_off_learns_why_on_every_route(tmp_path: Path) -> None:
    everyone = threading.Semaphore(0)

    def stuck(request: Received) -> Reply:
        everyone.release()
        return Reply(hang=True)

    response = {"model": "ecoalign", "input": "Hello?"}
    with (
        HostileServer(stuck) as upstream,
        serving(
            tmp_path, *("--model", "m", "--base-url", upstream.url, "--drain", "1"), *ANY_METHOD
        ) as served,
        ThreadPoolExecutor() as clients,
    ):
        asked = [
            clients.submit(httpx2.post, f"{served.v1}/{path}", json=body | more, timeout=WAIT)
            for path, body in (("chat/completions", asking("Hello?")), ("responses", response))
            for more in ({}, {"stream": True}, {"ecoalign": {"method": "base"}})
        ]
        for _ in asked:
            assert everyone.acquire(timeout=WAIT)
        assert served.stop() == 0
        for one in asked:
            reply = one.result(WAIT)
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "shutting_down"
            assert reply.headers["retry-after"] == "1"
