"""Where a model is asked and with which key; no key goes to two servers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from command import SIGNS
from hostile import HostileServer, Received, Reply, completion

from ecoalign import Aligner, Query, Settings
from ecoalign.errors import InputError, SettingsError, VerdictError
from ecoalign.models import (
    PROVIDERS,
    ChatRequest,
    Message,
    TextPart,
    open_model,
    profile_file,
    profile_of,
    profiles_folder,
)
from ecoalign.models.openai import OpenAIModel
from ecoalign.search.context import named_evaluator

_HELLO = ChatRequest((Message("user", (TextPart("hello"),)),), 8, "answer")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for provider in PROVIDERS.values():
        for name in provider.keys:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def _fine(_: Received) -> Reply:
    return Reply(completion("fine"))


def _key(request: Received) -> str:
    return request.headers.get("authorization", "")


def _opened(settings: Settings, spec: str | None = None) -> OpenAIModel:
    model = settings.open_model(spec)
    assert isinstance(model, OpenAIModel)
    return model


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_an_address_a_key_and_a_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = PROVIDERS[name]
    if not provider.local:
        with pytest.raises(InputError, match=provider.keys[0]):
            open_model(f"{name}:some-model")
    for variable in provider.keys[-1:]:
        monkeypatch.setenv(variable, f"key-of-{name}")
    model = open_model(f"{name}:org/some-model:7b")
    assert isinstance(model, OpenAIModel)
    assert (model.name, model.model) == (f"{name}:org/some-model:7b", "org/some-model:7b")
    assert model.base_url == provider.base_url
    assert model.endpoint.key == (f"key-of-{name}" if provider.keys else "")
    assert provider.source.startswith("https://")


def test_the_first_of_two_variables_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "second")
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    model = open_model("gemini:gemini-2.5-flash")
    assert isinstance(model, OpenAIModel)
    assert model.endpoint.key == "first"


async def test_a_providers_key_goes_to_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-mistral")
    with HostileServer(_fine) as server:
        with pytest.raises(InputError, match='"openai:mistral:7b"'):
            Settings(model="mistral:7b", base_url=server.url).open_model()
        # A name on a server of one's own is reached so.
        model = _opened(Settings(model="openai:mistral:7b", base_url=server.url))
        await model.complete(_HELLO)
        await model.aclose()
    assert [(_key(one), one.json["model"]) for one in server.received] == [("", "mistral:7b")]


async def test_a_server_of_ones_own_may_be_anywhere() -> None:
    with HostileServer(_fine) as server:
        model = _opened(Settings(model="ollama:mistral:7b", base_url=server.url))
        await model.complete(_HELLO)
        await model.aclose()
    assert (model.name, server.received[0].json["model"]) == ("ollama:mistral:7b", "mistral:7b")


def test_openais_further_headers_go_with_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1")
    for spec, there in (("openai:m", True), ("groq:m", False)):
        model = open_model(spec)
        assert isinstance(model, OpenAIModel)
        assert ("OpenAI-Organization" in model.endpoint.headers) == there


async def test_an_endpoint_has_its_own_address_key_and_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("GUARD_KEY", "sk-guard")
    with HostileServer(_fine) as mine, HostileServer(_fine) as other:
        settings = Settings(
            model="big",
            base_url=mine.url,
            evaluator="guard",
            endpoints={
                "guard": {
                    "model": "openai:llama-guard3",
                    "base_url": other.url,
                    "key_env": "GUARD_KEY",
                    "timeout": 7,
                    "profile": {"scoring": "word", "logprobs": 5},
                }
            },
        )
        model, guard = _opened(settings), named_evaluator(settings).of(settings.open_model()).model
        assert isinstance(guard, OpenAIModel)
        assert (guard.name, guard.timeout) == ("openai:llama-guard3", 7)
        assert (profile_of(guard).scoring, profile_of(guard).logprobs) == ("word", 5)
        assert profile_of(guard).sources["scoring"] == "the endpoint guard"
        for one in (model, guard):
            await one.complete(_HELLO)
            await one.aclose()
    assert [_key(one) for one in mine.received] == ["Bearer sk-openai"]
    assert [_key(one) for one in other.received] == ["Bearer sk-guard"]


async def test_an_endpoint_elsewhere_gets_no_key_that_it_does_not_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with HostileServer(_fine) as other:
        table: dict[str, object] = {"model": "openai:judge", "base_url": other.url}
        model = _opened(Settings(endpoints={"judge": table}), "judge")
        await model.complete(_HELLO)
        table["key_env"] = "OPENAI_API_KEY"
        named = _opened(Settings(model="openai:gpt-4o", endpoints={"judge": table}), "judge")
        await named.complete(_HELLO)
        await model.aclose()
        await named.aclose()
    assert [_key(one) for one in other.received] == ["", "Bearer sk-openai"]


def test_a_key_that_an_endpoint_names_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"model": "openai:judge", "base_url": "http://h/v1", "key_env": "GUARD_KEY"}
    settings = Settings(endpoints={"guard": table})
    with pytest.raises(InputError, match='GUARD_KEY is not set; set it, or write key_env = ""'):
        settings.open_model("guard")
    monkeypatch.setenv("GUARD_KEY", "sk-guard")
    assert _opened(settings, "guard").endpoint.key == "sk-guard"


def test_a_slip_in_an_endpoints_name_does_not_make_the_model_its_own_judge() -> None:
    table = {"model": "openai:llama-guard3", "base_url": "http://g/v1"}
    settings = Settings(
        model="m", base_url="http://h/v1", evaluator="gaurd", endpoints={"guard": table}
    )
    with pytest.raises(InputError, match="no endpoint 'gaurd': did you mean 'guard'"):
        settings.open_model("gaurd", role="evaluator")
    with pytest.raises(InputError, match="did you mean 'guard'"):
        settings.open_model()
    for other in ("openai:gaurd", "another", "guard-2"):
        assert _opened(settings.replace(evaluator="self"), other).model == other.split(":")[-1]


def test_a_field_that_an_endpoint_does_not_have_is_told_with_those_that_it_has() -> None:
    with pytest.raises(SettingsError, match=r"guard\.keyenv: there is no such field; .*key_env"):
        Settings(endpoints={"guard": {"model": "m", "keyenv": "K"}})


def test_an_endpoint_at_its_providers_address_gets_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "g-1")
    model = _opened(Settings(endpoints={"j": {"model": "gemini:gemini-2.5-pro"}}), "j")
    assert (model.base_url, model.endpoint.key) == (PROVIDERS["gemini"].base_url, "g-1")


@pytest.mark.parametrize("role", ["evaluator", "judge"])
def test_one_key_never_goes_to_two_servers(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    settings = Settings(model="openai:gpt-4o")
    with pytest.raises(InputError) as refused:
        settings.open_model("m", role=role, base_url="http://elsewhere:8000/v1")  # type: ignore[arg-type]
    said = str(refused.value)
    assert "OPENAI_API_KEY would be sent to two servers" in said
    assert "https://api.openai.com:443" in said
    assert "http://elsewhere:8000" in said
    assert "[endpoints.NAME]" in said
    assert "sk-openai" not in said
    # The same server is no other one, whatever its path; and without the key there is none to lose.
    again = Settings(model="m", base_url="http://elsewhere:8000/v1")
    again.open_model("n", role=role, base_url="http://ELSEWHERE:8000/other")  # type: ignore[arg-type]
    monkeypatch.delenv("OPENAI_API_KEY")
    Settings(model="m", base_url="http://h/v1").open_model(
        "n",
        role=role,  # type: ignore[arg-type]
        base_url="http://elsewhere:8000/v1",
    )


def test_two_regions_of_a_provider_are_two_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-ds")
    settings = Settings(model="dashscope:qwen3-vl-plus", evaluator="dashscope-cn:qwen-max")
    with pytest.raises(InputError, match="DASHSCOPE_API_KEY would be sent to two servers"):
        settings.open_model(settings.evaluator, role="evaluator")
    with pytest.raises(InputError, match="two servers"):
        Aligner(settings=settings)


def test_an_evaluator_of_another_provider_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "g-1")
    settings = Settings(model="qwen", base_url="http://h/v1", evaluator="gemini:gemini-2.5-flash")
    other = settings.open_model(settings.evaluator, role="evaluator")
    assert isinstance(other, OpenAIModel)
    assert other.base_url == PROVIDERS["gemini"].base_url


@pytest.mark.parametrize(
    ("model", "evaluator", "name"),
    [
        ("qwen", "guard", "openai:guard"),
        ("openai:qwen", "openai:guard", "openai:guard"),
        ("vllm:qwen", "guard", "vllm:guard"),
        ("vllm:qwen", "vllm:guard", "vllm:guard"),
    ],
)
def test_an_evaluator_without_an_address_is_asked_where_the_model_is(
    model: str, evaluator: str, name: str
) -> None:
    settings = Settings(model=model, base_url="http://h:9/v1", evaluator=evaluator)
    other = settings.open_model(evaluator, role="evaluator")
    assert isinstance(other, OpenAIModel)
    assert (other.name, other.base_url) == (name, "http://h:9/v1")


def test_the_models_settings_are_not_the_evaluators() -> None:
    settings = Settings(
        model="qwen",
        base_url="http://h/v1",
        evaluator="guard",
        reasoning_effort="low",
        extra_body={"top_k": 1},
        scoring="word",
        schema_mode="prompt",
    )
    mine = profile_of(settings.open_model())
    other = profile_of(settings.open_model("guard", role="evaluator"))
    assert (mine.reasoning_effort, mine.extra_body, mine.schema_mode) == (
        *("low", {"top_k": 1}),
        "prompt",
    )
    assert (other.reasoning_effort, other.extra_body, other.schema_mode) == (
        None,
        {},
        "json_schema",
    )
    assert (mine.scoring, other.scoring) == ("word", "word")


def test_a_price_is_that_of_who_sells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    proxy = {"model": "openai:gpt-4o", "base_url": "http://proxy.example/v1"}
    book = Settings(endpoints={"p": proxy}).price_book()
    assert book.lookup("openai:gpt-4o") is None  # the proxy's price is its own
    plain = Settings().price_book()
    for model in ("openai:gpt-4o", "gemini:gemini-2.5-flash", "anthropic:claude-sonnet-4-5"):
        assert plain.lookup(model) is not None
    for model in ("dashscope:qwen3-vl-plus", "ollama:llava", "vllm:gpt-4o", "gemini:no-such"):
        assert plain.lookup(model) is None


def test_a_secret_in_an_endpoint_is_not_shown() -> None:
    for table in (
        {"model": "m", "api_key": "sk-very-secret"},
        {"model": "m", "key_env": "sk-very-secret"},
        {"model": "m", "base_url": "http://u:sk-very-secret@h/v1"},
    ):
        with pytest.raises(SettingsError) as refused:
            Settings(endpoints={"guard": table})
        assert "very-secret" not in str(refused.value)
        assert "endpoints.guard" in str(refused.value)


def test_endpoints_are_read_from_everywhere_and_saved(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(
        '[endpoints.guard]\nmodel = "openai:g"\nbase_url = "http://h/v1"\nkey_env = "K"\n'
        '[endpoints.guard.profile]\nscoring = "samples"\n',
        encoding="utf-8",
    )
    from_file = Settings.load(file=file, env={})
    table = {"guard": {"model": "openai:g", "base_url": "http://h/v1", "key_env": "K"}}
    from_env = Settings.load(env={"ECOALIGN_ENDPOINTS": json.dumps(table)})
    assert from_file.endpoints["guard"].key_env == from_env.endpoints["guard"].key_env == "K"
    assert from_file.endpoints["guard"].profile == {"scoring": "samples"}
    assert Settings.from_json(from_file.to_json()) == from_file


# What a probe has found ---------------------------------------------------------------------------


def _keep(url: str, model: str, text: str) -> None:
    path = profile_file(profiles_folder(), url, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_server_on_this_machine_has_one_profile_by_all_its_names() -> None:
    _keep("http://localhost:8000/v1", "m", "logprobs = 3\n")
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost:8000"):
        assert profile_of(open_model("m", f"http://{host}/v1")).logprobs == 3
    for host in ("localhost.example:8000", "localhost:8001", "h:8000"):
        assert profile_of(open_model("m", f"http://{host}/v1")).logprobs == 20


def test_a_profile_names_the_fields_there_are() -> None:
    _keep("http://h/v1", "m", 'scorin = "word"\n')
    with pytest.raises(InputError, match=r"scorin: there is no such field; .*scoring"):
        open_model("m", "http://h/v1")


async def test_a_profile_is_found_on_the_next_run_and_changes_what_is_sent() -> None:
    with HostileServer(_fine) as server:
        settings = Settings(model="some-model", base_url=server.url, look=False, budget=200_000)

        async def bodies(settings: Settings) -> list[dict[str, object]]:
            before = len(server.received)
            aligner = Aligner(settings=settings)
            with suppress(VerdictError):  # this server judges nothing
                await aligner.align(Query.of(SIGNS, "What is this?"))
            await aligner.aclose()
            return [one.json for one in server.received[before:]]

        unknown = await bodies(settings)
        assert any("logprobs" in body for body in unknown)
        assert any("response_format" in body for body in unknown)
        assert any("seed" in body for body in unknown)
        _keep(
            server.url,
            "some-model",
            'about = { model = "x" }\nlogprobs = 0\nschema_mode = "prompt"\nthinking = 512\n'
            'seed = false\nsystem = "user"\nextra_body = { top_k = 1 }\n',
        )
        known = await bodies(settings)
        for name in ("logprobs", "response_format", "seed"):
            assert not any(name in body for body in known)
        assert all(body["top_k"] == 1 for body in known)
        assert all(body["messages"][0]["role"] == "user" for body in known)  # type: ignore[index]
        assert all(int(str(body["max_tokens"])) > 512 for body in known)
        # Settings stand before it, and it is of this address and this name alone.
        assert any("logprobs" not in body for body in await bodies(settings))
        none = await bodies(settings.replace(profile="none"))
        assert any("logprobs" in body for body in none)
    elsewhere = Settings(model="some-model", base_url="http://h/v1").open_model()
    other = Settings(model="other-model", base_url=server.url).open_model()
    for model in (elsewhere, other):
        assert profile_of(model).logprobs == 20


def test_settings_file_family_default_in_this_order(tmp_path: Path) -> None:
    url = "http://h/v1"
    _keep(url, "gemini-2.5-pro", 'boxes = "xyxy-1"\nlogprobs = 3\n')

    def known(**values: object) -> dict[str, str]:
        model = Settings(model="gemini-2.5-pro", base_url=url, **values).open_model()
        profile = profile_of(model)
        return {
            name: f"{getattr(profile, name)} from {profile.sources.get(name, 'default')}"
            for name in ("boxes", "logprobs", "reasoning_effort", "seed")
        }

    probed = profile_file(profiles_folder(), url, "gemini-2.5-pro").name
    assert known() == {
        "boxes": f"xyxy-1 from the probe in {probed}",
        "logprobs": f"3 from the probe in {probed}",
        "reasoning_effort": "low from https://ai.google.dev/gemini-api/docs/openai: low is a "
        "budget of 1,024 in 2.5, a level in 3",
        "seed": "True from default",
    }
    assert known(boxes="yxyx-1000")["boxes"] == "yxyx-1000 from the settings"
    assert known(profile="none")["boxes"] == "xyxy-1000 from default"
    file = tmp_path / "mine.toml"
    file.write_text("seed = false\n", encoding="utf-8")
    mine = known(profile=str(file))
    assert (mine["seed"], mine["logprobs"]) == (
        "False from the probe in mine.toml",
        "20 from default",
    )


@pytest.mark.parametrize("text", ["logprobs = 21\n", "colour = 1\n", "not toml", "seed = 3\n"])
def test_a_profile_that_cannot_be_read_is_an_error_and_no_default(text: str) -> None:
    _keep("http://h/v1", "m", text)
    with pytest.raises(InputError, match=r"profile .*m-[0-9a-f]{12}\.toml"):
        Settings(model="m", base_url="http://h/v1").open_model()
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        Settings(model="m", base_url="http://h/v1", profile="nowhere.toml").open_model()


@pytest.mark.parametrize("name", ["embedded", "toy"])
def test_the_embedded_model_judges_no_other_one(name: str) -> None:
    endpoints = {"toy": {"model": "embedded"}}
    real = Settings(model="a", base_url="http://127.0.0.1:9/v1", endpoints=endpoints)
    with pytest.raises(SettingsError, match="cannot judge what a writes"):
        real.replace(evaluator=name).open_model()
    with pytest.raises(SettingsError, match="cannot judge"):
        real.open_model(name, role="judge")
    toy = Settings(evaluator=name, endpoints=endpoints)
    assert toy.open_model().name == toy.open_model(name, role="evaluator").name == "embedded"
