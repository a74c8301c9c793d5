"""The loaded model in a thread of its own: calls that wait are run together, prefixes are kept."""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from ecoalign.errors import InputError, ModelError
from ecoalign.models._base import ChatRequest, Completion
from ecoalign.models.hf import _layout as layout
from ecoalign.models.hf._loading import Checkpoint, memory_error, out_of_memory
from ecoalign.models.hf._params import MAX_ALTERNATIVES, Sampling
from ecoalign.models.hf._prefix import Kept, PrefixStore, common
from ecoalign.models.hf._writing import Writer

GATHER = 0.005
"""Seconds that the first call waits for others to be run with."""

SHORTEST = 32
"""Tokens: what a prefix must have to be worth keeping, or reading before a batch that shares it."""


@dataclass(slots=True)
class Job:
    """One call."""

    request: ChatRequest
    future: Future[Completion]
    deadline: float | None
    begun: float


class Engine:
    """A loaded model. See `HFModel` for the arguments and the errors.

    Attributes:
        users: how many models hold it.
        kind: the type of the model and its name without folders, for the table of families.
        described: its kind, size, device and numbers, in words.
    """

    def __init__(
        self, name: str, device: str | None, dtype: str | None, max_batch: int, prefix_bytes: int
    ) -> None:
        self.users = 0
        self._name = name
        checkpoint = Checkpoint.read(name)
        self._model = checkpoint.model(device, dtype)
        self.encoder = checkpoint.encoder
        self._ends = checkpoint.ends
        self._pad = min(self._ends, default=0)
        self._max_batch = max_batch
        self._device = self._model.device
        self.kind = f"{checkpoint.config.model_type} {Path(name).name}"
        text = checkpoint.config.get_text_config(decoder=True)
        self._longest: int = getattr(text, "max_position_embeddings", 1 << 30)
        accepts = inspect.signature(self._model.forward).parameters
        self._cache_name = "cache" if "cache" in accepts else "past_key_values"
        self._store = PrefixStore(prefix_bytes if _can_reuse(self._model) else 0)
        self.reuses = bool(prefix_bytes) and _can_reuse(self._model)
        size = self._model.num_parameters()
        self.described = (
            f"{type(self._model).__name__}, {size / 1e6:,.0f} M parameters, {self._device}, "
            f"{str(self._model.dtype).removeprefix('torch.')}"
        )
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"hf:{name}", daemon=True)
        self._thread.start()

    def abilities(self) -> dict[str, Any]:
        """What a profile says of it, as far as it can be told from its files."""
        return {
            "schema_mode": "json_schema" if self.encoder.grammars.there else "prompt",
            "logprobs": MAX_ALTERNATIVES,
            "system": self.encoder.system,
            "prefix_cache": self.reuses,
            "bytes_per_token": self.encoder.bytes_per_token(),
        }

    def submit(self, request: ChatRequest, limit: float | None) -> Future[Completion]:
        """Have `request` answered within `limit` seconds; cancel the future to give up."""
        future: Future[Completion] = Future()
        now = time.monotonic()
        self._queue.put(Job(request, future, None if limit is None else now + limit, now))
        return future

    def close(self) -> None:
        """End the thread after the calls that wait, and let go of the weights."""
        self._queue.put(None)
        self._thread.join()
        self._store.clear()
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    # -- the thread

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            jobs, ending = [job], False
            until = time.monotonic() + GATHER
            while len(jobs) < self._max_batch:
                try:
                    more = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if more is None:
                    ending = True
                    break
                jobs.append(more)
            try:
                self._answer(jobs)
            except Exception as error:  # of ours: the thread has to live on
                for job in jobs:
                    _fail(job, self._failure(error))
            if ending:
                return

    def _answer(self, jobs: Sequence[Job]) -> None:
        rows: list[tuple[Job, Writer]] = []
        for job in jobs:
            try:
                rows.append((job, self._writer(job)))
            except Exception as error:
                _fail(job, self._failure(error))
        rows = [row for row in rows if not _over(row[1])]
        if self.reuses and len(rows) > 1:
            self._read_common([writer for _, writer in rows])
        # Llama 3.2 Vision reads another number of images beside its own as something to attend to.
        groups: dict[int, list[tuple[Job, Writer]]] = {}
        for row in rows:
            images = len(row[1].prompt.images)
            groups.setdefault(min(images, 1) if self.reuses else images, []).append(row)
        for group in groups.values():
            self._together(group)

    def _together(self, rows: Sequence[tuple[Job, Writer]]) -> None:
        """Run a batch; where the memory is too small, each call by itself and nothing kept."""
        try:
            self._write([writer for _, writer in rows])
        except Exception as error:
            short = out_of_memory(error) and (len(rows) > 1 or len(self._store) > 0)
            if not short:
                for job, _ in rows:
                    _fail(job, self._failure(error))
                return
        else:
            short = False
        if short:  # outside the handler, whose error holds the tensors
            self._store.clear()
            for job, _ in rows:
                if not job.future.done():
                    self._answer([job])

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, InputError | ModelError):
            return error
        if out_of_memory(error):
            return memory_error(self._name, "this call does not fit")
        said = " ".join(str(error).split())[:200]
        return ModelError(
            f"{self.encoder.name} failed: {type(error).__name__}: {said}", fault="server"
        )

    def _writer(self, job: Job) -> Writer:
        sampling = Sampling.of(job.request)
        prompt = self.encoder.prompt(job.request)
        room = self._longest - len(prompt.ids)
        if room < 1:
            raise InputError(
                f"{self.encoder.name} reads at most {self._longest} tokens and this prompt has "
                f"{len(prompt.ids)}: ask with fewer or smaller images, or a shorter text"
            )
        matcher = self.encoder.grammars.matcher(sampling.schema) if sampling.schema else None
        return Writer(
            prompt,
            sampling,
            min(job.request.max_tokens, room),
            self._ends,
            self.encoder,
            matcher,
            job.future,
            job.begun,
            job.deadline,
        )

    # -- prefixes

    def _read_common(self, rows: Sequence[Writer]) -> None:
        """Read what the rows of a batch share, and no earlier call had, once for all of them."""
        first = rows[0].prompt
        own = np.asarray(first.identity, dtype=np.int64)
        others = (np.asarray(row.prompt.identity, dtype=np.int64) for row in rows[1:])
        shared = _between(first.spans, min(common(own, other) for other in others))
        known = min(self._store.longest(row.prompt.identity)[0] for row in rows)
        if shared - known < SHORTEST:
            return
        part = Writer(
            first,
            Sampling(0.0, 1.0, 0, (), 0, False, None),
            1,
            self._ends,
            self.encoder,
            None,
            Future(),
            time.monotonic(),
            None,
        )
        try:
            self._write([part], length=shared)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._store.clear()

    def _found(self, row: Writer, length: int) -> tuple[int, Kept | None]:
        """How much of a prompt is known, at least one token less than all of it."""
        prompt = row.prompt
        if not self.reuses or prompt.spans is None:
            return 0, None
        known, kept = self._store.longest(prompt.identity)
        known = _between(prompt.spans, min(known, length - 1))
        return (known, kept) if known >= SHORTEST else (0, None)

    def _keep(self, cache: Any, rows: Sequence[Writer], places: Sequence[layout.Place]) -> None:
        """Keep the key-values of the prompts that were just read.

        Args:
            cache: of the batch.
            rows: its rows.
            places: where they are in it.
        """
        for at, (row, place) in enumerate(zip(rows, places, strict=True)):
            length = place[1] - place[0] + place[3] - place[2]
            if row.prompt.spans is not None and length - row.reused >= SHORTEST:
                self._store.add(row.prompt.identity[:length], layout.take_row(cache, at, place))

    # -- the model

    def _write(self, rows: Sequence[Writer], length: int | None = None) -> None:
        """Write the answers of `rows` together.

        Args:
            rows: all with images or all without; as many each, where nothing is kept.
            length: tokens of each prompt to read; None for all.
        """
        lengths = [len(row.prompt.ids) if length is None else length for row in rows]
        known = [self._found(row, own) for row, own in zip(rows, lengths, strict=True)]
        pixels = [
            self._pixels(row, found[0], own)
            for row, found, own in zip(rows, known, lengths, strict=True)
        ]
        for place, (row, part) in enumerate(zip(rows, pixels, strict=True)):
            if part is None:  # its images cannot be told apart: read it whole
                known[place], pixels[place] = (0, None), row.prompt.pixels
            row.reused = known[place][0]
        past = max(reused for reused, _ in known)
        rest = max(own - reused for own, (reused, _) in zip(lengths, known, strict=True))
        places = [
            (past - reused, past, past + rest - (own - reused), past + rest)
            for own, (reused, _) in zip(lengths, known, strict=True)
        ]
        inputs: dict[str, Any] = {
            "input_ids": layout.tokens([row.prompt.ids for row in rows], places, self._pad),
            "attention_mask": layout.tokens([[1] * own for own in lengths], places, 0),
            **layout.pixels([part or {} for part in pixels], self._model.dtype),
        }
        cache = None
        if self.reuses:
            cache = inputs[self._cache_name] = DynamicCache(config=self._model.config)
            layout.put_known(cache, known, places)
            inputs["position_ids"] = layout.positions(
                [self._positions(row) for row in rows], places
            )
        else:
            inputs |= layout.aligned([row.prompt.aligned for row in rows], past + rest)
        picker = _Picker(rows)
        self._model.generate(
            **{
                name: value.to(self._device) if isinstance(value, torch.Tensor) else value
                for name, value in inputs.items()
            },
            generation_config=GenerationConfig(
                max_new_tokens=max(row.cap for row in rows), do_sample=False, pad_token_id=self._pad
            ),
            logits_processor=LogitsProcessorList([picker]),
            stopping_criteria=StoppingCriteriaList([picker.over]),
        )
        if cache is not None:
            self._keep(cache, rows, places)

    def _positions(self, row: Writer) -> Any:
        """As the model counts when it reads a prompt alone: in some models the tokens of an image
        have a row and a column."""
        ids = torch.tensor([row.prompt.ids])
        mask = {"attention_mask": torch.ones_like(ids)}
        given = {**row.prompt.pixels, **row.prompt.aligned, **mask}
        return self._model._prepare_position_ids_for_generation(ids, given)

    def _pixels(self, row: Writer, reused: int, length: int) -> dict[str, Any] | None:
        """The tensors of the images among the tokens that are not known yet; None if there is no
        telling."""
        prompt = row.prompt
        if prompt.spans is None:
            return prompt.pixels
        wanted = [reused <= begin < length for begin, _ in prompt.spans]
        if all(wanted):
            return prompt.pixels
        if not any(wanted):
            return {}
        images = [image for image, want in zip(prompt.images, wanted, strict=True) if want]
        tokens = sum(1 for token in prompt.identity[reused:length] if token < 0)
        return self.encoder.pixels(images, tokens)


class _Picker:
    """Chooses the next token of every row; `generate` is left with nothing to choose."""

    def __init__(self, rows: Sequence[Writer]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        chosen = torch.full_like(scores, -torch.inf)
        for place, row in enumerate(self._rows):
            chosen[place, 0 if _over(row) else row.next(scores[place])] = 0.0
            _over(row)
        return chosen

    def over(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Which rows have ended, as a stopping criterion says it."""
        return torch.tensor([row.done for row in self._rows], device=input_ids.device)


def _can_reuse(model: Any) -> bool:
    """Whether the key-values of a prefix are the same whatever follows it, and can be cut anywhere.

    Three rules leave a model out: a layer that keeps anything but the keys and values of all its
    tokens (a sliding window, a recurrent state); a text half that reads images by cross-attention
    (Llama 3.2 Vision); and attention within a block in both directions (Gemma 3, PaliGemma), told
    by the token types that its forward pass takes.
    """
    config = model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=model.config).layers
    return (
        not model.config.is_encoder_decoder
        and not getattr(config, "cross_attention_layers", None)
        and "token_type_ids" not in inspect.signature(model.forward).parameters
        and all(type(layer) is DynamicLayer for layer in layers)
    )


def _between(spans: Sequence[tuple[int, int]] | None, length: int) -> int:
    """`length`, or less where it would fall into an image; 0 where none knows where they are."""
    if spans is None:
        return 0
    return next((begin for begin, end in spans if begin < length < end), length)


def _over(row: Writer) -> bool:
    """Whether an answer has ended, which is handed over at once: others may take longer."""
    if row.done or row.expired():
        row.deliver()
    return row.done


def _fail(job: Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
