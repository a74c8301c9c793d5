"""What third-party clients can do through the gateway: one function a client and feature.

Each takes the base URL of a gateway, asks, and raises where the client does not get what it should.
The upstream is `upstream`: it answers "42", or JSON where the client asked for some; `REFUSE` is
scored as unsafe. Where tools are given it calls one, and answers once that has been done.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from command import QUESTION, SIGNS
from hostile import Received, Reply, completion
from pydantic import BaseModel
from served import in_events, well_behaved

MODEL = "ecoalign"
KEY = "sk-any"
ANSWER = "42"
REFUSE = "Please refuse this."
TOOL = "number"
RESULT = "forty-two"
NAMED = "ecoalign/paper"


class Number(BaseModel):
    """The form that clients ask for."""

    number: int


def upstream(request: Received) -> Reply:
    """What stands behind the gateway."""
    return in_events(_said_to(request), request.json)


def _said_to(request: Received) -> Reply:
    usual = well_behaved(request)
    assert isinstance(usual.body, dict)
    body = request.json
    (choice,) = usual.body["choices"]
    words = choice["message"]["content"]
    messages = json.dumps(body["messages"])
    if words == ANSWER and "tools" in body and RESULT not in messages:
        function = {"name": TOOL, "arguments": "{}"}
        call = {"id": "call_1", "type": "function", "function": function}
        made = completion(None, usage=usual.body["usage"])
        (choice,) = made["choices"]  # type: ignore[misc]
        choice["message"]["tool_calls"] = [call]
        # As Gemini and Ollama end it.
        return Reply(made)
    if words == ANSWER and "response_format" in body:
        words = '{"number": 42}'
    elif words.startswith('{"key"') and REFUSE in messages:
        words = json.dumps(json.loads(words) | {"safety": 0})
    return Reply(completion(words, usage=usual.body["usage"]))


def image_uri() -> str:
    """The example image."""
    return "data:image/png;base64," + base64.b64encode(Path(SIGNS).read_bytes()).decode()


Check = Callable[[str], None]


def expect(value: object, wanted: object) -> None:
    """Raises AssertionError unless they are equal."""
    assert value == wanted, f"{value!r} instead of {wanted!r}"


def _parts() -> list[Any]:
    return [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": image_uri()}},
    ]


# -- openai ----------------------------------------------------------------------------------------


def _openai(base: str) -> Any:
    import openai

    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


def _openai_ask(base: str, content: Any, **more: Any) -> Any:
    with _openai(base) as client:
        messages = [{"role": "user", "content": content}]
        return client.chat.completions.create(model=MODEL, messages=messages, **more)


def openai_text(base: str) -> None:
    expect(_openai_ask(base, QUESTION).choices[0].message.content, ANSWER)


def openai_image(base: str) -> None:
    expect(_openai_ask(base, _parts()).choices[0].message.content, ANSWER)


def openai_async(base: str) -> None:
    import openai

    async def ask() -> str | None:
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
            done = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}]
            )
            return done.choices[0].message.content

    expect(asyncio.run(ask()), ANSWER)


def openai_stream(base: str) -> None:
    with _openai(base) as client:
        messages = [{"role": "user", "content": QUESTION}]
        chunks = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    expect("".join(said), ANSWER)


def openai_json(base: str) -> None:
    with _openai(base) as client:
        messages = [{"role": "user", "content": QUESTION}]
        done = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Number)
    expect(done.choices[0].message.parsed, Number(number=42))


def openai_refusal(base: str) -> None:
    with _openai(base) as client:
        messages = [{"role": "user", "content": REFUSE}]
        done = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Number)
    message = done.choices[0].message
    expect((message.parsed, message.content, bool(message.refusal)), (None, None, True))


def openai_budget(base: str) -> None:
    done = _openai_ask(base, QUESTION, extra_body={"ecoalign": {"budget": 30_000}})
    expect(done.model_extra["ecoalign"]["budget"]["tokens"], 30_000)


def openai_free(base: str) -> None:
    done = _openai_ask(
        base,
        QUESTION,
        store=False,
        prompt_cache_key="k",
        user="ann",
        safety_identifier="ann",
        metadata={"a": "b"},
        service_tier="auto",
    )
    expect(done.choices[0].message.content, ANSWER)


def _tool(*, flat: bool = False) -> Any:
    """The tool of a client, as the API has it."""
    function = {
        "name": TOOL,
        "description": "The number of the house.",
        "parameters": {"type": "object", "properties": {}},
    }
    return {"type": "function", **function} if flat else {"type": "function", "function": function}


def openai_tools(base: str) -> None:
    with _openai(base) as client:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        more = {"model": MODEL, "tools": [_tool()]}
        done = client.chat.completions.create(messages=messages, **more)
        expect(done.choices[0].finish_reason, "tool_calls")
        (call,) = done.choices[0].message.tool_calls
        expect((call.function.name, call.function.arguments), (TOOL, "{}"))
        messages += [
            done.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": RESULT},
        ]
        done = client.chat.completions.create(messages=messages, **more)
    expect(done.choices[0].message.content, ANSWER)


def openai_named(base: str) -> None:
    with _openai(base) as client:
        messages = [{"role": "user", "content": QUESTION}]
        done = client.chat.completions.create(model=NAMED, messages=messages)
    expect(done.model_extra["ecoalign"]["preset"], "paper")


# -- openai, responses -----------------------------------------------------------------------------


def _responses(base: str, **more: Any) -> Any:
    with _openai(base) as client:
        return client.responses.create(**{"model": MODEL, "input": QUESTION, **more})


def responses_text(base: str) -> None:
    expect(_responses(base).output_text, ANSWER)


def _shown() -> list[Any]:
    content = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": image_uri(), "detail": "auto"},
    ]
    return [{"role": "user", "content": content}]


def responses_image(base: str) -> None:
    expect(_responses(base, input=_shown()).output_text, ANSWER)


def responses_async(base: str) -> None:
    import openai

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
            return (await client.responses.create(model=MODEL, input=QUESTION)).output_text

    expect(asyncio.run(ask()), ANSWER)


def responses_stream(base: str) -> None:
    with (
        _openai(base) as client,
        client.responses.stream(model=MODEL, input=QUESTION) as stream,
    ):
        said = [event.delta for event in stream if event.type == "response.output_text.delta"]
        done = stream.get_final_response()
    expect(("".join(said), done.output_text), (ANSWER, ANSWER))


def responses_json(base: str) -> None:
    with _openai(base) as client:
        done = client.responses.parse(model=MODEL, input=QUESTION, text_format=Number)
    expect(done.output_parsed, Number(number=42))


def responses_refusal(base: str) -> None:
    with _openai(base) as client:
        done = client.responses.parse(model=MODEL, input=REFUSE, text_format=Number)
    expect((done.output_parsed, done.output[0].content[0].type), (None, "refusal"))


def responses_budget(base: str) -> None:
    done = _responses(base, extra_body={"ecoalign": {"budget": 30_000}})
    expect(done.model_extra["ecoalign"]["budget"]["tokens"], 30_000)


def responses_free(base: str) -> None:
    done = _responses(
        base,
        store=False,
        prompt_cache_key="k",
        user="ann",
        safety_identifier="ann",
        metadata={"a": "b"},
        service_tier="auto",
    )
    expect(done.output_text, ANSWER)


def responses_tools(base: str) -> None:
    turns: list[Any] = [{"role": "user", "content": QUESTION}]
    done = _responses(base, input=turns, tools=[_tool(flat=True)])
    (call,) = done.output
    expect((call.type, call.name, call.arguments), ("function_call", TOOL, "{}"))
    turns += [call, {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}]
    expect(_responses(base, input=turns, tools=[_tool(flat=True)]).output_text, ANSWER)


def responses_named(base: str) -> None:
    done = _responses(base, model=NAMED)
    expect(done.model_extra["ecoalign"]["preset"], "paper")


# -- llm -------------------------------------------------------------------------------------------


def _llm(base: str, cls: str = "Chat") -> Any:
    import llm
    from llm.default_plugins import openai_models

    os.environ.setdefault("LLM_USER_PATH", os.devnull)
    assert llm
    return getattr(openai_models, cls)(
        "gateway", model_name=MODEL, api_base=base, key=KEY, vision=True, supports_schema=True
    )


def llm_text(base: str) -> None:
    expect(_llm(base).prompt(QUESTION, key=KEY, stream=False).text(), ANSWER)


def llm_image(base: str) -> None:
    import llm

    image = llm.Attachment(path=SIGNS)
    expect(_llm(base).prompt(QUESTION, attachments=[image], key=KEY, stream=False).text(), ANSWER)


def llm_async(base: str) -> None:
    async def ask() -> str:
        reply: str = await _llm(base, "AsyncChat").prompt(QUESTION, key=KEY, stream=False).text()
        return reply

    expect(asyncio.run(ask()), ANSWER)


def llm_stream(base: str) -> None:
    expect("".join(_llm(base).prompt(QUESTION, key=KEY)), ANSWER)


def llm_json(base: str) -> None:
    reply = _llm(base).prompt(QUESTION, schema=Number, key=KEY, stream=False).text()
    expect(json.loads(reply), {"number": 42})


# -- langchain -------------------------------------------------------------------------------------


def _langchain(base: str, **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(**{"model": MODEL, **more}, base_url=base, api_key=KEY, max_retries=0)


def langchain_text(base: str) -> None:
    expect(_langchain(base).invoke(QUESTION).content, ANSWER)


def langchain_image(base: str) -> None:
    expect(_langchain(base).invoke([{"role": "user", "content": _parts()}]).content, ANSWER)


def langchain_async(base: str) -> None:
    async def ask() -> Any:
        return (await _langchain(base).ainvoke(QUESTION)).content

    expect(asyncio.run(ask()), ANSWER)


def langchain_stream(base: str) -> None:
    expect("".join(str(chunk.content) for chunk in _langchain(base).stream(QUESTION)), ANSWER)


def langchain_json(base: str) -> None:
    made = _langchain(base).with_structured_output(Number, method="json_schema")
    expect(made.invoke(QUESTION), Number(number=42))


def langchain_refusal(base: str) -> None:
    made = _langchain(base).with_structured_output(Number, method="json_schema", include_raw=True)
    found = made.invoke(REFUSE)
    expect((found["parsed"], bool(found["raw"].additional_kwargs.get("refusal"))), (None, True))


def langchain_budget(base: str) -> None:
    model = _langchain(base, extra_body={"ecoalign": {"budget": 30_000}})
    expect(model.invoke(QUESTION).content, ANSWER)


def langchain_tools(base: str, **more: Any) -> None:
    model = _langchain(base, **more).bind_tools([_tool()])
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    called = model.invoke(messages)
    (call,) = called.tool_calls
    expect((call["name"], call["args"]), (TOOL, {}))
    messages += [called, {"role": "tool", "tool_call_id": call["id"], "content": RESULT}]
    expect(model.invoke(messages).text, ANSWER)


def langchain_named(base: str, **more: Any) -> None:
    expect(_langchain(base, model=NAMED, **more).invoke(QUESTION).text, ANSWER)


# -- langchain, responses --------------------------------------------------------------------------

_OVER: Mapping[str, Any] = {"use_responses_api": True}


def langchain_responses_text(base: str) -> None:
    expect(_langchain(base, **_OVER).invoke(QUESTION).text, ANSWER)


def langchain_responses_image(base: str) -> None:
    asked = [{"role": "user", "content": _parts()}]
    expect(_langchain(base, **_OVER).invoke(asked).text, ANSWER)


def langchain_responses_async(base: str) -> None:
    async def ask() -> Any:
        # It keeps a client for each address, and that belongs to the loop of an earlier test.
        return (await _langchain(f"{base}/", **_OVER).ainvoke(QUESTION)).text

    expect(asyncio.run(ask()), ANSWER)


def langchain_responses_stream(base: str) -> None:
    chunks = _langchain(base, **_OVER).stream(QUESTION)
    expect("".join(chunk.text for chunk in chunks), ANSWER)


def langchain_responses_json(base: str) -> None:
    made = _langchain(base, **_OVER).with_structured_output(Number, method="json_schema")
    expect(made.invoke(QUESTION), Number(number=42))


def langchain_responses_refusal(base: str) -> None:
    model = _langchain(base, **_OVER)
    made = model.with_structured_output(Number, method="json_schema", include_raw=True)
    found = made.invoke(REFUSE)
    expect((found["parsed"], "refusal" in str(found["raw"])), (None, True))


def langchain_responses_budget(base: str) -> None:
    model = _langchain(base, extra_body={"ecoalign": {"budget": 30_000}}, **_OVER)
    expect(model.invoke(QUESTION).text, ANSWER)


def langchain_responses_tools(base: str) -> None:
    langchain_tools(base, **_OVER)


def langchain_responses_named(base: str) -> None:
    langchain_named(base, **_OVER)


# -- litellm ---------------------------------------------------------------------------------------


def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.telemetry = False
    return litellm


def _litellm_ask(base: str, content: Any, **more: Any) -> Any:
    usual = {
        "model": f"openai/{MODEL}",
        "messages": [{"role": "user", "content": content}],
        "num_retries": 0,
    }
    return _litellm().completion(**{**usual, **more}, api_base=base, api_key=KEY)


def litellm_text(base: str) -> None:
    expect(_litellm_ask(base, QUESTION).choices[0].message.content, ANSWER)


def litellm_image(base: str) -> None:
    expect(_litellm_ask(base, _parts()).choices[0].message.content, ANSWER)


def litellm_async(base: str) -> None:
    async def ask() -> Any:
        return await _litellm().acompletion(
            model=f"openai/{MODEL}",
            api_base=base,
            api_key=KEY,
            messages=[{"role": "user", "content": QUESTION}],
        )

    expect(asyncio.run(ask()).choices[0].message.content, ANSWER)


def litellm_stream(base: str) -> None:
    chunks = _litellm_ask(base, QUESTION, stream=True)
    expect("".join(chunk.choices[0].delta.content or "" for chunk in chunks), ANSWER)


def litellm_json(base: str) -> None:
    done = _litellm_ask(base, QUESTION, response_format=Number)
    expect(json.loads(done.choices[0].message.content), {"number": 42})


def litellm_budget(base: str) -> None:
    done = _litellm_ask(base, QUESTION, extra_body={"ecoalign": {"budget": 30_000}})
    expect(done.choices[0].message.content, ANSWER)


def litellm_refusal(base: str) -> None:
    message = _litellm_ask(base, REFUSE, response_format=Number).choices[0].message
    refusal = getattr(message, "refusal", None) or (message.provider_specific_fields or {}).get(
        "refusal"
    )
    expect((message.content, bool(refusal)), (None, True))


def litellm_tools(base: str) -> None:
    done = _litellm_ask(base, QUESTION, tools=[_tool()])
    expect(done.choices[0].finish_reason, "tool_calls")
    (call,) = done.choices[0].message.tool_calls
    messages = [
        {"role": "user", "content": QUESTION},
        done.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": RESULT},
    ]
    done = _litellm_ask(base, QUESTION, messages=messages, tools=[_tool()])
    expect(done.choices[0].message.content, ANSWER)


def litellm_named(base: str) -> None:
    done = _litellm_ask(base, QUESTION, model=f"openai/{NAMED}")
    expect(done.choices[0].message.content, ANSWER)


# -- litellm, responses ----------------------------------------------------------------------------


def _litellm_response(base: str, **more: Any) -> Any:
    usual = {"model": f"openai/{MODEL}", "input": QUESTION, "num_retries": 0}
    return _litellm().responses(**{**usual, **more}, api_base=base, api_key=KEY)


def _said(response: Any) -> str:
    items = [item for item in response.output if item.type == "message"]
    return "".join(part.text for item in items for part in item.content)


def litellm_responses_text(base: str) -> None:
    expect(_said(_litellm_response(base)), ANSWER)


def litellm_responses_image(base: str) -> None:
    expect(_said(_litellm_response(base, input=_shown())), ANSWER)


def litellm_responses_async(base: str) -> None:
    async def ask() -> Any:
        return await _litellm().aresponses(
            model=f"openai/{MODEL}", input=QUESTION, api_base=base, api_key=KEY
        )

    expect(_said(asyncio.run(ask())), ANSWER)


def litellm_responses_stream(base: str) -> None:
    events = _litellm_response(base, stream=True)
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    expect("".join(said), ANSWER)


def litellm_responses_tools(base: str) -> None:
    tools = [_tool(flat=True)]
    turns: list[Any] = [{"role": "user", "content": QUESTION}]
    (call,) = _litellm_response(base, input=turns, tools=tools).output
    expect((call.type, call.name), ("function_call", TOOL))
    turns += [
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": RESULT},
    ]
    expect(_said(_litellm_response(base, input=turns, tools=tools)), ANSWER)


def litellm_responses_named(base: str) -> None:
    expect(_said(_litellm_response(base, model=f"openai/{NAMED}")), ANSWER)


# -- pydantic-ai -----------------------------------------------------------------------------------


def _pydantic_ai(base: str, *, over: str = "Chat", model: str = MODEL, **more: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models import openai
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=base, api_key=KEY)
    made = getattr(openai, f"OpenAI{over}Model")
    return Agent(made(model, provider=provider), **more)


def pydantic_ai_text(base: str) -> None:
    expect(_pydantic_ai(base).run_sync(QUESTION).output, ANSWER)


def pydantic_ai_image(base: str) -> None:
    from pydantic_ai import BinaryContent

    image = BinaryContent(data=Path(SIGNS).read_bytes(), media_type="image/png")
    expect(_pydantic_ai(base).run_sync([QUESTION, image]).output, ANSWER)


def pydantic_ai_async(base: str) -> None:
    async def ask() -> Any:
        return (await _pydantic_ai(base).run(QUESTION)).output

    expect(asyncio.run(ask()), ANSWER)


def pydantic_ai_stream(base: str) -> None:
    async def ask() -> Any:
        async with _pydantic_ai(base).run_stream(QUESTION) as stream:
            return await stream.get_output()

    expect(asyncio.run(ask()), ANSWER)


def pydantic_ai_json(base: str) -> None:
    from pydantic_ai import NativeOutput

    agent = _pydantic_ai(base, output_type=NativeOutput(Number))
    expect(agent.run_sync(QUESTION).output, Number(number=42))


def pydantic_ai_tools(base: str, **more: Any) -> None:
    done = []

    def number() -> str:
        """The number of the house."""
        done.append(1)
        return RESULT

    expect(_pydantic_ai(base, tools=[number], **more).run_sync(QUESTION).output, ANSWER)
    expect(done, [1])


def pydantic_ai_named(base: str, **more: Any) -> None:
    expect(_pydantic_ai(base, model=NAMED, **more).run_sync(QUESTION).output, ANSWER)


# -- pydantic-ai, responses ------------------------------------------------------------------------


def pydantic_ai_responses_text(base: str) -> None:
    expect(_pydantic_ai(base, over="Responses").run_sync(QUESTION).output, ANSWER)


def pydantic_ai_responses_image(base: str) -> None:
    from pydantic_ai import BinaryContent

    image = BinaryContent(data=Path(SIGNS).read_bytes(), media_type="image/png")
    expect(_pydantic_ai(base, over="Responses").run_sync([QUESTION, image]).output, ANSWER)


def pydantic_ai_responses_stream(base: str) -> None:
    async def ask() -> Any:
        async with _pydantic_ai(base, over="Responses").run_stream(QUESTION) as stream:
            return await stream.get_output()

    expect(asyncio.run(ask()), ANSWER)


def pydantic_ai_responses_json(base: str) -> None:
    from pydantic_ai import NativeOutput

    agent = _pydantic_ai(base, over="Responses", output_type=NativeOutput(Number))
    expect(agent.run_sync(QUESTION).output, Number(number=42))


def pydantic_ai_responses_tools(base: str) -> None:
    pydantic_ai_tools(base, over="Responses")


def pydantic_ai_responses_named(base: str) -> None:
    pydantic_ai_named(base, over="Responses")


# -- inspect_ai ------------------------------------------------------------------------------------


def _inspect(base: str, content: Any, **config: Any) -> Any:
    from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model

    async def ask() -> Any:
        async with get_model(
            f"openai-api/gateway/{MODEL}",
            base_url=base,
            api_key=KEY,
            memoize=False,
            config=GenerateConfig(max_retries=0, **config),
        ) as model:
            return await model.generate([ChatMessageUser(content=content)])

    return asyncio.run(ask())


def inspect_text(base: str) -> None:
    expect(_inspect(base, QUESTION).completion, ANSWER)


def inspect_image(base: str) -> None:
    from inspect_ai.model import ContentImage, ContentText

    content = [ContentText(text=QUESTION), ContentImage(image=image_uri())]
    expect(_inspect(base, content).completion, ANSWER)


def inspect_json(base: str) -> None:
    from inspect_ai.model import ResponseSchema
    from inspect_ai.util import json_schema

    schema = ResponseSchema(name="number", json_schema=json_schema(Number))
    reply = _inspect(base, QUESTION, response_schema=schema).completion
    expect(json.loads(reply), {"number": 42})


def inspect_budget(base: str) -> None:
    reply = _inspect(base, QUESTION, extra_body={"ecoalign": {"budget": 30_000}})
    expect(reply.completion, ANSWER)


# -- VLMEvalKit ------------------------------------------------------------------------------------


def _vlmeval(base: str, content: Any, **more: Any) -> Any:
    """As VLMEvalKit's wrapper posts: with `requests`, to the whole URL, text as parts, numbers for
    the sampling, and no header beside the key and the type."""
    import requests

    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 2048,
        "n": 1,
        "temperature": 0,
        **more,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    reply = requests.post(
        f"{base}/chat/completions", headers=headers, data=json.dumps(body), timeout=60
    )
    expect(reply.status_code, 200)
    return reply.json()["choices"][0]["message"]["content"].strip()


def vlmeval_text(base: str) -> None:
    expect(_vlmeval(base, [{"type": "text", "text": QUESTION}]), ANSWER)


def vlmeval_image(base: str) -> None:
    image = {"type": "image_url", "image_url": {"url": image_uri(), "detail": "low"}}
    expect(_vlmeval(base, [image, {"type": "text", "text": QUESTION}]), ANSWER)


def vlmeval_named(base: str) -> None:
    expect(_vlmeval(base, [{"type": "text", "text": QUESTION}], model=NAMED), ANSWER)


def vlmeval_budget(base: str) -> None:
    text = [{"type": "text", "text": QUESTION}]
    expect(_vlmeval(base, text, ecoalign={"budget": 30_000}), ANSWER)


FEATURES = (
    *("text", "image", "async", "stream", "JSON schema", "refusal", "tools", "budget"),
    *("by name", "free"),
)
"""The columns of the table."""

CLIENTS: Mapping[str, tuple[str, Mapping[str, Check]]] = {
    "openai": (
        "openai",
        {
            "text": openai_text,
            "image": openai_image,
            "async": openai_async,
            "stream": openai_stream,
            "JSON schema": openai_json,
            "refusal": openai_refusal,
            "tools": openai_tools,
            "budget": openai_budget,
            "by name": openai_named,
            "free": openai_free,
        },
    ),
    "openai, responses": (
        "openai",
        {
            "text": responses_text,
            "image": responses_image,
            "async": responses_async,
            "stream": responses_stream,
            "JSON schema": responses_json,
            "refusal": responses_refusal,
            "tools": responses_tools,
            "budget": responses_budget,
            "by name": responses_named,
            "free": responses_free,
        },
    ),
    "llm": (
        "llm",
        {
            "text": llm_text,
            "image": llm_image,
            "async": llm_async,
            "stream": llm_stream,
            "JSON schema": llm_json,
        },
    ),
    "langchain-openai": (
        "langchain_openai",
        {
            "text": langchain_text,
            "image": langchain_image,
            "async": langchain_async,
            "stream": langchain_stream,
            "JSON schema": langchain_json,
            "refusal": langchain_refusal,
            "tools": langchain_tools,
            "budget": langchain_budget,
            "by name": langchain_named,
        },
    ),
    "langchain-openai, responses": (
        "langchain_openai",
        {
            "text": langchain_responses_text,
            "image": langchain_responses_image,
            "async": langchain_responses_async,
            "stream": langchain_responses_stream,
            "JSON schema": langchain_responses_json,
            "refusal": langchain_responses_refusal,
            "tools": langchain_responses_tools,
            "budget": langchain_responses_budget,
            "by name": langchain_responses_named,
        },
    ),
    "litellm": (
        "litellm",
        {
            "text": litellm_text,
            "image": litellm_image,
            "async": litellm_async,
            "stream": litellm_stream,
            "JSON schema": litellm_json,
            "refusal": litellm_refusal,
            "tools": litellm_tools,
            "budget": litellm_budget,
            "by name": litellm_named,
        },
    ),
    "litellm, responses": (
        "litellm",
        {
            "text": litellm_responses_text,
            "image": litellm_responses_image,
            "async": litellm_responses_async,
            "stream": litellm_responses_stream,
            "tools": litellm_responses_tools,
            "by name": litellm_responses_named,
        },
    ),
    "pydantic-ai": (
        "pydantic_ai",
        {
            "text": pydantic_ai_text,
            "image": pydantic_ai_image,
            "async": pydantic_ai_async,
            "stream": pydantic_ai_stream,
            "JSON schema": pydantic_ai_json,
            "tools": pydantic_ai_tools,
            "by name": pydantic_ai_named,
        },
    ),
    "pydantic-ai, responses": (
        "pydantic_ai",
        {
            "text": pydantic_ai_responses_text,
            "image": pydantic_ai_responses_image,
            "stream": pydantic_ai_responses_stream,
            "JSON schema": pydantic_ai_responses_json,
            "tools": pydantic_ai_responses_tools,
            "by name": pydantic_ai_responses_named,
        },
    ),
    "inspect_ai": (
        "inspect_ai",
        {
            "text": inspect_text,
            "image": inspect_image,
            "JSON schema": inspect_json,
            "budget": inspect_budget,
        },
    ),
    "VLMEvalKit's requests": (
        "requests",
        {
            "text": vlmeval_text,
            "image": vlmeval_image,
            "budget": vlmeval_budget,
            "by name": vlmeval_named,
        },
    ),
}
"""By client: the module that it needs, and its features."""
