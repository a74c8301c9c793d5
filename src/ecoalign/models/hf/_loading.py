"""Weights, tokenizer and processor from a folder or the hub, and the place where they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import errors as hub
from huggingface_hub import is_offline_mode
from huggingface_hub import logging as hub_logging
from transformers.utils import is_torchvision_available
from transformers.utils import logging as transformers_logging

from ecoalign.errors import InputError, ModelError
from ecoalign.models.hf._encoder import Encoder
from ecoalign.models.hf._schemas import Grammars

DTYPES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""The types of numbers that weights may have, and their bytes."""

_SHARE = 0.5
"""Of a machine's memory: what the weights may take in float32."""


def place(device: str | None, dtype: str | None, parameters: Callable[[], int]) -> tuple[str, str]:
    """Where a model runs and in what numbers, unless the caller says so.

    A GPU before Apple's before the processor; bfloat16 where the GPU computes in it, else float16.
    On a processor float32, which every one of them computes in, unless that takes more than half
    of the memory.

    Raises:
        InputError: there is no such device or type.
    """
    if device is None:
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        kind = torch.device(device).type
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} cannot be used: {_line(error)}") from None
    if dtype is None:
        if kind == "cuda":
            dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        elif kind == "cpu":
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            fits = parameters() * DTYPES["float32"] <= memory * _SHARE
            dtype = "float32" if fits else "bfloat16"
        else:
            dtype = "float16"
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    return device, dtype


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's files, read without its weights."""

    name: str
    """As the user writes it, a folder or a name on the hub."""
    config: Any
    """Of `transformers`."""
    encoder: Encoder
    """Reads for the model."""
    ends: frozenset[int]
    """The tokens that end an answer."""
    _auto: Any
    _where: str
    _options: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> Checkpoint:
        """From a folder, the hub's cache or the hub.

        Raises:
            InputError: there is no such model, or it is none that can be used here.
            ModelError: the hub cannot be reached.
        """
        folder = Path(name).expanduser()
        here = folder.is_dir()
        where = str(folder) if here else name
        if not here and (name.startswith((".", "/", "~")) or name.count("/") > 1):
            raise InputError(f"hf:{name}: there is no such folder")
        # A folder has it all; nothing is asked of the network for one.
        options = {"local_files_only": True} if here else {}
        with _told(name), _quiet():
            config = transformers.AutoConfig.from_pretrained(where, **options)
            auto = transformers.AutoModelForImageTextToText
            sees = type(config) in auto._model_mapping
            if not sees:
                auto = transformers.AutoModelForCausalLM
                if type(config) not in auto._model_mapping:
                    raise InputError(
                        f"hf:{name} is of the type {config.model_type!r}, which neither answers "
                        "about images nor writes text"
                    )
            processor = _processor(where, config, options) if sees else None
            tokenizer = (
                transformers.AutoTokenizer.from_pretrained(where, **options)
                if processor is None
                else processor.tokenizer
            )
            ends = _ends(where, config, options) | _numbers(tokenizer.eos_token_id)
            encoder = Encoder(processor, tokenizer, config, Grammars(tokenizer, ends), f"hf:{name}")
        return cls(name, config, encoder, ends, auto, where, options)

    def model(self, device: str | None, dtype: str | None) -> Any:
        """The model in its place.

        Raises:
            InputError: there is no such place, or the weights cannot be read.
            ModelError: the hub cannot be reached, or the memory is too small.
        """

        def parameters() -> int:
            with torch.device("meta"):
                return int(self._auto.from_config(self.config).num_parameters())

        with _told(self.name), _quiet():
            device, dtype = place(device, dtype, parameters)
            numbers = getattr(torch, dtype)
            model = self._auto.from_pretrained(self._where, dtype=numbers, **self._options)
            model = model.to(device).eval()
        # A checkpoint's own sampling (a temperature, a penalty) has no say in ours.
        model.generation_config = transformers.GenerationConfig()
        return model


def _ends(where: str, config: Any, options: Mapping[str, Any]) -> frozenset[int]:
    try:
        made = transformers.GenerationConfig.from_pretrained(where, **options)
    except OSError:  # it has none of its own
        made = transformers.GenerationConfig.from_model_config(config)
    return _numbers(made.eos_token_id)


def _numbers(value: int | list[int] | None) -> frozenset[int]:
    """One token, several or none."""
    return frozenset(value if isinstance(value, list) else () if value is None else (value,))


class _NoVideos(dict[str, Any]):
    """Stands where a processor wants one for videos: they need torchvision, images do not."""

    num_frames = fps = None


def _processor(where: str, config: Any, options: dict[str, Any]) -> Any:
    """The model's processor; without torchvision, one that reads images alone."""
    if is_torchvision_available():
        return transformers.AutoProcessor.from_pretrained(where, **options)
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind = PROCESSOR_MAPPING[type(config)]
    if "video_processor" not in kind.get_attributes():
        return transformers.AutoProcessor.from_pretrained(where, **options)

    def checked(self: Any, name: str, value: Any) -> Any:
        return (
            None
            if name == "video_processor"
            else kind.check_argument_for_proper_class(self, name, value)
        )

    images_only: Any = type(kind.__name__, (kind,), {"check_argument_for_proper_class": checked})
    found, rest = kind.get_processor_dict(where, **options)
    parts: dict[str, Callable[[], Any]] = {
        "image_processor": lambda: transformers.AutoImageProcessor.from_pretrained(
            where, **options
        ),
        "tokenizer": lambda: transformers.AutoTokenizer.from_pretrained(where, **options),
        "video_processor": _NoVideos,
    }
    made = [parts[part]() for part in kind.get_attributes()]
    return images_only.from_args_and_dict(made, found, **rest)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no bars of transformers, which would stand among a command's own lines. The
    bars of a download stay."""
    levels = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what loading raises into one line of ours."""
    try:
        yield
    except (InputError, ModelError):
        raise
    except Exception as error:
        raise _failure(name, error) from None


def _failure(name: str, error: Exception) -> InputError | ModelError:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if found(hub.GatedRepoError):
        return InputError(
            f"hf:{name} is gated: accept its terms on its page and log in (`hf auth login`, or the "
            "environment variable HF_TOKEN)"
        )
    if found(hub.RepositoryNotFoundError, hub.HFValidationError):
        return InputError(
            f"hf:{name}: there is no such folder and no such model on the hub (or it is private: "
            "`hf auth login`)"
        )
    away = found(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError)
    if found(hub.OfflineModeIsEnabled) or (away and is_offline_mode()):
        return ModelError(
            f"hf:{name} is not in the cache, and the hub is not asked (HF_HUB_OFFLINE)",
            fault="down",
            billed=False,
        )
    if away:
        return ModelError(
            f"hf:{name} is not in the cache, and the hub cannot be reached: download it where "
            "there is a network, or name a local folder",
            fault="down",
            billed=False,
        )
    if out_of_memory(error):
        return memory_error(name, "the weights do not fit")
    return InputError(f"hf:{name} cannot be loaded: {_line(error)}")


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's, a Mac's or the machine's memory was too small."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "allocate memory" in said
    )


def memory_error(name: str, what: str) -> ModelError:
    """The error that says so."""
    return ModelError(
        f"hf:{name}: out of memory, {what}: use a smaller model or a smaller image",
        fault="rejected",
        billed=False,
    )


def _line(error: BaseException) -> str:
    """The first line of what an error says, cut to a readable length."""
    text = " ".join(str(error).strip().split("\n\n")[0].split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
