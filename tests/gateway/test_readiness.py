"""`/readyz` is red while no request could be served, says why, and is green again by itself."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
from command import run
from hostile import Received
from postgres_server import missing, private_server
from served import well_behaved
from serving import ANY_METHOD, WAIT, Served, asking, serving

from ecoalign.gateway._readiness import SUSPECT

KEY = "sk-never-to-be-seen-0123456789"


class Flaky:
    """An upstream on one port that can be down, up, or up and unwell.

    Attributes:
        url: the base URL.
        answer: what each request gets in place of a good answer; None for a good one.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.listing = self.answering = 200
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def up(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def _say(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                outer.asked.append("GET")
                self._say(outer.listing, {"data": [{"id": "m"}]})

            def do_POST(self) -> None:
                outer.asked.append("POST")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = well_behaved(Received("POST", self.path, headers, body))
                status = outer.answering
                self._say(status, reply.body if status == 200 else {"error": {"message": "no"}})

        self._held.close()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._held.close()


@contextmanager
def flaky() -> Iterator[Flaky]:
    server = Flaky()
    try:
        yield server
    finally:
        server.down()


def ready(served: Served) -> tuple[int, str]:
    reply = served.get("/readyz")
    body = reply.json()
    return reply.status_code, "" if reply.status_code == 200 else body["error"]["message"]


def becomes(served: Served, status: int) -> str:
    """Wait until it is red, or green; why."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found, why = ready(served)
        if found == status:
            return why
        time.sleep(0.1)
    raise AssertionError(f"still {found}: {why}")


def no_secrets(why: str) -> None:
    assert not any(word in why for word in ("127.0.0.1", "http:", "/", KEY, "sqlite"))


def ask(served: Served, **options: object) -> str:
    """Ask; the code of the error, "" if there is an answer."""
    reply = served.post(asking("Hello?", ecoalign=options))
    return "" if reply.status_code == 200 else str(reply.json()["error"]["code"])


def test_an_upstream_that_is_not_there_from_the_start_and_comes(tmp_path: Path) -> None:
    with (
        flaky() as upstream,
        serving(tmp_path, "--model", "m", "--base-url", upstream.url) as served,
    ):
        status, why = ready(served)
        assert (status, "the model's upstream" in why, "nothing listens" in why) == (
            503,
            True,
            True,
        )
        no_secrets(why)
        assert served.metric('ecoalign_ready{part="model"}') == 0
        assert served.get("/healthz").status_code == 200
        upstream.up()
        becomes(served, 200)
        assert served.metric('ecoalign_ready{part="model"}') == 1
        assert ask(served) == ""


@pytest.mark.parametrize("method", ["ecoalign", "base"])
def test_an_upstream_that_goes_is_noticed_by_its_calls_and_again_without_any(
    method: str, tmp_path: Path
) -> None:
    options = ("--model", "m", "--base-url", "URL", "--set", "retries=0", *ANY_METHOD)
    with flaky() as upstream:
        upstream.up()
        arguments = [upstream.url if each == "URL" else each for each in options]
        with serving(tmp_path, *arguments) as served:
            assert ready(served)[0] == 200
            assert ask(served, method=method) == ""
            upstream.down()
            assert ready(served)[0] == 200  # one is as good as none: nobody has asked it
            for _ in range(SUSPECT):
                assert ask(served, method=method) == "model_down"
            why = becomes(served, 503)
            no_secrets(why)
            calls = list(upstream.asked)
            upstream.up()
            becomes(served, 200)  # nobody has asked meanwhile
            assert set(upstream.asked[len(calls) :]) == {"GET"}
            assert ask(served, method=method) == ""


def test_an_evaluator_that_is_not_there_is_named(tmp_path: Path) -> None:
    with flaky() as model, flaky() as guard:
        model.up()
        table = json.dumps({"guard": {"model": "openai:g", "base_url": guard.url, "key_env": ""}})
        with serving(
            tmp_path,
            *("--model", "m", "--base-url", model.url, "--evaluator", "guard"),
            *("--set", f"endpoints={table}", "--set", "retries=0"),
        ) as served:
            why = becomes(served, 503)
            assert why.startswith("the evaluator's upstream")
            assert ask(served) == "evaluator_down"
            guard.up()
            becomes(served, 200)
            assert ask(served) == ""


def test_no_client_makes_a_replica_red_by_what_it_asks(tmp_path: Path) -> None:
    """What is asked fails each time; the server is there."""
    with flaky() as upstream:
        upstream.up()
        upstream.answering = 500
        with serving(
            tmp_path, "--model", "m", "--base-url", upstream.url, "--set", "retries=0", *ANY_METHOD
        ) as served:
            for _ in range(2 * SUSPECT):
                assert ask(served, method="base") == "model_server"
            assert ready(served)[0] == 200
            upstream.listing = 503
            for _ in range(SUSPECT):
                ask(served, method="base")
            assert "HTTP 503" in becomes(served, 503)
            upstream.listing = 401
            assert "wants a key" in _until(served, "key")
            upstream.listing = 404  # some servers list no models
            becomes(served, 200)


@pytest.mark.parametrize("listing", [403, 500])
def test_a_list_that_a_key_may_not_have_tells_nothing(listing: int, tmp_path: Path) -> None:
    """The upstream answers, and rejects what clients ask for."""
    with flaky() as upstream:
        upstream.up()
        upstream.answering, upstream.listing = 400, listing
        with serving(
            tmp_path, "--model", "m", "--base-url", upstream.url, "--set", "retries=0", *ANY_METHOD
        ) as served:
            assert ready(served)[0] == 200
            for _ in range(2 * SUSPECT):
                assert ask(served, method="base") == "model_rejected"
            assert ready(served)[0] == 200


def _until(served: Served, word: str) -> str:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if word in (why := ready(served)[1]):
            return why
        time.sleep(0.1)
    raise AssertionError(word)


@contextmanager
def keyed(tmp_path: Path) -> Iterator[tuple[Served, Path, str]]:
    """A gateway with a key, and its store, which is read at once."""
    store = tmp_path / "keys.sqlite3"
    made = run(
        tmp_path, "keys", "create", "t", "--limit", "2000000", "--keys", str(store), "--json"
    )
    secret = json.loads(made.stdout)["secret"]
    with serving(tmp_path, "--keys", str(store)) as served:
        assert ready(served)[0] == 200
        yield served, store, secret


def test_a_store_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    with keyed(tmp_path) as (served, store, secret):
        away = tmp_path / "away"
        store.rename(away)
        assert becomes(served, 503) == "the store of the keys is gone"
        assert served.post(asking("hi"), secret).json()["error"]["code"] == "store_unavailable"
        assert not store.exists()  # an empty one in its place would know no key
        away.rename(store)
        becomes(served, 200)
        assert served.get("/v1/models", authorization=f"Bearer {secret}").status_code == 200


def test_a_store_that_is_replaced_is_opened_again(tmp_path: Path) -> None:
    with keyed(tmp_path) as (served, store, _):
        for end in ("", "-wal", "-shm"):
            Path(f"{store}{end}").unlink(missing_ok=True)
        becomes(served, 503)
        made = run(tmp_path, "keys", "create", "u", "--keys", str(store), "--json")
        secret = json.loads(made.stdout)["secret"]
        becomes(served, 200)
        assert served.get("/v1/models", authorization=f"Bearer {secret}").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_store_that_cannot_grow(tmp_path: Path) -> None:
    with keyed(tmp_path) as (served, _, _):
        pid, size = served.process.pid, resource.RLIMIT_FSIZE
        _, most = resource.prlimit(pid, size)
        resource.prlimit(pid, size, (4096, most))
        why = becomes(served, 503)
        assert why.startswith("the store of the keys")
        no_secrets(why)
        resource.prlimit(pid, size, (resource.RLIM_INFINITY, most))
        becomes(served, 200)


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk of half a megabyte of its own."""
    folder.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("disks are mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_and_is_emptied(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as folder, keyed(folder) as (served, _, secret):
        ballast = folder / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert becomes(served, 503) == "the store of the keys is full"
        refused = served.post(asking("hi"), secret)
        assert refused.json()["error"]["code"] == "store_unavailable"
        ballast.unlink()
        becomes(served, 200)
        assert served.post(asking("How do I open the gate?"), secret).status_code == 200


def test_a_disk_that_is_read_only_and_is_made_writable(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as folder:
        store = folder / "keys.sqlite3"
        run(tmp_path, "keys", "create", "t", "--keys", str(store))
        again = ["mount", "-o", "remount,ro", str(folder)]
        subprocess.run(again, check=True)
        with serving(tmp_path, "--keys", str(store)) as served:
            assert becomes(served, 503) == "the store of the keys is read-only"
            subprocess.run([*again[:2], "remount,rw", str(folder)], check=True)
            becomes(served, 200)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_database_that_is_read_only_or_not_there(tmp_path: Path) -> None:
    with private_server() as url:

        def do(statement: str) -> None:
            with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                connection.execute(statement)

        do("CREATE DATABASE keys")
        with serving(tmp_path, "--keys", f"{url}/keys") as served:
            becomes(served, 200)
            do("ALTER SYSTEM SET default_transaction_read_only = on")
            do("SELECT pg_reload_conf()")
            assert becomes(served, 503) == "the store of the keys is read-only"
            do("ALTER SYSTEM RESET default_transaction_read_only")
            do("SELECT pg_reload_conf()")
            becomes(served, 200)


def test_a_folder_of_traces_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    with serving(tmp_path, "--trace-dir", str(folder)) as served:
        assert ready(served)[0] == 200
        folder.rename(tmp_path / "away")
        why = becomes(served, 503)
        assert why.startswith("traces cannot be written")
        no_secrets(why)
        (tmp_path / "away").rename(folder)
        becomes(served, 200)
        assert list(folder.iterdir()) == []
