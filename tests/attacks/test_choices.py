"""What a request without a key may choose: nothing that costs more or shows more than the server's
own way, unless the operator says so; and who is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PLAIN, run
from hostile import HostileServer, Reply, completion
from serving import Served, asking, serving

UNSCORED = ("base", "cot", "cod", "safety-prompt")

BUDGET = {"tokens": None, "usd": None, "seconds": None}

HUGE = (10**12, "1000000000000,$1000000,1000000s", {"tokens": 10**12}, {"usd": 10**6})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("keyless")) as served:
        yield served


def chosen(served: Served, **options: object) -> tuple[int, dict[str, object]]:
    """The status, and what the answer tells of itself or the error."""
    reply = served.post(asking(PLAIN, ecoalign=options))
    told = reply.json().get("ecoalign") or reply.json()["error"]
    return reply.status_code, told


@pytest.mark.parametrize("name", [*UNSCORED, "ecoalign", "ecoalign:myopic", "best-of-2", "ecso"])
def test_no_method_is_chosen_by_default(gateway: Served, name: str) -> None:
    status, error = chosen(gateway, method=name)
    assert (status, error["code"], error["param"]) == (403, "not_allowed", "ecoalign.method")
    assert "--may-choose" in str(error["message"])


def test_what_may_be_chosen_by_default(gateway: Served) -> None:
    status, told = chosen(gateway, budget=1500, preset="paper", trace=True)
    assert status == 200
    assert (told["budget"], told["preset"]) == (BUDGET | {"tokens": 1500}, "paper")
    assert gateway.get(f"/v1/ecoalign/traces/{told['trace']}").status_code == 200


@pytest.mark.parametrize("budget", HUGE)
def test_a_budget_is_at_most_the_servers_own(gateway: Served, budget: object) -> None:
    own = chosen(gateway)[1]["budget"]
    assert isinstance(own, dict)
    status, told = chosen(gateway, budget=budget)
    assert status == 200
    assert isinstance(told["budget"], dict)
    assert told["budget"]["tokens"] == own["tokens"]


@pytest.mark.parametrize("budget", [10**12, "1000000000000,1000000s", {"seconds": 1000000}])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["--budget", "--max-budget"])
def test_so_it_is_where_a_request_is_passed_through(
    tmp_path: Path, budget: object, stream: bool, limit: str
) -> None:
    with HostileServer(lambda request: Reply(completion("fine"))) as upstream:
        arguments = ("--model", "gpt-4o", "--base-url", upstream.url, "--method", "base")
        with serving(tmp_path, *arguments, limit, "700") as served:
            served.post(asking("hello", ecoalign={"budget": budget}, stream=stream))
    (request,) = upstream.received
    cap = request.json["max_tokens"]
    assert isinstance(cap, int)
    assert cap < 700


def test_the_operator_may_open_more(tmp_path: Path) -> None:
    with serving(tmp_path, "--may-choose", "method", "--max-budget", "100000") as served:
        assert chosen(served, method="best-of-2")[0] == 200
        assert all(chosen(served, method=name)[0] == 403 for name in UNSCORED)
        assert chosen(served, budget=1000)[0] == 403
    with serving(tmp_path, "--may-choose", "base,budget", "--max-budget", "100000") as served:
        assert all(chosen(served, method=name)[0] == 200 for name in UNSCORED)
        assert chosen(served, method="best-of-2")[0] == 403
        assert chosen(served, budget=10**12)[1]["budget"] == BUDGET | {"tokens": 100_000}


def test_nothing_at_all(tmp_path: Path) -> None:
    with serving(tmp_path, "--may-choose", "nothing") as served:
        for options in ({"budget": 1000}, {"trace": True}, {"preset": "paper"}, {"method": "base"}):
            assert chosen(served, **options)[0] == 403
        assert chosen(served)[0] == 200
        assert "may choose nothing" in "".join(served.said)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--may-choose", "everything"), "budget, preset, method, trace, base"),
        (("--may-choose", "budget", "--keys", "keys.sqlite3"), "without keys"),
        (("--open", "--keys", "keys.sqlite3"), "without keys"),
        (("--allow-host", "gateway", "--keys", "keys.sqlite3"), "without keys"),
        (("--allow-host", "http://gateway:8000/v1"), "name alone"),
        (("--host", "10.0.0.1"), "--open"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    done = run(tmp_path, "serve", "--port", "0", *arguments)
    assert done.returncode == 2
    assert word in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_it_says_what_is_open_to_whom(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        with serving(tmp_path, *arguments) as served:
            # All of it has been said by the end.
            assert served.stop() == 0
        return "".join(line for line in served.said if not line.startswith("{"))

    plain = said()
    assert "open to: programs on this machine, without a key" in plain
    assert "may choose budget (at most the server's own), preset, trace\n" in plain
    assert "web pages that may ask: none" in plain
    assert "budget (at most 9000)" in said("--budget", "9000")
    page = "https://app.example"
    assert f"web pages that may ask: {page}\n" in said("--allow-origin", page)
    keyed = said("--keys", str(tmp_path / "keys.sqlite3"), "--no-metrics")
    assert "open to: who has a key; without one only /healthz, /readyz, /openapi.json\n" in keyed
    wide = said("--host", "0.0.0.0", "--open", "--max-budget", "8000")  # noqa: S104
    assert "warning: open to everyone who can reach 0.0.0.0" in wide
    assert "open to: all who can reach this address, without a key" in wide
    assert "budget (at most 8000)" in wide


def test_open_to_all_takes_any_name_but_no_page(tmp_path: Path) -> None:
    with serving(tmp_path, "--open") as served:
        assert served.get("/v1/models", host="gateway.example").status_code == 200
        assert served.get("/v1/models", origin="https://foreign.example").status_code == 403


def test_a_name_may_be_added(tmp_path: Path) -> None:
    with serving(tmp_path, "--allow-host", "Host.Docker.Internal") as served:
        host = f"host.docker.internal:{served.port}"
        assert served.get("/v1/models", host=host).status_code == 200
        assert served.get("/v1/models", host="other.internal").status_code == 403
