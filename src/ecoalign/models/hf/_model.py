"""A local model as a `ChatModel`. Nothing of torch or transformers is imported with this module."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest, Completion, Usage
from ecoalign.models._profile import Profile, shipped_profile
from ecoalign.models._sampling import SamplingParams
from ecoalign.models.hf._params import first_unsupported, unknown_extra

if TYPE_CHECKING:
    from ecoalign.models.hf._encoder import Encoder
    from ecoalign.models.hf._engine import Engine

PREFIX_BYTES = 1 << 30
"""Key-values of prompts that are kept for later calls, in bytes."""

MAX_BATCH = 8
"""Calls that are run together, at most."""

FILES = "the model's own files"
"""Where a profile's values come from that are not set."""

_SHARED: dict[tuple[object, ...], Engine] = {}
"""The loaded weights of this process, by what was asked for: a model and an evaluator of one name
share them."""

_ONE_AT_A_TIME = threading.Lock()


class HFModel:
    """A model of the Hugging Face hub or of a local folder, run in this process.

    It is loaded when the object is made, and again by a call after `aclose`. Calls that wait when
    a batch starts are run together; the key-values of their prompts are kept, so that a later call
    reads only what differs. Each call is answered as it would be alone, within numerical noise.

    Args:
        model: its name on the hub ("HuggingFaceTB/SmolVLM-256M-Instruct"), or a folder.
        device: "cuda", "mps" or "cpu"; the first of them that there is if None.
        dtype: "bfloat16", "float16" or "float32"; what suits the device if None.
        timeout: seconds that one call may take, waiting included; None for no limit. A request's
            own comes first.
        max_batch: calls that are run together, >= 1.
        prefix_bytes: bytes of key-values that are kept, >= 0; 0 keeps none.
        tune: changes what is known of the model, its profile.

    Raises:
        InputError: the extra is not installed, there is no such model, or it cannot be used.
        ModelError: the hub cannot be reached, or the weights do not fit in memory.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        timeout: float | None = None,
        max_batch: int = MAX_BATCH,
        prefix_bytes: int = PREFIX_BYTES,
        tune: Callable[[Profile], Profile] | None = None,
    ) -> None:
        if not model.strip():
            raise InputError('the model has no name; write for example "hf:Qwen/Qwen2.5-VL-3B"')
        _installed(model)
        self.model = model.strip()
        self.timeout = timeout
        self._key = (self.model, device, dtype, max_batch, prefix_bytes)
        self._engine: Engine | None = None
        engine = self._opened()
        found = shipped_profile(engine.kind).with_values(engine.abilities(), FILES)
        try:
            known = found if tune is None else tune(found)
            self.profile = known.with_values(_views(known, engine.encoder), FILES)
        except InputError:
            self._release()
            raise
        self._described = engine.described

    @property
    def name(self) -> str:
        """ "hf:" and the model's name."""
        return f"hf:{self.model}"

    @property
    def dialect(self) -> str:
        """The dialect that its profile names."""
        return self.profile.dialect

    def __repr__(self) -> str:
        return f"HFModel({self.model!r}, {self._described})"

    def bound(self, request: ChatRequest) -> Usage:
        """The tokens of the prompt by the model's own tokenizer and processor, and the cap.

        Exact for text. With images it may be higher by up to two tokens for each.

        Raises:
            InputError: the model reads no images and the request has one.
        """
        return bound(self._opened().encoder, self.profile, request)

    def unsupported(self, sampling: SamplingParams) -> str | None:
        """The first parameter that it cannot honour; see `SupportsParams.unsupported`."""
        return first_unsupported(sampling.params)

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer `request`, in a thread of the model's own.

        Raises:
            InputError: it cannot be read: an image for a model that reads none or whose bytes are
                no image, more tokens than the model reads, a parameter that it does not know.
            ModelError: the time was up or the memory too small.
        """
        wrong = first_unsupported(request.client)
        if wrong is not None:
            raise InputError(f"{self.name} cannot honour {wrong}: leave it out", param=wrong)
        request = _under(request, self.profile)
        wrong = unknown_extra(request.extra)
        if wrong is not None:
            raise InputError(f"{self.name} knows no parameter {wrong!r}: leave it out of the extra")
        engine = self._engine
        if engine is None:
            engine = await asyncio.to_thread(self._opened)
        limit = self.timeout if request.timeout is None else request.timeout
        return await asyncio.wrap_future(engine.submit(request, limit))

    async def aclose(self) -> None:
        """Free the weights, unless another model of the same name uses them. Safe to call twice."""
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        with _ONE_AT_A_TIME:
            engine, self._engine = self._engine, None
            if engine is None:
                return
            engine.users -= 1
            if engine.users:
                return
            del _SHARED[self._key]
        engine.close()

    def _opened(self) -> Engine:
        if self._engine is not None:  # without waiting for another model that is being loaded
            return self._engine
        with _ONE_AT_A_TIME:
            engine = self._engine
            if engine is None:
                engine = _SHARED.get(self._key)
                if engine is None:
                    from ecoalign.models.hf._engine import Engine

                    engine = _SHARED[self._key] = Engine(*self._key)
                engine.users += 1
                self._engine = engine
            return engine


def bound(encoder: Encoder, profile: Profile, request: ChatRequest) -> Usage:
    """See `HFModel.bound`."""
    read = encoder.bound(_under(request, profile))
    return Usage(read.prompt, request.max_tokens, read.image)


def bound_of(model: str, profile: Profile) -> Callable[[ChatRequest], Usage]:
    """`HFModel.bound` without the weights, for a run that is replayed.

    Raises:
        InputError, ModelError: as `HFModel`, where its tokenizer and processor are not there.
    """
    _installed(model)
    from ecoalign.models.hf._loading import Checkpoint

    return partial(bound, Checkpoint.read(model).encoder, profile)


def _installed(model: str) -> None:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not installed: pip install 'ecoalign[hf]' for hf:{model}"
        )


def _views(known: Profile, encoder: Encoder) -> dict[str, object]:
    """Whether the model sees, and the tokens of the square views and crops that it is shown."""
    costs = {n: encoder.image_tokens(n, n) for n in sorted({known.view_pixels, known.crop_pixels})}
    if not all(costs.values()):
        return {"images": False}
    return {"image_tokens": {f"{n}x{n}": tokens for n, tokens in costs.items()}}


def _under(request: ChatRequest, profile: Profile) -> ChatRequest:
    """With what the profile adds to every request; the template is told of a reasoning effort."""
    extra = {**profile.extra_body, **request.extra}
    options = extra.get("chat_template_kwargs", {})
    if profile.reasoning_effort is not None and isinstance(options, dict):
        effort = {"reasoning_effort": profile.reasoning_effort}
        extra["chat_template_kwargs"] = {**effort, **options}
    return request if extra == request.extra else replace(request, extra=extra)
