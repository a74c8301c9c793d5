"""A method or a preset by the model's name, for clients that can send nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from command import run
from hostile import HostileServer
from served import well_behaved
from serving import ANY_METHOD, WAIT, Served, asking, serving

from ecoalign.settings import PRESETS


@contextmanager
def gateway_of(home: Path, *options: str) -> Iterator[Served]:
    with (
        HostileServer(well_behaved) as upstream,
        serving(home, "--model", "gpt-4o", "--base-url", upstream.url, *options) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with gateway_of(tmp_path_factory.mktemp("usual")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with gateway_of(tmp_path_factory.mktemp("free"), *ANY_METHOD) as gateway:
        yield gateway


def _chat(gateway: Served, model: str, key: str = "", **more: object) -> httpx2.Response:
    return gateway.post(asking("What is six times seven?", model=model, **more), key)


def _response(gateway: Served, model: str, key: str = "", **more: object) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "input": "What is six times seven?", **more}
    return httpx2.post(f"{gateway.v1}/responses", json=body, headers=headers, timeout=WAIT)


Ask = Callable[..., httpx2.Response]

BOTH = pytest.mark.parametrize("ask", [_chat, _response], ids=["chat", "responses"])


@BOTH
@pytest.mark.parametrize(
    ("model", "method", "preset"),
    [
        ("ecoalign", "ecoalign", "default"),
        ("gpt-4o", "ecoalign", "default"),
        ("ecoalign/paper", "ecoalign", "paper"),
        ("ecoalign:paper", "ecoalign", "paper"),
        ("best-of-2", "best-of-2", None),
        ("ecoalign/best-of-n", "best-of-n", None),
        ("ecso", "ecso", None),
    ],
)
def test_what_a_name_means(
    free: Served, ask: Ask, model: str, method: str, preset: str | None
) -> None:
    told = ask(free, model).json()
    assert told["model"] == model
    assert (told["ecoalign"]["method"], told["ecoalign"]["preset"]) == (method, preset)


@BOTH
def test_base_by_its_name(free: Served, usual: Served, ask: Ask) -> None:
    told = ask(free, "base")
    assert told.status_code == 200, told.text
    assert "ecoalign" not in told.json()
    refused = ask(usual, "base")
    assert refused.status_code == 403
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == ("model", "not_allowed")
    assert "not scored" in error["message"]


@BOTH
@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("ecoalign/paper", 200),
        ("best-of-2", 403),
        ("cot", 403),
        ("ecoalign/base", 403),
        ("ecoalign/none", 404),
        ("ecoalign/", 404),
        ("best-of-0", 404),
        ("gpt-9", 404),
        ("ECOALIGN", 404),
    ],
)
def test_what_a_request_without_a_key_may_ask_for(
    usual: Served, ask: Ask, model: str, status: int
) -> None:
    reply = ask(usual, model)
    assert reply.status_code == status, reply.text
    if status != 200:
        assert reply.json()["error"]["param"] == "model"


@BOTH
def test_a_name_and_the_object_that_differ(free: Served, ask: Ask) -> None:
    reply = ask(free, "ecoalign/paper", ecoalign={"method": "ecso"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    reply = ask(free, "ecoalign/paper", ecoalign={"preset": "myopic"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    assert ask(free, "best-of-2", ecoalign={"method": "best-of-2"}).status_code == 200


def test_the_names_that_are_listed_are_those_that_may_be_asked_for(
    usual: Served, free: Served
) -> None:
    for gateway, unscored in ((usual, False), (free, True)):
        with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0) as client:
            names = [model.id for model in client.models.list()]
            assert client.models.retrieve(names[-1]).id == names[-1]
        assert names[:2] == ["gpt-4o", "ecoalign"]
        assert {f"ecoalign/{preset}" for preset in PRESETS} <= set(names)
        assert ("base" in names) == ("best-of-n" in names) == unscored
        for name in names:
            assert _chat(gateway, name).status_code == 200, name
    assert usual.get("/v1/models/base").status_code == 404


def test_what_a_key_may_ask_for(tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.sqlite3")

    def key(name: str, *options: str) -> str:
        made = run(tmp_path, "keys", "create", name, "--keys", keys, *options, "--json")
        secret: Any = json.loads(made.stdout)["secret"]
        return str(secret)

    plain = key("plain")
    chooses = key("chooses", "--may-choose", "budget,method,preset")
    fixed = key("fixed", "--method", "ecso", "--may-choose", "preset")
    with gateway_of(tmp_path, "--keys", keys) as gateway:
        for name, secret, status in (
            ("ecoalign/paper", plain, 403),
            ("base", plain, 403),
            ("ecoalign/paper", chooses, 200),
            ("base", chooses, 200),
            ("ecso", fixed, 200),
            # Another method than the key's, under a preset that it may choose.
            ("ecoalign/paper", fixed, 403),
        ):
            assert _chat(gateway, name, secret).status_code == status, (name, status)
            assert _response(gateway, name, secret).status_code == status, (name, status)
        listed = gateway.get("/v1/models", authorization=f"Bearer {plain}").json()["data"]
        assert [model["id"] for model in listed] == ["gpt-4o", "ecoalign"]


def test_a_name_of_the_model_comes_first(tmp_path: Path) -> None:
    with gateway_of(tmp_path, "--name", "base", "--name", "ecoalign/paper") as gateway:
        told = _chat(gateway, "base").json()
        assert told["ecoalign"]["method"] == "ecoalign"
        assert _chat(gateway, "ecoalign/paper").json()["ecoalign"]["preset"] == "default"
