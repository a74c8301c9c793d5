"""The providers that a model's name may begin with: where each is, and which key it takes.

All of them speak OpenAI's chat completions. A provider's key goes to the provider's own address, or
to an address that is given for it expressly, and to no other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecoalign.models._endpoint import OPENAI_URL


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        name: the prefix, as in "gemini:gemini-2.5-flash".
        base_url: its address.
        keys: the environment variables that may hold its key; the first that is set counts.
        source: where address and variable are documented.
        prices: what `genai-prices` calls it; "" where that package knows no prices of it.
        local: whether it is a server of one's own, by default on this machine: it needs no key,
            and a base URL may say where it is.
    """

    name: str
    base_url: str
    keys: tuple[str, ...]
    source: str
    prices: str = ""
    local: bool = False

    @property
    def key_env(self) -> str:
        """The variable that its key is read from; "" where it takes none."""
        there = (name for name in self.keys if os.environ.get(name, "").strip())
        return next(there, self.keys[0] if self.keys else "")


_ALL: Final = (
    Provider(
        "openai",
        OPENAI_URL,
        ("OPENAI_API_KEY",),
        "https://platform.openai.com/docs/api-reference/authentication",
        prices="openai",
    ),
    Provider(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://ai.google.dev/gemini-api/docs/openai",
        prices="google",
    ),
    # One key does not fit two regions: "API Keys are region-specific".
    Provider(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        "https://www.alibabacloud.com/help/en/model-studio/base-url",
    ),
    Provider(
        "dashscope-cn",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        "https://www.alibabacloud.com/help/en/model-studio/base-url",
    ),
    Provider(
        "dashscope-us",
        "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        "https://www.alibabacloud.com/help/en/model-studio/base-url",
    ),
    Provider(
        "anthropic",
        "https://api.anthropic.com/v1",
        ("ANTHROPIC_API_KEY",),
        "https://platform.claude.com/docs/en/api/openai-sdk",
        prices="anthropic",
    ),
    Provider(
        "openrouter",
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/docs",
        prices="openrouter",
    ),
    Provider(
        "mistral",
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        "https://docs.mistral.ai/api",
        prices="mistral",
    ),
    Provider(
        "xai",
        "https://api.x.ai/v1",
        ("XAI_API_KEY",),
        "https://docs.x.ai/docs/tutorial",
        prices="x-ai",
    ),
    Provider(
        "groq",
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        "https://console.groq.com/docs/openai",
        prices="groq",
    ),
    Provider(
        "together",
        "https://api.together.ai/v1",
        ("TOGETHER_API_KEY",),
        "https://docs.together.ai/docs/inference/openai-compatibility",
        prices="together",
    ),
    Provider(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        ("FIREWORKS_API_KEY",),
        "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        prices="fireworks",
    ),
    Provider(
        "deepinfra",
        "https://api.deepinfra.com/v1/openai",
        ("DEEPINFRA_API_KEY", "DEEPINFRA_API_TOKEN"),
        "https://deepinfra.com/docs/advanced/openai_api",
    ),
    # The names of the variables are those that set the key of the server itself.
    Provider(
        "vllm",
        "http://127.0.0.1:8000/v1",
        ("VLLM_API_KEY",),
        "https://docs.vllm.ai/en/latest/configuration/env_vars.html",
        local=True,
    ),
    Provider(
        "llamacpp",
        "http://127.0.0.1:8080/v1",
        ("LLAMA_API_KEY",),
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        local=True,
    ),
    Provider(
        "ollama",
        "http://127.0.0.1:11434/v1",
        (),
        "https://docs.ollama.com/api/openai-compatibility",
        local=True,
    ),
    Provider(
        "lmstudio",
        "http://127.0.0.1:1234/v1",
        (),
        "https://lmstudio.ai/docs/developer/openai-compat",
        local=True,
    ),
)

PROVIDERS: Final[Mapping[str, Provider]] = {provider.name: provider for provider in _ALL}


def provider_of(spec: str) -> tuple[Provider | None, str]:
    """The provider that a model's name begins with, None if none does, and the rest of the name."""
    prefix, colon, name = spec.strip().partition(":")
    provider = PROVIDERS.get(prefix) if colon else None
    return (None, spec.strip()) if provider is None else (provider, name.strip())
