"""`embedded`: a real, small, trained network that knows one synthetic world and nothing else."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecoalign.errors import InputError, OutOfDomainError
from ecoalign.models._base import ChatRequest, Completion, ImagePart, TokenLogprob, Usage
from ecoalign.models._sampling import SamplingParams
from ecoalign.models.embedded._network import IMAGE_TOKENS, LONGEST, Network, to_pixels
from ecoalign.models.embedded._questions import outside
from ecoalign.models.embedded._scenes import is_scene
from ecoalign.models.embedded._tokenizer import Tokenizer, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


_MAX_STOPS = 4

_MAX_TEMPERATURE = 2.0

# Values that ask for nothing beyond what every answer has.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}

# They say who asks and how it is kept, and nothing about the answer.
_ABOUT = frozenset({"user", "safety_identifier", "metadata", "parallel_tool_calls"})


def first_unsupported(params: Mapping[str, object]) -> str | None:
    """The name of the first parameter that cannot be honoured; None if all of them can.

    Honoured are `temperature` from 0 to 2, `seed` (0 or more) and up to four texts of `stop`; null
    is no request at all.
    """
    return next((name for name, value in params.items() if not _honoured(name, value)), None)


def _honoured(name: str, value: object) -> bool:
    if value is None or name in _ABOUT:
        return True
    if isinstance(value, bool):  # True is a 1 to Python
        return any(value is known for known in _NEUTRAL.get(name, ()))
    match name:
        case "temperature":
            return isinstance(value, int | float) and 0 <= value <= _MAX_TEMPERATURE
        case "seed":
            return isinstance(value, int) and value >= 0
        case "stop":
            stops = [value] if isinstance(value, str) else value
            return (
                isinstance(stops, list)
                and len(stops) <= _MAX_STOPS
                and all(isinstance(stop, str) and stop for stop in stops)
            )
    return value in _NEUTRAL.get(name, ())


def stops_of(params: Mapping[str, object]) -> tuple[str, ...]:
    """The texts at which an answer is to end, by `stop`."""
    stop = params.get("stop")
    if isinstance(stop, str):
        return (stop,)
    return tuple(map(str, stop)) if isinstance(stop, list) else ()


def until_stop(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """`text` up to the first of `stops`, and whether there was one."""
    places = [place for place in map(text.find, stops) if place >= 0]
    return (text[: min(places)].rstrip(), True) if places else (text, False)


_KNOWS = (
    "It knows one small made-up world: coloured shapes and signs on a grid of three by three "
    '("How many circles are there?", "What does the sign say?"), and how things are done there '
    '("How do I open the gate?"). For anything else name a real model: openai:NAME with '
    "OPENAI_API_KEY set, or NAME with the base URL of any OpenAI-compatible server (--model and "
    "--base-url on the command line)"
)

COMPACT = "compact"
"""Set in `ChatRequest.extra["prompt"]` by the compact dialect; other text is a plain question."""


class EmbeddedModel:
    """The packaged vision-language model (3.3 M parameters, CPU, no key, no download).

    It answers from the last message's text and the last image; it has no memory of earlier turns.
    A run asks `check_domain` first; `complete` answers anything, outside its world with nonsense.

    Args:
        folder: other weights than the packaged ones, for training; loaded at once.
    """

    name = "embedded"
    dialect = "compact"

    def __init__(self, folder: Path | None = None) -> None:
        self._network = None if folder is None else Network(folder)
        self._tokenizer = Tokenizer.load()

    def bound(self, request: ChatRequest) -> Usage:
        """The exact prompt tokens and the cap on the output: the tokenizer is ours."""
        ids, image = self._prompt(request)
        seen = IMAGE_TOKENS if image is not None else 0
        return Usage(prompt=len(ids) + seen, completion=request.max_tokens, image=seen)

    def unsupported(self, sampling: SamplingParams) -> str | None:
        """The first parameter that it cannot honour; see `SupportsParams.unsupported`."""
        return first_unsupported(sampling.params)

    def check_domain(self, question: str, images: Sequence[Image.Image]) -> None:
        """See `SupportsDomain.check_domain`. A question stands alone: the model reads no earlier
        turns and no system prompt.

        Raises:
            OutOfDomainError: there is more than one image, one that is no scene of the world, or a
                question that is none of the world's.
        """
        why = outside(question, bool(images))
        if not why and len(images) > 1:
            why = f"it looks at one picture at a time, and there are {len(images)}"
        if not why and not all(map(is_scene, images)):
            why = "the picture is no scene of its world"
        if why:
            raise OutOfDomainError(f"the embedded model cannot answer this: {why}. {_KNOWS}")

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer in a worker thread, so that the event loop stays free.

        Raises:
            InputError: the question is longer than the model can read, the image's bytes are not
                an image, or a parameter of the client cannot be honoured (`param` names it).
        """
        return await asyncio.to_thread(self._complete, request)

    async def aclose(self) -> None:
        """Nothing to release: the sessions are shared by the process."""

    def _prompt(self, request: ChatRequest) -> tuple[list[int], ImagePart | None]:
        message = request.messages[-1]
        text = message.text
        if request.extra.get("prompt") != COMPACT:
            text = f"<ask> {plain(text)} <out>"
        images = message.images
        return self._tokenizer.encode(text), images[-1] if images else None

    def _complete(self, request: ChatRequest) -> Completion:
        wrong = first_unsupported(request.client)
        if wrong is not None:
            raise InputError(f"the embedded model cannot honour {wrong}: leave it out", param=wrong)
        network = self._network or Network.packaged()
        begun = time.perf_counter()
        ids, image = self._prompt(request)
        if len(ids) >= LONGEST:
            raise InputError(
                f"the embedded model reads at most {LONGEST} tokens and this text has {len(ids)}; "
                "ask a shorter question or name a real model (--model openai:NAME)"
            )
        made = network.generate(
            ids,
            None if image is None else _decode(image),
            request.max_tokens,
            request.temperature,
            request.seed or 0,
        )
        logprobs = None
        if request.top_logprobs:
            logprobs = tuple(
                self._alternatives(table, token, request.top_logprobs)
                for token, table in zip(made.ids, made.logprobs, strict=False)
            )
        seen = IMAGE_TOKENS if image is not None else 0
        text, cut = until_stop(self._tokenizer.decode(made.ids), stops_of(request.client))
        return Completion(
            text=text,
            usage=Usage(prompt=len(ids) + seen, completion=len(made.logprobs), image=seen),
            finish_reason="stop" if made.stopped or cut else "length",
            logprobs=logprobs,
            model="embedded",
            seconds=time.perf_counter() - begun,
        )

    def _alternatives(self, table: NDArray[np.float32], token: int, top: int) -> TokenLogprob:
        best = np.argsort(table)[::-1][:top]
        return TokenLogprob(
            token=self._tokenizer.tokens[token],
            logprob=float(table[token]),
            top={self._tokenizer.tokens[int(i)]: float(table[i]) for i in best},
        )


def _decode(image: ImagePart) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(image.data)) as opened:
            return to_pixels(opened)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files
        raise InputError(
            f"the image of {len(image.data)} bytes ({image.media_type}) cannot be read: {error}"
        ) from error
