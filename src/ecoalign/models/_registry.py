"""From the name of a model, as a user writes it, to the model."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from typing import TYPE_CHECKING

from ecoalign.errors import InputError
from ecoalign.models._base import ChatModel
from ecoalign.models.openai import DEFAULT_TIMEOUT, OpenAIModel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["open_model", "providers"]

# Models that run in this process; imported only when asked for, as their runtimes are heavy.
LOCAL: Mapping[str, tuple[str, str]] = {
    "embedded": ("ecoalign.models.embedded", "EmbeddedModel"),
    "hf": ("ecoalign.models.transformers", "TransformersModel"),
}


def providers() -> tuple[str, ...]:
    """The providers of this release, as they are written before a model's name."""
    here = [name for name, (module, _) in LOCAL.items() if importlib.util.find_spec(module)]
    return (*here, "openai")


def open_model(
    spec: str | ChatModel,
    base_url: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    *,
    image_family: str | None = None,
) -> ChatModel:
    """The model that `spec` names.

    "embedded" is the model in this package. "openai:NAME" is a model of OpenAI, or of the server
    at `base_url` (or OPENAI_BASE_URL), for which a bare "NAME" will do too. A `ChatModel` is
    returned as it is.

    Args:
        spec: "provider:name", or a model.
        base_url: address of an OpenAI-compatible server, usually ending in /v1.
        timeout: seconds that one call may take, > 0; for servers only.
        image_family: see `OpenAIModel`; for servers only.

    Raises:
        InputError: there is no such provider, or a value does not go with it.
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
    if provider in LOCAL:
        return _local(provider, name, base_url)
    if provider == "openai" and colon:
        return _server(name, base_url, timeout, image_family)
    if base_url is not None:
        # Names on other servers have colons of their own ("llama3.2-vision:11b").
        return _server(spec, base_url, timeout, image_family)
    raise _unknown(spec, provider)


def _server(
    name: str, base_url: str | None, timeout: float, image_family: str | None
) -> OpenAIModel:
    return OpenAIModel(name.strip(), base_url=base_url, timeout=timeout, image_family=image_family)


def _local(provider: str, name: str, base_url: str | None) -> ChatModel:
    if provider not in providers():
        raise InputError(
            f'the provider "{provider}" is not in this release; there are: '
            f"{', '.join(providers())}. A server such as vLLM or Ollama can run such a model: "
            "give its name there and a base URL"
        )
    if base_url is not None:
        raise InputError(
            f'"{provider}" runs in this process and takes no base URL; for a model of that name '
            f'on a server write "openai:{provider}"'
        )
    module, attribute = LOCAL[provider]
    make: object = getattr(importlib.import_module(module), attribute)
    if not callable(make):
        raise InputError(f"{module}.{attribute} does not make a model")
    if provider == "embedded":
        if name:
            raise InputError(
                f'there is one embedded model; write "embedded", not "{name}" after it'
            )
        model: object = make()
    elif not name.strip():
        raise InputError(f'name a model after "{provider}:"')
    else:
        model = make(name.strip())
    if not isinstance(model, ChatModel):
        raise InputError(f"{module}.{attribute} did not make a ChatModel")
    return model


def _unknown(spec: str, provider: str) -> InputError:
    known = providers()
    near = difflib.get_close_matches(provider.lower(), known, n=1, cutoff=0.6)
    if near:
        rest = spec.partition(":")[2] or "NAME"
        guess = near[0] if near[0] == "embedded" else f"{near[0]}:{rest}"
    else:
        guess = f"openai:{spec or 'NAME'}"
    return InputError(
        f"unknown model {spec!r}: did you mean {guess!r}? Providers: {', '.join(known)}; for any "
        "other OpenAI-compatible server give the model's name there and a base URL"
    )
