"""`ecoalign play` and `ecoalign serve --ui` as an operator starts them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from command import KEY, both, environment, run
from playing import HARMLESS, asked

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/#([\w-]{32})")

WAIT = 60.0


class Started:
    """A command that serves.

    Attributes:
        process: of it.
        address: of the playground.
        url, port, token: parts of it.
    """

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        found = _ADDRESS.search(line)
        assert found, line
        self.address, self.port, self.token = found[0], int(found[1]), found[2]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Origin": self.url}

    def stop(self) -> tuple[int, str]:
        """End it as a terminal does; its exit code, and what it said on standard error."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=WAIT)
        return self.process.returncode, said


@contextmanager
def started(home: Path, *arguments: str, **variables: str) -> Iterator[Started]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ecoalign", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        env=environment(home, **variables),
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line.startswith("{"):
                line += process.stdout.readline()
            yield Started(process, line)
        finally:
            if process.poll() is None:
                process.kill()


def test_one_address_is_printed_and_nothing_else(tmp_path: Path) -> None:
    with started(tmp_path, "play") as play:
        assert httpx2.get(play.url).status_code == 200
        about = httpx2.get(f"{play.url}/api/about", headers=play.headers)
        assert about.json()["model"] == "embedded"
        answered = httpx2.post(
            f"{play.url}/api/run", json=asked(HARMLESS), headers=play.headers, timeout=WAIT
        )
        assert json.loads(answered.text.splitlines()[-1]) == {"done": True}
        code, said = play.stop()
        assert play.process.stdout is not None
    assert code == 0
    assert "embedded model" in said
    assert play.token not in said
    assert HARMLESS not in said
    assert "Traceback" not in said


def test_as_json_and_quiet(tmp_path: Path) -> None:
    with started(tmp_path, "play", "--json", "--quiet") as play:
        code, said = play.stop()
    assert (code, said) == (0, "")


def test_a_termination_is_clean_while_something_is_asked(tmp_path: Path) -> None:
    with socket.socket() as silent:
        # Connections are taken by the system, and nobody answers.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        arguments = ("--model", "gpt-4o", "--base-url", url)
        with (
            started(tmp_path, "play", *arguments, OPENAI_API_KEY=KEY) as play,
            httpx2.stream(
                "POST", f"{play.url}/api/run", json=asked(), headers=play.headers, timeout=WAIT
            ) as response,
        ):
            lines = response.iter_lines()
            assert "budget" in json.loads(next(lines))
            play.process.send_signal(signal.SIGTERM)
            # The other lines: the runs are cancelled, and the connection ends.
            with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
                list(lines)
            _, said = play.process.communicate(timeout=WAIT)
    assert play.process.returncode == 0, said
    assert KEY not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("play", "--max-budget", "much"), "much"),
        (("play", "--budget", "-1"), "budget"),
        (("play", "--model", "nobody:x"), "nobody"),
        (("play", "--preset", "papre"), "papre"),
        (("serve", "--ui-port", "8123"), "--ui-port requires --ui"),
    ],
)
def test_bad_options_end_at_once(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stdout == b""
    assert len(done.stderr.decode().splitlines()) == 1


@pytest.mark.parametrize("command", ["play", "serve"])
def test_a_port_in_use_is_said(command: str, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = str(held.getsockname()[1])
        option = (
            ("--port", port) if command == "play" else ("--port", "0", "--ui", "--ui-port", port)
        )
        done = run(tmp_path, command, *option)
    assert done.returncode == 2
    assert f"port {port}" in both(done)
    assert "Traceback" not in both(done)


def test_the_playground_stands_beside_the_gateway_on_a_port_of_its_own(tmp_path: Path) -> None:
    arguments = ("serve", "--port", "0", "--ui", "--max-budget", "3000", "--log-content")
    with started(tmp_path, *arguments) as play:
        assert play.process.stderr is not None
        while not (found := re.search(r"listening on (\S+)/v1", play.process.stderr.readline())):
            pass
        gateway = found[1]
        assert gateway != play.url
        # The gateway knows nothing of the page, with or without the token.
        for path in ("/", "/api/about"):
            token = {"authorization": play.headers["Authorization"]}
            assert httpx2.get(gateway + path, headers=token).status_code == 404
            # From the page of another port it is a foreign page's request.
            assert httpx2.get(gateway + path, headers=play.headers).status_code == 403
        assert httpx2.get(f"{gateway}/v1/models").status_code == 200
        about = httpx2.get(f"{play.url}/api/about", headers=play.headers).json()
        assert about["budget"]["most"] == 3000
        assert httpx2.get(f"{play.url}/v1/models", headers=play.headers).status_code == 404
        answered = httpx2.post(
            f"{play.url}/api/run", json=asked(HARMLESS), headers=play.headers, timeout=WAIT
        )
        assert "add blue salt" in answered.text
        code, said = play.stop()
    assert code == 0
    assert play.token not in said
    assert "Traceback" not in said


def test_the_browser_is_led_there_by_a_private_file(tmp_path: Path) -> None:
    """Others can read the arguments of a process, and so would have the secret."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nfile="${{1#file://}}"\n'
        f'{{ echo "$1"; stat -c %a "$(dirname "$file")"; cat "$file"; }} >"{seen}.part"\n'
        f'mv "{seen}.part" "{seen}"\n',
        encoding="utf-8",
    )
    browser.chmod(0o700)
    with started(tmp_path, "play", "--open", BROWSER=f"{browser} %s") as play:
        end = time.monotonic() + WAIT
        while not seen.exists():
            assert time.monotonic() < end
        address, mode, page = seen.read_text(encoding="utf-8").split("\n", 2)
        play.stop()
    assert play.token not in address
    assert mode == "700"
    assert play.address in page
    assert not Path(address.removeprefix("file://")).exists()
