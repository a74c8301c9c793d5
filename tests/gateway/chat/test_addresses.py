"""Images by URL through a real gateway that fetches them: nothing inside is ever asked."""

from __future__ import annotations

from pathlib import Path

from hostile import HostileServer, Reply
from serving import ANY_METHOD, asking, serving, text


def test_no_address_inside_is_asked(tmp_path: Path) -> None:
    with HostileServer(lambda request: Reply(b"\x89PNG\r\n\x1a\n")) as inside:
        port = inside.url.split(":")[2].partition("/")[0]
        arguments = ("--model", "m", "--base-url", inside.url, "--image-urls", *ANY_METHOD)
        with serving(tmp_path, *arguments) as served:
            for method in ("ecoalign", "base"):
                for url in (
                    f"http://127.0.0.1:{port}/a.png",
                    f"http://localhost:{port}/a.png",
                    "http://127.0.0.1/a.png",
                    "http://[::1]/a.png",
                    "http://2130706433/a.png",
                    "http://169.254.169.254/latest/meta-data/",
                    "http://10.0.0.1/a.png",
                    "file:///etc/passwd",
                    "gopher://127.0.0.1/",
                ):
                    part = {"type": "image_url", "image_url": {"url": url}}
                    body = asking(text("what?"), part, ecoalign={"method": method})
                    refused = served.post(body)
                    error = refused.json()["error"]
                    assert (refused.status_code, error["code"]) == (400, "invalid_image_url"), url
                    assert error["param"] == "messages[0].content[1].image_url.url"
                    assert "127.0.0.1" not in error["message"]
        assert inside.received == []
