"""Every method against a real server on a real socket."""

from __future__ import annotations

import json
import re

import pytest
from hostile import HostileServer, Received, Reply, completion
from scripted import asking
from served import well_behaved

from ecoalign.budget import Budget, Ledger
from ecoalign.methods import METHODS, open_method
from ecoalign.models import open_model
from ecoalign.settings import Settings

PRICES = {"openai:gpt-4o": {"input": 2.5, "output": 10.0}}
_KEY = re.compile(r'"key": ("[^"]*"), "verdict"')


def text_of(request: Received) -> str:
    messages = request.json["messages"]
    assert isinstance(messages, list)
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def judging(request: Received, verdict: str) -> Reply:
    """The engine's stages as ever; besides, the verdicts of gate and check."""
    if key := _KEY.search(text_of(request)):
        body = f'{{"key": {key[1]}, "verdict": "{verdict}"}}'
        usage = {"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102}
        return Reply(completion(body, usage=usage))
    return well_behaved(request)


@pytest.mark.parametrize("name", METHODS)
async def test_it_answers_and_every_request_is_paid_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    settings = Settings.load(env={}, prices=PRICES)
    method = open_method(name, settings)
    with HostileServer(lambda request: judging(request, "safe")) as server:
        model = open_model("openai:gpt-4o", server.url)
        ledger = Ledger(Budget(60_000, 0.5, 50.0), settings.price_book())
        try:
            answer = await method.answer(asking(), model, ledger)
        finally:
            await model.aclose()
            await method.aclose()
        received = list(server.received)
    assert (answer.answer, answer.refused) == ("42", False)
    assert answer.spent.calls == len(received)
    assert 1 <= answer.critical_path <= len(received)
    assert sum(stage.calls for stage in answer.spent.by_stage.values()) == len(received)
    assert answer.spent.usd is not None
    assert 0 < answer.spent.usd <= 0.5


async def test_a_guarded_method_on_a_socket_blocks_and_asks_without_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")

    def serve(request: Received) -> Reply:
        sent = json.dumps(request.json["messages"])
        if "You cannot see the images" in sent:
            return Reply(completion("seen all the same" if "image_url" in sent else "unseen"))
        return judging(request, "unsafe")

    settings = Settings.load(env={}, retries=0)
    with HostileServer(serve) as server:
        model = open_model("openai:gpt-4o", server.url)
        try:
            told = {
                name: await open_method(name, settings).answer(
                    asking(), model, Ledger(Budget(tokens=60_000))
                )
                for name in ("ecso", "vlm-guard")
            }
        finally:
            await model.aclose()
    assert told["ecso"].answer == "unseen"
    assert told["vlm-guard"].stop_reason == "blocked"
    assert told["vlm-guard"].refused
