"""From the name of a model, as a user writes it, to the model."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from ecoalign.errors import InputError
from ecoalign.models._base import ChatModel
from ecoalign.models._profile import Profile, shipped_profile
from ecoalign.models.openai import OpenAIModel

_PROVIDERS = ("embedded", "hf", "openai")


def open_model(
    spec: str | ChatModel,
    base_url: str | None = None,
    timeout: float | None = None,
    *,
    tune: Callable[[Profile], Profile] | None = None,
) -> ChatModel:
    """The model that `spec` names.

    "embedded" is the model in this package. "openai:NAME" is a model of OpenAI, or of the server
    at `base_url` (or OPENAI_BASE_URL), for which a bare "NAME" will do too. "hf:NAME" is a model of
    the Hugging Face hub or of a local folder, loaded into this process. A `ChatModel` is returned
    as it is.

    Args:
        spec: "provider:name", or a model.
        base_url: address of an OpenAI-compatible server, usually ending in /v1.
        timeout: seconds that one call may take, > 0, by default as in `OpenAIModel`; for servers
            only.
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
    spec = spec.strip()
    provider, colon, name = spec.partition(":")
    if provider == "embedded":
        return _embedded(name, base_url)
    if provider == "openai" and colon:
        return _server(name, base_url, timeout, tune)
    if provider == "hf" and colon:
        return _local(name, base_url, tune)
    if base_url is not None:
        # Names on other servers have colons of their own ("llama3.2-vision:11b").
        return _server(spec, base_url, timeout, tune)
    raise _unknown(spec, provider)


def _server(
    name: str,
    base_url: str | None,
    timeout: float | None,
    tune: Callable[[Profile], Profile] | None,
) -> OpenAIModel:
    profile = shipped_profile(name.strip())
    profile = profile if tune is None else tune(profile)
    return OpenAIModel(name.strip(), base_url=base_url, timeout=timeout, profile=profile)


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


def _local(name: str, base_url: str | None, tune: Callable[[Profile], Profile] | None) -> ChatModel:
    if base_url is not None:
        raise InputError(
            '"hf:NAME" runs in this process and takes no base URL; for a model of that name on a '
            'server write "openai:NAME"'
        )
    from ecoalign.models.hf import HFModel

    return HFModel(name, tune=tune)


def _unknown(spec: str, provider: str) -> InputError:
    near = difflib.get_close_matches(provider.lower(), _PROVIDERS, n=1, cutoff=0.6)
    if near:
        rest = spec.partition(":")[2] or "NAME"
        guess = near[0] if near[0] == "embedded" else f"{near[0]}:{rest}"
    else:
        guess = f"openai:{spec or 'NAME'}"
    return InputError(
        f"unknown model {spec!r}: did you mean {guess!r}? Providers: {', '.join(_PROVIDERS)}; for "
        "any other OpenAI-compatible server give the model's name there and a base URL"
    )
