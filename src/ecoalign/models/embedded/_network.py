"""The embedded network under onnxruntime: prefix, KV cache, greedy or sampled decoding."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecoalign.errors import InputError
from ecoalign.models.embedded._tokenizer import Tokenizer

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray
    from PIL import Image

IMAGE_TOKENS = 36

LONGEST = 224
"""Most text tokens of one call, prompt and answer together."""

_PREFIXES_KEPT = 32

_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Generation:
    """Generated ids with, per step, the natural log-probabilities of the whole vocabulary."""

    ids: tuple[int, ...]
    logprobs: tuple[NDArray[np.float32], ...]
    stopped: bool


def _session(path: Path) -> onnxruntime.InferenceSession:
    # Some releases number the device and report to their maker; they read this when imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


class Network:
    """The two graphs and their decoding loop. Safe to use from several threads.

    Args:
        folder: where stem.onnx and decoder.onnx are; the packaged ones unless told.

    Raises:
        InputError: they are not there.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            with as_file(files(__package__)) as packaged:
                self._load(packaged)
        else:
            self._load(folder)
        self.tokenizer = Tokenizer.load()
        shape = self._decoder.get_inputs()[3].shape
        self._layers, self._heads, self._head = shape[0], shape[3], shape[5]
        self._width = self._heads * self._head
        self._prefixes: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def _load(self, folder: Path) -> None:
        for name in ("stem.onnx", "decoder.onnx"):
            if not (folder / name).is_file():
                raise InputError(f"the embedded model's weights are missing: no {name} in {folder}")
        self._stem = _session(folder / "stem.onnx")
        self._decoder = _session(folder / "decoder.onnx")

    @staticmethod
    def packaged() -> Network:
        """The packaged network, loaded once per process whatever number of threads asks first."""
        with _LOADING:
            return _packaged()

    def prefix(self, pixels: NDArray[np.uint8] | None) -> NDArray[np.float32]:
        """Image tokens [1, 36, D] of uint8 pixels [96, 96, 3]; [1, 0, D] without an image."""
        if pixels is None:
            return np.zeros((1, 0, self._width), dtype=np.float32)
        key = pixels.tobytes()
        with self._lock:
            if key in self._prefixes:
                self._prefixes.move_to_end(key)
                return self._prefixes[key]
        (made,) = self._stem.run(None, {"pixels": pixels[None]})
        with self._lock:
            self._prefixes[key] = made
            while len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        prefix: NDArray[np.float32] = made
        return prefix

    def generate(
        self,
        ids: list[int],
        pixels: NDArray[np.uint8] | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generation:
        """Continue `ids` by at most `max_tokens` tokens; the end mark is counted, not returned.

        Args:
            ids: the prompt, 1 to LONGEST tokens.
            pixels: uint8 [96, 96, 3], or None for no image.
            max_tokens: at least 1.
            temperature: 0 is greedy.
            seed: of the sampling.
        """
        prefix = self.prefix(pixels)
        nothing = np.zeros((1, 0, self._width), dtype=np.float32)
        past = np.zeros((self._layers, 2, 1, self._heads, 0, self._head), dtype=np.float32)
        rng = np.random.default_rng(seed)
        new = np.asarray([ids], dtype=np.int64)
        place = 0
        out: list[int] = []
        tables: list[NDArray[np.float32]] = []
        for _ in range(min(max_tokens, LONGEST - len(ids))):
            places = np.arange(place, place + new.shape[1], dtype=np.int64)[None]
            feed = {"prefix": prefix, "ids": new, "places": places, "past": past}
            logits, past = self._decoder.run(None, feed)
            table = _log_softmax(logits[0])
            if temperature > 0:
                chances = np.exp(_log_softmax(logits[0] / temperature).astype(np.float64))
                chosen = int(rng.choice(len(chances), p=chances / chances.sum()))
            else:
                chosen = int(table.argmax())
            tables.append(table)
            if chosen == self.tokenizer.eos:
                return Generation(tuple(out), tuple(tables), stopped=True)
            out.append(chosen)
            prefix, place = nothing, place + new.shape[1]
            new = np.asarray([[chosen]], dtype=np.int64)
        return Generation(tuple(out), tuple(tables), stopped=False)


@lru_cache(maxsize=1)
def _packaged() -> Network:
    return Network()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max()
    table: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum())
    return table


VIEW = 96
"""Side of the model's view in pixels."""


def to_pixels(image: Image.Image, resample: int = 1) -> NDArray[np.uint8]:
    """`image` as uint8 [96, 96, 3] (RGB), stretched to the square.

    Args:
        image: any PIL image.
        resample: a PIL resampling filter; Lanczos (1) unless told.
    """
    from PIL import Image as PillowImage

    image = image.convert("RGB")  # first, as a palette cannot be resampled
    if image.size != (VIEW, VIEW):
        image = image.resize((VIEW, VIEW), PillowImage.Resampling(resample))
    return np.asarray(image, dtype=np.uint8)
