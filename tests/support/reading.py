"""A reader who runs the commands of the documentation, page by page, as they are written.

A page's commands run in order, in a folder with a copy of examples/ and pictures of the names that
the pages use. What names a real model meets a server of ours behind a real socket. `HOW` says for
each command which it is, and why where it is not simply run.

    python tests/support/reading.py

writes what the commands say now below them, where a page shows it: below
`<!-- output -->` their standard output, below `<!-- all output -->` what a terminal shows. So it
does with files (`<!-- file: examples/NAME.py -->`).
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import pyarrow.parquet
import typer
from command import KEY, ROOT, environment
from documented import PAGES, Block, Command, blocks, commands
from hostile import HostileServer, Received, Reply
from PIL import Image
from served import well_behaved
from typer.core import TyperGroup

from ecoalign.cli._app import app

WAIT = 120
OUTPUT = {"output", "all output"}
PRICES = '{"openai:gpt-4o": {"input": 2.5, "output": 10}}'
"""The server of ours that is asked in its place has no known price."""

Way = Literal["run", "asks", "serve", "smaller", "estimate", "options", "extra", "elsewhere"]


@dataclass(frozen=True)
class How:
    """What is done with the commands that a pattern fits.

    Attributes:
        pattern: of the whole command, from its first letter.
        way: run: as it stands, on the embedded model. asks: likewise, and what it asks is answered
            by a server of ours, at `OPENAI_BASE_URL`, or at `--base-url` where a server of one's
            own is meant. serve: started, and stopped at the end of the page. smaller: run on one
            sample. estimate: run with `--estimate`, which opens the model and makes no call.
            options: its command and options are there, and every value is taken. extra: the extra
            that pip is to install is there. elsewhere: another test runs it, or it is no program
            of ours.
        why: why it is not simply run, where it is not.
        code: how it ends.
        more: options that are appended.
    """

    pattern: str
    way: Way
    why: str = ""
    code: int = 0
    more: tuple[str, ...] = ()


_LOCAL = r"(vllm|sglang|llamacpp|ollama|lmstudio):"
HOW = [
    # The two of the README that CI reads and runs in an environment of its own.
    How(r"python3 -m venv \.venv( |$)", "elsewhere", "CI runs the README's in a fresh environment"),
    How(r"\. activate$", "elsewhere", "there is no environment to activate"),
    How(r"export [A-Z_]+=", "elsewhere", "sets a key"),
    How(r"(pytest|ruff|mypy|lint-imports|zensical) ?", "elsewhere", "CI runs them"),
    How(r"pip install .*'?mutmut", "elsewhere", "takes an hour"),
    How(r"pip install (--no-deps |--require-hashes )?-r ", "elsewhere", "CI runs it"),
    How(r"pip install .*'[^']*\[[\w,]+\]'", "extra", "packages are not downloaded in tests"),
    How(r"python tests/support/compatibility\.py", "elsewhere", "tests/clients compares it"),
    How(r"python deploy/lock\.py", "elsewhere", "asks an index of packages"),
    How(r"python -m lab\.", "elsewhere", "tests/lab; training takes hours"),
    How(r"python (-m )?perf[./]", "elsewhere", "test_options_of_scripts_are_there looks at it"),
    How(r"(vllm|sglang|python3? -m sglang|ollama|docker|systemctl|llama-server|cyclonedx-py) ?",
        "elsewhere", "a program of others"),
    # Servers.
    How(r"ecoalign serve .*--engine ray", "options", "tests/gateway/test_ray_serve.py runs it"),
    How(r"ecoalign serve( |$)", "serve"),
    How(r"ecoalign play( |$)", "serve"),
    How(r"(curl|echo) ", "run"),
    # Models that cannot be reached from here.
    How(r"ecoalign ask .*hf:", "options", "tests/models/hf asks local models"),
    How(rf"ecoalign ask .*{_LOCAL}", "asks"),
    How(r"ecoalign ask .*scoring=word", "asks", "our server has no log-probabilities", 3),
    How(r"ecoalign ask .*--base-url", "asks"),
    How(r"ecoalign ask .*openai:", "asks"),
    How(r"ecoalign (ask|probe) .*(gemini|dashscope):", "options", "its key goes there only"),
    How(r"ecoalign ask ", "run"),
    How(r"ecoalign probe ", "asks"),
    How(r"ecoalign (doctor|replay|keys|show|view|history) ?", "run"),
    # Many questions.
    How(rf"ecoalign batch .*({_LOCAL}|openai:)", "asks"),
    How(r"ecoalign batch ", "run"),
    # Benchmarks.
    How(r"ecoalign bench run .*--suite photos/", "asks"),
    How(r"ecoalign bench run .*--path", "options", "tests/bench/suites reads published files"),
    How(r"ecoalign bench run ", "smaller", "the whole of it takes minutes", more=("--limit", "1")),
    How(r"ecoalign bench (list|report|init)", "run"),
]  # fmt: skip


def how(command: Command) -> How:
    """The line of the table for a command."""
    text = command.text.replace(".venv/bin/", "")
    text = re.sub(r"^(?:[A-Z_]+=(?:'[^']*'|\S+) )+", "", text)
    for line in HOW:
        if re.match(line.pattern, text, re.DOTALL):
            return line
    raise AssertionError(f"{command.block}: no line of the table knows: {command.text}")


def seeing(request: Received) -> Reply:
    """A model that answers every stage; an image is 255 tokens, as a view is on gpt-4o."""
    reply = well_behaved(request)
    assert isinstance(reply.body, dict)
    images = request.body.count(b'"image_url"') // 2  # as a type, and as a key
    for count in ("prompt_tokens", "total_tokens"):
        reply.body["usage"][count] += 255 * images
    return reply


class Reader:
    """A reader who runs the commands of a page one after the other."""

    def __init__(self, home: Path, url: str, stack: ExitStack) -> None:
        self.home = home
        self.url = url
        self._stack = stack
        self._port = 0
        self._serving: ExitStack | None = None
        shims = home / "shims"
        shims.mkdir()
        for name, call in (("ecoalign", "-m ecoalign"), ("python", "")):
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
            shim.chmod(0o755)
        path = f"{shims}:{environment(home)['PATH']}"
        keys = {f"{name}_API_KEY": KEY for name in ("OPENAI", "GEMINI", "DASHSCOPE")}
        self._environment = environment(
            home,
            PATH=path,
            OPENAI_BASE_URL=url,
            BROWSER="true",
            NO_COLOR="1",
            **keys,
        )

    def text(self, command: Command, line: How) -> str:
        """The command as it can run here."""
        text = command.text.replace(".venv/bin/", "")
        if line.way == "asks":
            text = re.sub(r"http://(localhost|127\.0\.0\.1|gpu-box):\d+/v1", self.url, text)
            if re.search(_LOCAL, text) and "--base-url" not in text:
                text = f"{bare(text)} --base-url {self.url}"
        elif self._port:
            text = re.sub(r"(127\.0\.0\.1|localhost):\d{4}\b", rf"\1:{self._port}", text)
        return " ".join([bare(text), *line.more]) if line.more else text

    def does(self, command: Command, errors: int = subprocess.PIPE) -> str:
        """Do what the table says of the command; what it writes to standard output.

        Args:
            command: what to do.
            errors: where standard error goes; `subprocess.STDOUT` to have it among the rest.
        """
        line = how(command)
        match line.way:
            case "elsewhere":
                assert line.why
            case "extra":
                has_extra(command)
            case "options":
                assert line.why
                parse(command)
            case "serve":
                self._serve(command)
            case _:
                return self._run(command, line, errors)
        return ""

    def _run(self, command: Command, line: How, errors: int) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(command, line)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=self.home,
            env=self._environment if line.way == "run" else self.variables,
            timeout=WAIT,
            check=False,
        )
        told = f"{done.stdout}{done.stderr or ''}"
        assert done.returncode == line.code, f"{command.block}: {command.text}\n{told}"
        assert "Traceback" not in told
        return done.stdout

    def _serve(self, command: Command) -> None:
        """Start the server of the command at a free port; what ran before it is stopped."""
        if self._serving is not None:
            self._serving.close()
        self._serving = self._stack.enter_context(ExitStack())
        self._port = free_port()
        text = self.text(command, How("", "asks"))
        self._serving.enter_context(_started(f"{bare(text)} --port {self._port}", self))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of what asks a server of ours."""
        return self._environment | {"ECOALIGN_PRICES": PRICES}


@contextmanager
def _started(text: str, reader: Reader) -> Iterator[None]:
    """A server that has said where it listens; it has to end well when it is asked to."""
    process = subprocess.Popen(
        ["bash", "-euc", f"exec {text}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=reader.home,
        env=reader.variables,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "http://127.0.0.1:" in line:
                break
        assert process.poll() is None, f"{text}\n{''.join(said)}"
        yield
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0, "".join([*said, rest])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        process.stdout.close()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def bare(text: str) -> str:
    """A command without the comment at its end."""
    return re.sub(r"\s+#[^'\"]*$", "", text)


def has_extra(command: Command) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    named = [
        name for group in re.findall(r"\[([\w,]+)\]", command.text) for name in group.split(",")
    ]
    assert named
    assert set(named) <= set(extras), command.text


def parse(command: Command) -> None:
    """The command and all its options are there, and every value is of its type."""
    context = typer.main.get_command(app).make_context("ecoalign", [], resilient_parsing=True)
    rest = command.words[1:]
    while isinstance(context.command, TyperGroup):
        inner = context.command.get_command(context, rest[0])
        assert inner is not None, f"{command.block}: there is no {rest[0]}"
        last = not isinstance(inner, TyperGroup)
        context = inner.make_context(rest.pop(0), rest if last else [], resilient_parsing=not last)


def folder(home: Path) -> None:
    """Make `home` a folder as a reader has it: examples/, pictures and tables of one's own."""
    shutil.copytree(ROOT / "examples", home / "examples")
    photo = Image.new("RGB", (640, 480), "steelblue")
    for name in ("photo.jpg", "photo.png", "a.jpg", "b.jpg", "dense.png"):
        photo.save(home / name)
    (home / "photos").mkdir()
    photo.save(home / "photos" / "a.jpg")
    table = "image,question,answer\na.jpg,What does the sign say?,42\n"
    (home / "photos" / "data.csv").write_text(table, "utf-8")
    table = "image,question\nphoto.jpg,What does the sign say?\n"
    (home / "questions.csv").write_text(table, "utf-8")
    rows = [{"image": "examples/signs.png", "prompt": "What is the sum of the two numbers?"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), home / "in.parquet")
    (home / "rubric.md").write_text("Good: it is what the sign says.\n", "utf-8")


def read(page: Path, home: Path) -> Iterator[tuple[Block, str]]:
    """Do all commands of a page; its blocks of output, each with what was said before it."""
    folder(home)
    with ExitStack() as stack:
        server = stack.enter_context(HostileServer(seeing))
        reader = Reader(home, server.url, stack)
        said = ""
        found = blocks(page)
        for block, shown in zip_longest(found, found[1:]):
            if block.language == "sh":
                together = shown is not None and shown.mark == "all output"
                errors = subprocess.STDOUT if together else subprocess.PIPE
                said = "".join(reader.does(command, errors) for command in commands(block))
            elif block.mark in OUTPUT:
                yield block, said


def steady(text: str) -> str:
    """What is said, without what differs from run to run: times, ids, and blanks at the ends."""
    text = re.sub(r"\beco-[0-9a-f]{10}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? (ms|s)\b|(?<=  )\d+\.\d *$", "TIME", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def main() -> None:
    """Write every block of output, and every file that is shown, anew."""
    for page in PAGES:
        files = [block for block in blocks(page) if block.mark.startswith("file: ")]
        said = [(one, (ROOT / one.mark.removeprefix("file: ")).read_text("utf-8")) for one in files]
        if any(block.mark in OUTPUT for block in blocks(page)):
            with tempfile.TemporaryDirectory() as home:
                said += read(page, Path(home))
        text = page.read_text("utf-8")
        lines = text.splitlines(keepends=True)
        for block, new in sorted(said, key=lambda one: -one[0].line):
            if steady(new) != steady(block.text):
                start = block.line - 1
                end = start + len(block.text.splitlines())
                lines[start:end] = [f"{line.rstrip()}\n" for line in new.strip().splitlines()]
                print(f"{block}: written")
        page.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
