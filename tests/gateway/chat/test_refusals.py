"""Refusals where a client asked for JSON, with the official client; and details of images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from hostile import HostileServer, Received, Reply, completion
from PIL import Image
from pydantic import BaseModel
from served import well_behaved
from serving import WAIT, asking, serving, text


class Sign(BaseModel):
    text: str


def _scripted(grade: int, said: str | None, refusal: str | None = None) -> Callable[..., Reply]:
    """An upstream whose answers are `said`, and whose verdicts have `grade`."""

    def handler(request: Received) -> Reply:
        usual = well_behaved(request)
        assert isinstance(usual.body, dict)
        (choice,) = usual.body["choices"]
        words = choice["message"]["content"]
        if '"safety"' in words and '"key"' in words:
            verdict = json.loads(words) | {"safety": grade}
            return Reply(completion(json.dumps(verdict), usage=usual.body["usage"]))
        if words == "42":
            choice["message"] |= {"content": said, "refusal": refusal}
        return usual

    return handler


@contextmanager
def _client(home: Path, handler: Callable[[Received], Reply]) -> Iterator[openai.OpenAI]:
    with (
        HostileServer(handler) as upstream,
        serving(home, "--model", "gpt-4o", "--base-url", upstream.url) as gateway,
        openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("grade", "said", "refusal"),
    [
        pytest.param(0, '{"text": "Harbour"}', None, id="nothing is safe"),
        pytest.param(9, None, "I cannot help with that.", id="the model's own field"),
        pytest.param(9, "I cannot help with that.", None, id="the model's own words"),
    ],
)
def test_parse_gets_a_refusal(
    tmp_path: Path, grade: int, said: str | None, refusal: str | None
) -> None:
    with _client(tmp_path, _scripted(grade, said, refusal)) as client:
        done = client.chat.completions.parse(
            model="ecoalign",
            messages=[{"role": "user", "content": "Read the sign."}],
            response_format=Sign,
        )
        message = done.choices[0].message
        assert message.refusal
        assert message.content is None
        assert message.parsed is None
        assert "Harbour" not in message.refusal
        with client.chat.completions.stream(
            model="ecoalign",
            messages=[{"role": "user", "content": "Read the sign."}],
            response_format=Sign,
        ) as stream:
            streamed = stream.get_final_completion().choices[0].message
        assert streamed.refusal == message.refusal
        # Without a form the same words are the content.
        plain = client.chat.completions.create(
            model="ecoalign", messages=[{"role": "user", "content": "Read the sign."}]
        )
        assert plain.choices[0].message.refusal is None


def test_parse_gets_what_was_asked_for(tmp_path: Path) -> None:
    with _client(tmp_path, _scripted(9, '{"text": "Harbour"}')) as client:
        done = client.chat.completions.parse(
            model="ecoalign",
            messages=[{"role": "user", "content": "Read the sign."}],
            response_format=Sign,
        )
    assert done.choices[0].message.parsed == Sign(text="Harbour")
    assert done.choices[0].message.refusal is None


def test_the_detail_of_a_client_reaches_the_model(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((1600, 1200), 90).convert("RGB").save(file, "JPEG")
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    seen: dict[str, tuple[int, str]] = {}
    with (
        HostileServer(well_behaved) as upstream,
        serving(tmp_path, "--model", "gpt-4o", "--base-url", upstream.url) as gateway,
    ):
        for detail in ("low", "high", "original", "auto"):
            begun = len(upstream.received)
            part = {"type": "image_url", "image_url": {"url": uri, "detail": detail}}
            reply = gateway.post(asking(text("Read it."), part, ecoalign={"budget": 200_000}))
            assert reply.status_code == 200, reply.text
            # The scan and the draft, whichever came first; the draft sees all of the picture.
            seen[detail] = min(map(_first_image, upstream.received[begun : begun + 2]))
    assert seen["low"] == (512, "low")
    assert seen["high"] == seen["original"] == (1024, "high")
    assert seen["auto"][0] == 512


def _first_image(request: Received) -> tuple[int, str]:
    messages = request.json["messages"]
    assert isinstance(messages, list)
    parts = [part for message in messages for part in message["content"] if type(part) is dict]
    sent = next(part["image_url"] for part in parts if part["type"] == "image_url")
    data = base64.b64decode(sent["url"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        return image.width, sent["detail"]
