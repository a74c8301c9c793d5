"""Logs: canaries are put in every way that a log line can come about, and none comes out."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest

from ecoalign.errors import ModelError
from ecoalign.gateway.observe._logs import (
    Logs,
    Redactor,
    configure,
    current_request,
    log_fields,
    secrets_of,
)

PROMPT = "canary-how do I build a treehouse"
KEY = "sk-canary0123456789abcdefghij"
OWN_KEY = "eco-" + "a" * 12 + "-" + "canary" * 8 + "abcd"
SECRET = "canary-of-the-config"  # noqa: S105
IMAGE = "data:image/png;base64," + "canary00" * 300
CANARY = "canary"


class Lines(io.StringIO):
    def parsed(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logs(lines: Lines) -> Iterator[Logs]:
    found = configure(level="DEBUG", secrets=[SECRET], stream=lines)
    try:
        yield found
    finally:
        found.close()


class Talkative:
    """A value that cannot be turned into text without an error that quotes it."""

    def __str__(self) -> str:
        raise ValueError(PROMPT)

    __repr__ = __str__


def nested() -> None:
    try:
        raise KeyError(PROMPT)
    except KeyError as error:
        raise ValueError(f"bad value {PROMPT} {KEY}") from error


def caught() -> BaseException:
    try:
        nested()
    except ValueError as error:
        return error
    raise AssertionError


def others(name: str) -> list[Callable[[], object]]:
    """What a library may say of a request, at every level and in every form."""
    logger = logging.getLogger(name)
    return [
        lambda: logger.debug("Request options: %s", {"json": {"content": PROMPT}}),
        lambda: logger.info("HTTP Request: %s %s", "POST", f"https://u:{KEY}@host/?k={KEY}"),
        lambda: logger.warning(f"failed: {PROMPT}"),
        lambda: logger.error(PROMPT, exc_info=caught()),
        lambda: logger.error("%s", caught()),
        lambda: logger.error(caught()),
        lambda: logger.critical("%(prompt)s", {"prompt": PROMPT}),
        lambda: logger.error("plain", extra={"canary": PROMPT, "headers": {"x": KEY}}),
        lambda: logger.error("stack", stack_info=True),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "aiohttp.client",
        "aiohttp.internal",
        "openai._base_client",
        "httpx2",
        "PIL.Image",
        "root",
        "asyncio",
        "uvicorn.asgi",
        "fastapi",
        "psycopg",
        "nobody.knows",
        "ecoalignx",
    ],
)
def test_what_libraries_say_is_withheld(logs: Logs, lines: Lines, name: str) -> None:
    logger = logging.getLogger(name)
    # psycopg quietens its own logger when it is imported, which another test may have done.
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        said = others(name)
        for say in said:
            say()
    finally:
        logger.setLevel(before)
    assert CANARY not in lines.getvalue()
    found = lines.parsed()
    assert len(found) == len(said)
    assert {line["level"] for line in found} == {"debug", "info", "warning", "error", "critical"}
    # Where it was said is enough to look it up.
    assert all("test_logs.py:" in str(line["message"]) for line in found)


def test_an_error_is_shown_by_types_and_frames(logs: Logs, lines: Lines) -> None:
    logging.getLogger("ecoalign.gateway").error("the answer failed", exc_info=caught())
    assert CANARY not in lines.getvalue()
    (line,) = lines.parsed()
    assert line["message"] == "the answer failed"
    errors = line["error"]
    assert isinstance(errors, list)
    assert [each["type"] for each in errors] == ["builtins.ValueError", "builtins.KeyError"]
    assert errors[0]["frames"][-1].endswith(" nested")
    assert all("message" not in each for each in errors)


def test_uvicorn_tells_of_its_life_and_not_of_requests(logs: Logs, lines: Lines) -> None:
    server = logging.getLogger("uvicorn.error")
    server.info("Started server process [%d]", 42)
    server.error("Exception in ASGI application\n", exc_info=caught())
    server.debug("scope=%s", {"headers": [KEY]})
    logging.getLogger("uvicorn.access").info('"GET /?key=%s"', KEY)
    assert CANARY not in lines.getvalue()
    assert lines.parsed()[0]["message"] == "Started server process [42]"
    assert len(lines.parsed()) == 3


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY}",
        f"key={OWN_KEY}",
        f"Authorization: Bearer {CANARY}-token",
        f"{{'Authorization': 'Basic {CANARY}=='}}",
        f'{{"api_key": "{CANARY}"}}',
        f"x-api-key: {CANARY}",
        f"password={CANARY}",
        f"postgresql://user:{CANARY}@host/db",
        f"https://{CANARY}@host/v1",
        f"the {SECRET} is out",
        IMAGE,
        f"url({IMAGE})",
        "data:image/svg+xml,<svg a='b'>the canary",
        "canary00" * 40,
    ],
)
def test_secrets_are_taken_out_even_of_our_own_lines(logs: Logs, lines: Lines, text: str) -> None:
    logging.getLogger("ecoalign.gateway").error("it said %s", text)
    log_fields(logging.getLogger("ecoalign.request"), logging.INFO, "x", {"a": {"b": text}})
    assert CANARY not in lines.getvalue()
    assert "it said" in lines.getvalue()


def test_with_content_libraries_are_shown_but_secrets_are_not(lines: Lines) -> None:
    logs = configure(content=True, secrets=[SECRET], level="DEBUG", stream=lines)
    try:
        for say in others("openai"):
            say()
    finally:
        logs.close()
    assert PROMPT in lines.getvalue()
    assert KEY not in lines.getvalue()


def test_a_line_that_cannot_be_written_is_lost_without_a_word(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = configure(stream=lines)
    wrong = "%s %s"
    try:
        logging.getLogger("ecoalign.gateway").error("it said %s", Talkative())
        logging.getLogger("ecoalign.gateway").error("%d", PROMPT)
        logging.getLogger("openai").error(wrong, PROMPT)
    finally:
        logs.close()
    said = capsys.readouterr().err
    assert CANARY not in lines.getvalue() + said
    assert said.count("could not be logged") == 2
    # What libraries say is not even put together.
    assert len(lines.parsed()) == 1


def test_fields_that_are_no_json_are_named(logs: Logs, lines: Lines) -> None:
    log_fields(logging.getLogger("ecoalign.request"), logging.INFO, "x", {"a": Talkative()})
    assert CANARY not in lines.getvalue()
    assert str(lines.parsed()[0]["a"]).endswith("Talkative")


async def test_a_task_that_nobody_waits_for_says_nothing(logs: Logs, lines: Lines) -> None:
    async def failing() -> None:
        raise ValueError(PROMPT)

    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    del task
    gc.collect()
    assert CANARY not in lines.getvalue()
    assert "builtins.ValueError" in lines.getvalue()


def test_threads_that_fail_say_nothing(logs: Logs, lines: Lines) -> None:
    thread = threading.Thread(target=nested)
    thread.start()
    thread.join()
    assert CANARY not in lines.getvalue()
    assert lines.parsed()[-1]["message"] == "uncaught error in a thread"


def test_what_python_would_print_is_logged(
    logs: Logs, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    class Leaving:
        def __del__(self) -> None:
            raise ValueError(PROMPT)

    Leaving()
    gc.collect()
    error = caught()
    sys.excepthook(type(error), error, error.__traceback__)
    warnings.showwarning(UserWarning(PROMPT), UserWarning, "/somewhere/a/b/c.py", 7)
    assert CANARY not in lines.getvalue() + capsys.readouterr().err
    assert [line["message"] for line in lines.parsed()] == [
        "error while cleaning up",
        "uncaught error",
        "UserWarning at a/b/c.py:7",
    ]


async def test_the_official_client_at_its_most_talkative(logs: Logs, lines: Lines) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(500, json={"error": {"message": PROMPT}})

    logging.getLogger("openai").setLevel(logging.DEBUG)
    logging.getLogger("httpx2").setLevel(logging.DEBUG)
    client = openai.AsyncOpenAI(
        api_key=KEY,
        base_url=f"http://user:{SECRET}@upstream.example/v1",
        max_retries=1,
        http_client=openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer)),
    )
    try:
        await client.with_options(max_retries=0).chat.completions.create(
            model="m", messages=[{"role": "user", "content": PROMPT}]
        )
    except openai.InternalServerError as error:
        logging.getLogger("ecoalign.gateway").error("failed", exc_info=error)
    finally:
        await client.close()
        logging.getLogger("openai").setLevel(logging.NOTSET)
        logging.getLogger("httpx2").setLevel(logging.NOTSET)
    assert {"openai._base_client", "httpx2"} <= {str(line["logger"]) for line in lines.parsed()}
    assert CANARY not in lines.getvalue()


def test_lines_carry_the_request(logs: Logs, lines: Lines) -> None:
    token = current_request.set("req-1")
    logging.getLogger("ecoalign.gateway").info("inside")
    current_request.reset(token)
    logging.getLogger("ecoalign.gateway").info("outside")
    assert [line.get("request") for line in lines.parsed()] == ["req-1", None]


def test_lines_for_people_stay_lines(lines: Lines) -> None:
    logs = configure(json=False, stream=lines)
    try:
        logging.getLogger("ecoalign.gateway").info("one\r\n\x1b[31mtwo\u2028three")
        log_fields(
            logging.getLogger("ecoalign.request"), logging.INFO, "request", {"a": "x\ny", "b": {}}
        )
    finally:
        logs.close()
    found = lines.getvalue().split("\n")
    assert len(found) == 3
    assert found[0].endswith("ecoalign.gateway: one\\r\\n\\x1b[31mtwo\\u2028three")
    assert found[1].endswith("ecoalign.request: request a=x\\ny b={}")


def test_all_is_put_back(lines: Lines) -> None:
    root, server = logging.getLogger(), logging.getLogger("uvicorn")
    theirs = logging.NullHandler()
    server.addHandler(theirs)
    before = root.handlers[:], root.level, sys.excepthook, warnings.showwarning
    try:
        logs = configure(stream=lines)
        assert theirs not in server.handlers
        logs.close()
        logs.close()
        assert theirs in server.handlers
    finally:
        server.removeHandler(theirs)
    assert (root.handlers[:], root.level, sys.excepthook, warnings.showwarning) == before


def test_a_level_that_does_not_exist_changes_nothing(lines: Lines) -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match="LOUD"):
        configure(level="LOUD", stream=lines)
    assert logging.getLogger().handlers[:] == before


def test_a_process_that_crashes_says_only_where() -> None:
    code = (
        "from ecoalign.gateway.observe._logs import configure\n"
        f"configure()\nraise ValueError({PROMPT!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert CANARY not in done.stderr + done.stdout
    assert json.loads(done.stderr)["error"][0]["type"] == "builtins.ValueError"


def test_secrets_are_found_by_the_names_of_variables() -> None:
    environment = {
        "OPENAI_API_KEY": "one-long",
        "PGPASSWORD": "two",
        "DB_PASSWORD": "three-long",
        "AWS_SECRET_ACCESS_KEY": "four-long",
        "HOME": "/home/x",
        "KEYBOARD": "us",
    }
    assert secrets_of(environment) == {"one-long", "three-long", "four-long"}


def test_short_secrets_are_passed_over_and_long_texts_cut() -> None:
    redact = Redactor(["a", "long-secret", "long-secret-and-longer"])
    assert redact("a cat long-secret-and-longer long-secret") == "a cat [key] [key]"
    assert len(redact("word " * 10_000)) < 9_000
    assert redact("gpt-4o at 12:30, 3 of 8,000 tokens") == "gpt-4o at 12:30, 3 of 8,000 tokens"


def test_errors_of_ours_are_not_quoted_either(logs: Logs, lines: Lines) -> None:
    error = ModelError(f"the server said {PROMPT}", fault="server")
    logging.getLogger("ecoalign.gateway").error("failed", exc_info=error)
    assert CANARY not in lines.getvalue()
    assert "ecoalign.errors.ModelError" in lines.getvalue()
