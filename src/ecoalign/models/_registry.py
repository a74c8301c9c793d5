"""From the name of a model, as a user writes it, to the model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from ecoalign.errors import InputError
from ecoalign.models._base import ChatModel
from ecoalign.models._endpoint import Endpoint
from ecoalign.models._profile import Profile, known_profile, read_profile
from ecoalign.models._providers import PROVIDERS, Provider, provider_of
from ecoalign.models.openai import OpenAIModel

_LOCAL = ("embedded", "hf")
"""Whose models run in this process."""

_HOMES = {"gemini-": "gemini", "claude-": "anthropic", "grok-": "xai", "gpt-": "openai"}
"""Who serves a model that is named without a provider, by how its name begins."""


def open_model(
    spec: str | ChatModel,
    base_url: str | None = None,
    timeout: float | None = None,
    *,
    key_env: str | None = None,
    proxy: str | None = None,
    profile: str = "auto",
    tune: Callable[[Profile], Profile] | None = None,
) -> ChatModel:
    """The model that `spec` names.

    "embedded" is the model in this package. "hf:NAME" is a model of the Hugging Face hub or of a
    local folder, loaded into this process. "PROVIDER:NAME" is a model of one of the providers in
    `ecoalign.models._providers`. "openai:NAME" is a model of OpenAI, or of the server at `base_url`
    (or OPENAI_BASE_URL), for which a bare "NAME" will do too. A `ChatModel` is returned as it is.

    Args:
        spec: "provider:name", or a model.
        base_url: address of an OpenAI-compatible server, usually ending in /v1. A hosted provider
            has its own; another one for it needs a `key_env`, as it would get the provider's key.
        timeout: seconds that one call may take, > 0, by default as in `OpenAIModel`; for servers
            only.
        key_env: the variable that holds the key for this address; "" for none. By default the
            provider's.
        proxy: the proxy on the way there; "" for none. By default that of the environment.
        profile: see `known_profile`; of a model in this process a file alone counts.
        tune: changes what is known of the model, its profile; not for the embedded one.

    Raises:
        InputError: there is no such provider, or a value does not go with it; for "hf:NAME" also
            that the extra is not installed, or the model is not there.
        ModelError: "hf:NAME" cannot be downloaded, or does not fit in memory.
    """
    if not isinstance(spec, str):
        if not isinstance(spec, ChatModel):
            raise InputError(
                f"a model is named by text or is a ChatModel, not a {type(spec).__name__}"
            )
        if base_url is not None:
            raise InputError("a base URL goes with a model's name, not with a model object")
        return spec
    prefix = spec.strip().partition(":")[0]
    if prefix == "embedded":
        return _embedded(spec.strip().partition(":")[2], base_url)
    if prefix == "hf" and ":" in spec:
        return _local(spec.strip().partition(":")[2], base_url, profile, tune)
    provider, name = provider_of(spec)
    if provider is None:
        if base_url is None:
            raise _unknown(spec.strip(), prefix)
        # Names on other servers have colons of their own ("llama3.2-vision:11b").
        provider = PROVIDERS["openai"]
    _check_address(provider, name, base_url, key_env)
    endpoint = _endpoint(provider, base_url, key_env, proxy)
    known = known_profile(endpoint.base_url, name, profile)
    return OpenAIModel(
        name,
        timeout=timeout,
        provider=provider.name,
        endpoint=endpoint,
        profile=known if tune is None else tune(known),
    )


def _endpoint(
    provider: Provider, base_url: str | None, key_env: str | None, proxy: str | None
) -> Endpoint:
    # OpenAI's address may be given by the environment, too.
    address = base_url or (None if provider.name == "openai" else provider.base_url)
    variable = provider.key_env if key_env is None else key_env
    endpoint = Endpoint.of(address, key_from=variable, proxy=proxy)
    if key_env and not endpoint.key:
        raise InputError(
            f"no key for {endpoint.base_url}: the environment variable {key_env} is not set; set "
            'it, or write key_env = "" if that server takes none'
        )
    if not (endpoint.key or provider.local or base_url or provider.name == "openai"):
        raise InputError(
            f"no key for {endpoint.base_url}: set the environment variable "
            f"{' or '.join(provider.keys)}"
        )
    return endpoint


def _check_address(
    provider: Provider, name: str, base_url: str | None, key_env: str | None
) -> None:
    """A hosted provider's key goes to another address only where that is said expressly."""
    if base_url is None or provider.local or provider.name == "openai" or key_env is not None:
        return
    raise InputError(
        f'"{provider.name}:" is asked at {provider.base_url}, not at {base_url}, which would get '
        f'its key: leave the base URL out, or write "openai:{provider.name}:{name}" for a model of '
        "that name on the other server, or name an endpoint with a base_url and a key_env"
    )


def _embedded(name: str, base_url: str | None) -> ChatModel:
    if name:
        raise InputError(f'there is one embedded model; write "embedded", not "{name}" after it')
    if base_url is not None:
        raise InputError(
            '"embedded" runs in this process and takes no base URL; for a model of that name on a '
            'server write "openai:embedded"'
        )
    from ecoalign.models.embedded import EmbeddedModel  # its runtime is heavy

    return EmbeddedModel()


def _local(
    name: str,
    base_url: str | None,
    profile: str,
    tune: Callable[[Profile], Profile] | None,
) -> ChatModel:
    if base_url is not None:
        raise InputError(
            '"hf:NAME" runs in this process and takes no base URL; for a model of that name on a '
            'server write "openai:NAME"'
        )

    def known(found: Profile) -> Profile:
        file = None if profile in {"auto", "none"} else Path(profile).expanduser()
        found = found if file is None else read_profile(file, found)
        return found if tune is None else tune(found)

    from ecoalign.models.hf import HFModel

    return HFModel(name, tune=known)


def _unknown(spec: str, prefix: str) -> InputError:
    names = (*_LOCAL, *PROVIDERS)
    near = difflib.get_close_matches(prefix.lower(), names, n=1, cutoff=0.6)
    home = next((one for word, one in _HOMES.items() if prefix.lower().startswith(word)), None)
    if home is not None and ":" not in spec:
        guess = f"{home}:{spec}"
    elif near:
        rest = spec.partition(":")[2] or "NAME"
        guess = near[0] if near[0] == "embedded" else f"{near[0]}:{rest}"
    else:
        guess = f"openai:{spec or 'NAME'}"
    return InputError(
        f"unknown model {spec!r}: did you mean {guess!r}? Providers: {', '.join(names)}; for "
        "any other OpenAI-compatible server give the model's name there and a base URL"
    )
