"""`embedded`: a real, small, trained network that knows one synthetic world and nothing else."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecoalign.errors import InputError
from ecoalign.models.base import ChatRequest, Completion, ImagePart, TokenLogprob, Usage
from ecoalign.models.embedded.network import IMAGE_TOKENS, LONGEST, Network
from ecoalign.models.embedded.sampling import first_unsupported, stops_of, until_stop
from ecoalign.models.embedded.tokenizer import Tokenizer, plain
from ecoalign.models.embedded.view import to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ecoalign.sampling import Sampling

__all__ = ["COMPACT", "EmbeddedModel"]

COMPACT = "compact"
"""Set in `ChatRequest.extra["prompt"]` by the compact dialect; other text is a plain question."""


class EmbeddedModel:
    """The packaged vision-language model (3.3 M parameters, CPU, no key, no download).

    It answers from the last message's text and the last image; it has no memory of earlier turns.

    Args:
        folder: other weights than the packaged ones, for the laboratory.
    """

    name = "embedded"
    dialect = "compact"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._network: Network | None = None
        self._loading = threading.Lock()
        self._tokenizer = Tokenizer.load()

    def bound(self, request: ChatRequest) -> Usage:
        """The exact prompt tokens and the cap on the output: the tokenizer is ours."""
        ids, image = self._prompt(request)
        seen = IMAGE_TOKENS if image is not None else 0
        return Usage(prompt=len(ids) + seen, completion=request.max_tokens, image=seen)

    def unsupported(self, sampling: Sampling) -> str | None:
        """The first parameter of a client that it cannot honour; see `Choosy.unsupported`."""
        return first_unsupported(sampling.params)

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
        network = self._loaded()
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

    def _loaded(self) -> Network:
        if self._folder is None:
            return Network.packaged()
        with self._loading:
            if self._network is None:
                self._network = Network(self._folder)
            return self._network

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
