"""Reading image URLs: odd spellings mean nothing rather than something else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.query._urls import ImageUrl, ImageUrlError, follow, read_url

ODD = [
    "",
    "cat.png",
    "//images.example.org/cat.png",
    "ftp://images.example.org/cat.png",
    "file:///etc/passwd",
    "gopher://images.example.org/",
    "data:image/png;base64,AAAA",
    "http:/images.example.org/",
    "http:images.example.org",
    "http://",
    "http:///cat.png",
    "http://?x",
    "http://user@images.example.org/",
    "http://user:pass@images.example.org/",
    "http://images.example.org@127.0.0.1/",
    "http://images.example.org:80@127.0.0.1/",
    "http://127.0.0.1\\@images.example.org/",
    "http://images.example.org\\.evil.org/",
    "http:\\\\images.example.org/",
    "http://images.example.org/cat.png\r\nX-Evil: 1",
    "http://images.example.org/a b",
    " http://images.example.org/",
    "http://images.example.org/\t",
    "ht\ntp://images.example.org/",
    "http://images.example.org/\x00",
    "http://images.\u200bexample.org/",
    "http://images.example.org/\u202egnp",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://1.2.3.4.5/",
    "http://1.2.3.256/",
    "http://images.example.0x10/",
    "http://images.example.1/",
    "http://127.0.0.1../",
    "http://images..example.org/",
    "http://.images.example.org/",
    "http://-images.example.org/",
    "http://localhost/",
    "http://metadata/",
    "http://images.example.org..:80/",
    "http://images%2eexample.org/",
    "http://127.0.0.1%00.example.org/",
    "http://images.example.org:/",
    "http://images.example.org:0/",
    "http://images.example.org:65536/",
    "http://images.example.org:+80/",
    "http://images.example.org:８０/",
    "http://images.example.org:80:80/",
    "http://::1/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[127.0.0.1]/",
    "http://[images.example.org]/",
    "http://[fe80::1%25eth0]/",
    "http://[v1.x]/",
    "http://" + "a" * 64 + ".org/",
    "http://" + "a." * 127 + "org/",
    "http://images.example.org/" + "a" * 4096,
    "http://\u2025example.org/",
    "http://a\u00ad\u3002\u3002b/",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_urls_are_refused(text: str) -> None:
    with pytest.raises(ImageUrlError) as refused:
        read_url(text)
    assert refused.value.reason == "url"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("http://images.example.org", "http://images.example.org/"),
        ("HTTPS://Images.Example.ORG/Cat.PNG", "https://images.example.org/Cat.PNG"),
        ("http://images.example.org.:80/x", "http://images.example.org/x"),
        ("https://images.example.org:443?a=1&b=%20#part", "https://images.example.org/?a=1&b=%20"),
        ("http://images.example.org:8080/", "http://images.example.org:8080/"),
        ("https://bücher.example.org/ü", "https://xn--bcher-kva.example.org/%C3%BC"),
        ("http://images。example。org/", "http://images.example.org/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1./", "http://127.0.0.1/"),
        ("http://[2600:0:0::1]:80/", "http://[2600::1]/"),
        ("http://[::FFFF:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("http://images.example.org?x@y", "http://images.example.org/?x@y"),
        ("http://images.example.org/@127.0.0.1/", "http://images.example.org/@127.0.0.1/"),
    ],
)
def test_each_url_has_one_normal_form(text: str, whole: str) -> None:
    url = read_url(text)
    assert str(url).replace("[::ffff:127.0.0.1]", "[::ffff:7f00:1]") == whole
    assert read_url(str(url)) == url


def test_hosts_that_are_addresses_are_read_as_such() -> None:
    for text in ("http://１２７.0.0.1/", "http://127.0.0.1./", "http://[::1]/"):
        address = read_url(text).address
        assert address is not None
        assert address.is_loopback
    assert read_url("http://images.example.org/").address is None


@given(st.text(alphabet="ht:p/s@\\[]%.0x127:#?\r\n\tａ。aé-_", max_size=40))
def test_whatever_is_taken_is_clean(tail: str) -> None:
    try:
        url = read_url("http://" + tail)
    except ImageUrlError:
        return
    # Another parser sees the same host and port, so nobody downstream can be led elsewhere.
    other = urlsplit(str(url))
    assert (other.hostname, other.port or 80) == (url.host, url.port)
    assert other.username is None
    assert str(url).isascii()
    assert str(url).isprintable()
    assert " " not in str(url)
    assert read_url(str(url)) == url


BASE = read_url("https://images.example.org/a/b?c")


@pytest.mark.parametrize(
    ("location", "whole"),
    [
        (b"/x", "https://images.example.org/x"),
        (b"x", "https://images.example.org/a/x"),
        (b"?d", "https://images.example.org/a/b?d"),
        (b"../../../x", "https://images.example.org/x"),
        (b"//other.example.org/x", "https://other.example.org/x"),
        (b"https://other.example.org:444/x", "https://other.example.org:444/x"),
    ],
)
def test_redirects_are_followed_as_references(location: bytes, whole: str) -> None:
    assert str(follow(BASE, location)) == whole


@pytest.mark.parametrize(
    "location",
    [
        b"",
        b"http://images.example.org/",
        b"file:///etc/passwd",
        b"ftp://images.example.org/",
        b"javascript:alert(1)",
        b"data:image/png;base64,AAAA",
        b"//user@images.example.org/",
        b"/\\evil.org",
        b"\\\\evil.org",
        b"https://images.example.org/ x",
        b"\thttps://images.example.org/",
        b"https://im\xc3\xa4ges.example.org/",
        b"https://[::1/",
        b"https://2130706433/",
    ],
)
def test_redirects_that_lead_astray_are_not_followed(location: bytes) -> None:
    with pytest.raises(ImageUrlError) as refused:
        follow(BASE, location)
    assert refused.value.reason == "redirect"
    assert "evil" not in str(refused.value)


def test_a_redirect_may_lead_from_http_to_https() -> None:
    base = read_url("http://images.example.org/")
    url = follow(base, b"https://images.example.org/")
    assert isinstance(url, ImageUrl)
    assert (url.scheme, url.port) == ("https", 443)
