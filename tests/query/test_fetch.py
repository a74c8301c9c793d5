"""Fetching images over real sockets: what is fetched, and from where it never is."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from image_host import LOOPBACK, NAME, PNG, POLICY, Names, fetcher, hosting, http

import ecoalign
from ecoalign.errors import InputError
from ecoalign.query import FetchPolicy, ImageFetcher, ImageUrlError


async def refusal(images: ImageFetcher, url: str) -> ImageUrlError:
    """The error of a fetch that must fail, once it is seen to give nothing away."""
    with pytest.raises(ImageUrlError) as refused:
        await images.fetch(url)
    error = refused.value
    assert isinstance(error, InputError)
    for inside in ("127.0.0.1", "10.0.0", "169.254", "::1", "canary", NAME, "://"):
        assert inside not in str(error)
    return error


async def test_an_image_comes_back_byte_for_byte() -> None:
    async with hosting(http()) as host:
        assert await fetcher(host).fetch(host.url("/a/ü.png?x=1#part")) == PNG
    head = host.requests[0]
    assert head.startswith(b"GET /a/%C3%BC.png?x=1 HTTP/1.1\r\n")
    assert f"Host: {NAME}:{host.port}\r\n".encode() in head
    assert b"Accept-Encoding: identity\r\n" in head
    assert b"uthorization" not in head
    assert b"ookie" not in head
    assert b"eferer" not in head


async def test_nothing_is_fetched_by_default() -> None:
    names = Names()
    async with hosting(http()) as host:
        images = ImageFetcher(resolver=names, also_reach=frozenset({LOOPBACK}))
        assert (await refusal(images, host.url())).reason == "off"
    assert not names.asked
    assert not host.requests


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1%2"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["1.1.1.1", "127.0.0.1"],
        ["127.0.0.1", "1.1.1.1"],
        ["2606:4700::1111", "fd00::1"],
        ["not an address"],
        [],
    ],
)
async def test_a_name_with_any_address_inside_is_not_asked(answer: list[str]) -> None:
    async with hosting(http()) as host:
        images = fetcher(host, Names([answer]), reach=False)
        assert (await refusal(images, host.url())).reason == "address"
    assert not host.requests


async def test_the_unknown_and_the_forbidden_look_the_same() -> None:
    async def unknown(_: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    async with hosting(http()) as host:
        inside = await refusal(fetcher(host, Names([["10.0.0.1"]])), host.url())
        images = ImageFetcher(replace(POLICY, ports=frozenset({host.port})), resolver=unknown)
        nowhere = await refusal(images, host.url())
    assert str(inside) == str(nowhere)


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.0.0.1.", "１２７.0.0.1", "[::1]"])
async def test_addresses_inside_are_not_asked_in_any_spelling(spelling: str) -> None:
    names = Names()
    async with hosting(http()) as host:
        error = await refusal(fetcher(host, names, reach=False), host.url(name=spelling))
    assert error.reason == "address"
    assert not names.asked
    assert not host.requests


async def test_a_name_that_changes_its_mind_is_asked_only_once() -> None:
    # Rebinding: the check would see a harmless address, and the connection another one.
    names = Names([["127.0.0.1"], ["10.0.0.1"]])
    async with hosting(http()) as host:
        assert await fetcher(host, names).fetch(host.url()) == PNG
    assert names.asked == [NAME]


async def test_a_redirect_is_checked_from_the_start() -> None:
    names = Names([["127.0.0.1"], ["10.0.0.1"]])
    async with hosting(http(b"", "Location: /again", status="302 Found")) as host:
        assert (await refusal(fetcher(host, names), host.url())).reason == "address"
    assert names.asked == [NAME, NAME]
    assert len(host.requests) == 1


@pytest.mark.parametrize("status", ["301 a", "302 a", "303 a", "307 a", "308 a"])
async def test_redirects_are_followed(status: str) -> None:
    async with hosting(http(b"canary", "Location: /there", status=status), http()) as host:
        assert await fetcher(host).fetch(host.url("/here/")) == PNG
    assert host.requests[1].startswith(b"GET /there ")


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/", "http://[::1]/", "http://127.0.0.1.:{port}/"],
)
async def test_redirects_to_addresses_inside_are_not_followed(location: str) -> None:
    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = location.format(port=host.port)
        writer.write(http(b"", f"Location: {where}", status="302 Found"))

    async with hosting(redirect) as host:
        images = fetcher(host, Names([["127.0.0.1"]]))
        images.policy = replace(images.policy, ports=frozenset({80, host.port}))
        if "127" in location:
            images.policy = replace(images.policy, never=(IPv4Network("127.0.0.0/8"),))
            images.also_reach = frozenset()
        assert (await refusal(images, host.url())).reason == "address"
    assert len(host.requests) <= 1


async def test_there_is_an_end_to_redirects() -> None:
    async with hosting(http(b"", "Location: /again", status="302 Found")) as host:
        error = await refusal(fetcher(host), host.url())
    assert error.reason == "redirect"
    assert len(host.requests) == POLICY.redirects + 1


@pytest.mark.parametrize("headers", [(), ("Location: /a", "Location: /b")])
async def test_a_redirect_to_nowhere_is_an_error(headers: tuple[str, ...]) -> None:
    async with hosting(http(b"", *headers, status="302 Found")) as host:
        assert (await refusal(fetcher(host), host.url())).reason == "redirect"


async def test_only_some_ports_are_asked() -> None:
    async with hosting(http()) as host:
        images = fetcher(host)
        images.policy = POLICY
        assert (await refusal(images, host.url())).reason == "url"
    assert FetchPolicy().ports == {80, 443}


@pytest.mark.parametrize(
    ("listed", "name", "fetched"),
    [
        ("images.example.org", "images.example.org", True),
        ("Images.Example.ORG", "images.example.org.", True),
        (".example.org", "images.example.org", True),
        (".example.org", "example.org", False),
        (".example.org", "badexample.org", False),
        ("example.org", "images.example.org", False),
        ("images.example.org", "images.example.org.evil.org", False),
        ("images.example.org", "evil.org", False),
    ],
)
async def test_hosts_may_be_listed(listed: str, name: str, fetched: bool) -> None:
    async with hosting(http()) as host:
        images = fetcher(host, policy=replace(POLICY, hosts=frozenset({listed})))
        if fetched:
            assert await images.fetch(host.url(name=name)) == PNG
        else:
            assert (await refusal(images, host.url(name=name))).reason == "host"


async def test_a_redirect_leaves_no_list_of_hosts() -> None:
    away = http(b"", "Location: http://evil.example.org/", status="302 Found")
    async with hosting(away) as host:
        images = fetcher(host, policy=replace(POLICY, hosts=frozenset({NAME})))
        images.policy = replace(images.policy, ports=frozenset({80, host.port}))
        assert (await refusal(images, host.url())).reason == "host"


async def test_networks_of_our_own_may_be_named() -> None:
    closed = replace(POLICY, never=(IPv4Network("8.8.8.0/24"),))
    async with hosting(http()) as host:
        images = fetcher(host, Names([["8.8.8.8"]]), closed)
        assert (await refusal(images, host.url())).reason == "address"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosting(http(b"canary")) as proxy, hosting(http()) as host:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await fetcher(host).fetch(host.url()) == PNG
    assert not proxy.requests


async def test_the_next_address_is_tried_where_one_is_dead() -> None:
    async with hosting(http()) as host:
        # Nobody listens on the first of the two.
        images = fetcher(host, Names([["127.0.0.2", "127.0.0.1"]]))
        images.also_reach |= {LOOPBACK + 1}
        assert await images.fetch(host.url()) == PNG


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with hosting(http()) as host:
        pass
    assert (await refusal(fetcher(host), host.url())).reason == "connection"


async def test_this_machine_is_not_asked_by_an_address_that_looks_public(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a machine with a public address of its own: the check of the network lets it pass.
    monkeypatch.setattr("ecoalign.query._fetch.is_public", lambda _: True)
    async with hosting(http()) as host:
        images = fetcher(host, reach=False)
        assert (await refusal(images, host.url())).reason == "address"
    assert not host.requests


async def test_the_system_looks_names_up_without_search_domains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def getaddrinfo(name: object, *_: object, **__: object) -> list[object]:
        asked.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    async with hosting(http()) as host:
        images = ImageFetcher(
            replace(POLICY, ports=frozenset({host.port})), also_reach=frozenset({LOOPBACK})
        )
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert await images.fetch(host.url()) == PNG
        await images.aclose()
        await images.aclose()
    assert asked == [NAME.encode() + b"."]


async def test_a_fetch_that_is_cancelled_lets_go_of_its_turn() -> None:
    started = asyncio.Event()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        started.set()
        await asyncio.Event().wait()

    async with hosting(silent, http()) as host:
        images = fetcher(host, policy=replace(POLICY, concurrency=1))
        waiting = asyncio.create_task(images.fetch(host.url()))
        await started.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await images.fetch(host.url()) == PNG


def test_a_policy_out_of_range_is_none() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        FetchPolicy(max_bytes=0)
    with pytest.raises(ValueError, match="redirects"):
        FetchPolicy(redirects=-1)
    with pytest.raises(ValueError, match="concurrency"):
        FetchPolicy(concurrency=0)
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            FetchPolicy(seconds=seconds)


@pytest.mark.parametrize("rude", [False, True])
async def test_an_image_is_asked_for_once(rude: bool) -> None:
    """aiohttp alone would ask a second time where the server breaks off."""

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort() if rude else writer.close()

    names = Names()
    async with hosting(slam) as host:
        assert (await refusal(fetcher(host, names), host.url())).reason == "connection"
    assert len(host.requests) == 1
    assert names.asked == [NAME]


async def test_what_is_sent_for_an_image() -> None:
    async with hosting(http()) as host:
        await fetcher(host).fetch(host.url("/a%20b/../c?d=e%7C"))
    head = host.requests[0].decode()
    assert head.startswith("GET /a%20b/../c?d=e%7C HTTP/1.1\r\n")
    fields = dict(line.split(": ") for line in head.strip().split("\r\n")[1:])
    assert fields == {
        "Host": f"{NAME}:{host.port}",
        "User-Agent": f"ecoalign/{ecoalign.__version__}",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
