"""`ecoalign serve --engine ray`: the same app in two processes behind one address."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from command import environment
from hostile import HostileServer, Received, Reply
from served import well_behaved

from ecoalign.gateway.keys import KeyPolicy, WindowUsage, open_store
from ecoalign.gateway.keys._policy import CHOICES

pytest.importorskip("ray.serve", reason='Ray is not installed: pip install "ecoalign[ray]"')

START = 120
STOP = 60
WINDOW = 1_000_000
CANARY = "rule-of-the-blue-heron"


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway on Ray with two replicas."""

    url: str
    key: str
    store: str
    log: Path
    upstream: HostileServer


def with_parts(request: Received) -> Reply:
    """`well_behaved`, also for messages that are passed on as their clients wrote them."""
    body = request.json
    messages = body["messages"]
    assert isinstance(messages, list)
    body["messages"] = [
        {**one, "content": [{"type": "text", "text": one["content"]}]}
        if isinstance(one["content"], str)
        else one
        for one in messages
    ]
    whole = json.dumps(body).encode()
    return well_behaved(Received(request.method, request.path, request.headers, whole))


async def _made(store: str) -> str:
    keys = open_store(store)
    try:
        policy = KeyPolicy(window_tokens=WINDOW, may_choose=frozenset(CHOICES))
        return (await keys.create("test", policy)).secret
    finally:
        await keys.aclose()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("ray")
    store = str(home / "keys.sqlite3")
    key = asyncio.run(_made(store))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    log = home / "log"
    with HostileServer(with_parts) as upstream, log.open("w") as file:
        command = [sys.executable, "-m", "ecoalign", "serve", "--engine", "ray", "--replicas", "2"]
        command += ["--model", "openai:tiny", "--base-url", upstream.url, "--keys", store]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--drain", "5"],
            env=environment(home, OPENAI_API_KEY="sk-of-the-upstream-0123456789"),
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
        try:
            _wait_until_it_listens(process, log)
            yield Running(f"http://127.0.0.1:{port}/v1", key, store, log, upstream)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert code == 0, log.read_text()
        assert not _replicas_of(home), "processes were left behind"


def _wait_until_it_listens(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START
    while "listening on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def _log_with(running: Running, mark: str, count: int) -> str:
    """The log, once it has `count` lines with `mark`: Ray brings them along in its own time."""
    until = time.monotonic() + START
    while (text := running.log.read_text()).count(mark) < count:
        assert time.monotonic() < until, text
        time.sleep(0.05)
    return text


def _replicas_of(home: Path) -> list[int]:
    """The processes of Ray that belong to this test, by the home in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            settings = (entry / "environ").read_bytes()
            name = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"HOME={home}\0".encode() in settings and name.startswith(b"ray::"):
            found.append(int(entry.name))
    return found


def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=running.url, api_key=running.key, max_retries=0)


def test_both_replicas_answer_and_share_the_window(running: Running) -> None:
    with client(running) as asking:
        for _ in range(24):
            answer = asking.chat.completions.create(
                model="ecoalign",
                messages=[{"role": "user", "content": f"What is 6 times 7? {CANARY}"}],
                max_tokens=50,
                extra_body={"ecoalign": {"method": "base"}},
            )
            assert answer.choices[0].message.content == "42"
    text = _log_with(running, "method=base", 24)
    lines = [line for line in text.splitlines() if "method=base" in line]
    replicas = {match[1] for line in lines if (match := re.search(r"pid=(\d+)", line))}
    assert len(replicas) == 2
    assert CANARY not in text
    assert running.key not in text

    async def window() -> WindowUsage:
        keys = open_store(running.store)
        try:
            return (await keys.usage("test"))[0]
        finally:
            await keys.aclose()

    shared = asyncio.run(window())
    assert (shared.requests, shared.open) == (24, 0)
    # What the upstream said each of the 24 equal calls had used.
    assert shared.tokens == 24 * _tokens_of(lines[0])


def _tokens_of(line: str) -> int:
    found = re.search(r'tokens={"answer": (\d+)}', line)
    assert found is not None
    return int(found[1])


def test_a_search_streams_through_the_proxy(running: Running) -> None:
    with client(running) as asking:
        stream = asking.chat.completions.create(
            model="ecoalign",
            messages=[{"role": "user", "content": "What is 6 times 7?"}],
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == "42"


def test_errors_keep_their_shape(running: Running) -> None:
    with (
        openai.OpenAI(base_url=running.url, api_key="wrong", max_retries=0) as asking,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        asking.models.list()
    assert caught.value.code == "invalid_api_key"


def test_what_listens_more_widely_than_the_loopback_wants_a_token(running: Running) -> None:
    """Ray Serve opens one port for each replica on all interfaces; nothing else does."""
    import grpc

    wide = _wide_ports(running.log.parent)
    assert len(wide) == 2
    for port in wide:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=STOP)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def _wide_ports(home: Path) -> set[int]:
    """Ports that processes with this home listen on beyond the loopback interface."""
    inodes = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}\0".encode() not in (entry / "environ").read_bytes():
                continue
            links = [os.readlink(link) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    loopback = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == "0A" and fields[9] in inodes and address not in loopback:
                found.add(int(port, 16))
    return found
