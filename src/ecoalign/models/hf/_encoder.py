"""From a request to the tokens and pixels of a prompt, and back from tokens to text. No weights."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest, ImagePart, Message, TextPart, Usage
from ecoalign.models.hf._params import Sampling
from ecoalign.models.hf._schemas import Grammars

EDGE = 2
"""What an image can add in tokens beyond what it takes by itself, where the text beside it is
joined to the marks around it in another way."""

ALIGNED = ("attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""What a processor gives for each token of the prompt, along dimension 1."""

_ENGLISH = (
    "The photograph shows a narrow street after rain. On the left a shop window is lit, and a "
    "sign above the door says that it opens at nine. Two people with umbrellas wait at the "
    "crossing; the nearer one holds a bag of oranges. A tram, number 14, comes round the corner."
)

Conversation = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of one image of one size."""

    tokens: int
    """What it adds to the prompt, the marks around it included."""
    image: int
    """Its own tokens, those that the model's vision half fills."""


@dataclass(slots=True)
class Prompt:
    """One prompt as a model reads it."""

    ids: list[int]
    aligned: dict[str, Any]
    """Tensors with an entry for each token, [1, tokens, ...]."""
    pixels: dict[str, Any]
    """Tensors of the images."""
    usage: Usage
    """Its tokens; the completion is 0."""
    spans: list[tuple[int, int]] | None = None
    """Where each image is, from its first token to after its last; None if that is unknown."""
    identity: list[int] = field(default_factory=list)
    """`ids`, with the tokens of an image named by the image: two prompts are the same up to where
    these are."""
    images: tuple[ImagePart, ...] = ()


class Encoder:
    """The processor of a vision-language model, or the tokenizer of one that reads text only.

    Args:
        processor: of `transformers`; None where the model reads no images.
        tokenizer: the processor's, or the model's own.
        config: the model's.
        grammars: what holds answers to a schema.
        name: "hf:..." for messages.
    """

    def __init__(
        self, processor: Any, tokenizer: Any, config: Any, grammars: Grammars, name: str
    ) -> None:
        self.processor = processor
        self.grammars = grammars
        self.tokenizer = tokenizer
        self.name = name
        self.template = getattr(processor, "chat_template", None) or tokenizer.chat_template
        if not self.template:
            raise InputError(
                f"{name} has no chat template; name an instruction-tuned model, or put a "
                "chat_template.jinja in its folder"
            )
        if isinstance(self.template, Mapping):
            self.template = self.template.get("default") or next(iter(self.template.values()))
        self._config = config
        token = getattr(config, "image_token_id", None)
        self._image_token = int(
            getattr(config, "image_token_index", -1) if token is None else token
        )
        named = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video"))
        self._marks = tuple(mark for mark in named if mark)
        # A tokenizer is used by one thread at a time. Those that count do not wait for images that
        # are being prepared: they have one of their own.
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._counter = copy.deepcopy(tokenizer)
        self._piece = lru_cache(maxsize=1 << 16)(self._piece_of)
        self._reference = self.tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._image_cost = lru_cache(maxsize=4096)(self._measured)
        self._count = lru_cache(maxsize=1024)(self._counted)
        self.system = self._system()
        self._overhead = self._begin()

    # -- counting

    def bound(self, request: ChatRequest) -> Usage:
        """Upper bound of the prompt of `request`; exact where it has no images.

        Raises:
            InputError: an image for a model that reads none.
        """
        messages, options = self._asked(request)
        return self._count(messages, json.dumps(options, sort_keys=True))

    def _counted(self, messages: tuple[Message, ...], options: str) -> Usage:
        images = [part for message in messages for part in message.images]
        self._check(images)
        ids = self._tokens_without_pixels(self._conversation(messages), json.loads(options))
        if not images:
            return Usage(prompt=len(ids) + self._overhead)
        several = len(images) > 1
        costs = [self._image_cost(image.width, image.height, several) for image in images]
        prompt = len(ids) + self._overhead + sum(cost.tokens + EDGE for cost in costs)
        return Usage(prompt=prompt, image=sum(cost.image for cost in costs))

    def _begin(self) -> int:
        """What a processor adds to the prompt beside the template, as the mark of its begin."""
        if self.processor is None:
            return 0
        said = self._conversation((Message("user", (TextPart("a"),)),))
        return len(self._processed(said, {})["input_ids"][0]) - len(
            self._tokens_without_pixels(said, {})
        )

    def _measured(self, width: int, height: int, several: bool) -> Cost:
        """What an image of this size takes: some models give one image more than each of several.

        The processor itself counts, on a blank image.
        """
        from PIL import Image

        images = [Image.new("RGB", (width, height))] * (2 if several else 1)
        marks = [{"type": "image", "image": image} for image in images]
        said: Conversation = [{"role": "user", "content": [*marks, {"type": "text", "text": "a"}]}]
        processed = self._processed(said, {})
        ids = processed["input_ids"][0].tolist()
        more = len(ids) - len(self._tokens_without_pixels(said, {})) - self._overhead
        seen = self._seen(ids, processed)
        crossed = seen - ids.count(self._image_token)
        return Cost(-(-(more + crossed) // len(images)), -(-seen // len(images)))

    def _seen(self, ids: list[int], processed: Mapping[str, Any]) -> int:
        """The image tokens of a prompt.

        Where images are read by cross-attention (Llama 3.2 Vision), the prompt holds one mark for
        each, and what the model reads of them are the embeddings of their tiles: these are counted
        beside the marks.
        """
        marks = ids.count(self._image_token)
        tiles = processed.get("aspect_ratio_mask")
        if tiles is None:
            return marks
        vision = self._config.vision_config
        patches: int = (vision.image_size // vision.patch_size) ** 2 + 1
        return marks + int(tiles.sum()) * patches

    def image_tokens(self, width: int, height: int) -> int:
        """What one image of this size, in pixels, takes of a prompt; 0 if the model sees none."""
        if self.processor is None:
            return 0
        text = {"type": "text", "text": "a"}
        bare, seen = (
            len(self._tokens_without_pixels([{"role": "user", "content": parts}], {}))
            for parts in ([text], [{"type": "image"}, text])
        )
        return seen - bare + self._image_cost(width, height, False).tokens

    def bytes_per_token(self) -> float:
        """UTF-8 bytes of English a token, on a paragraph of it."""
        ids = self._counter.encode(_ENGLISH, add_special_tokens=False)
        return round(len(_ENGLISH.encode()) / len(ids), 2)

    # -- encoding

    def prompt(self, request: ChatRequest) -> Prompt:
        """The prompt of `request`, ready for the model.

        Raises:
            InputError: an image for a model that reads none, or bytes that are no image.
        """
        messages, options = self._asked(request)
        images = tuple(part for message in messages for part in message.images)
        self._check(images)
        processed = self._processed(self._conversation(messages, _decoded(images)), options)
        ids: list[int] = processed["input_ids"][0].tolist()
        aligned = {name: processed[name] for name in ALIGNED if name in processed}
        pixels = _pixels_of(processed)
        seen = self._seen(ids, processed)
        usage = Usage(prompt=len(ids) + seen - ids.count(self._image_token), image=seen)
        prompt = Prompt(ids, aligned, pixels, usage, images=images)
        self._place(prompt)
        return prompt

    def pixels(self, images: Sequence[ImagePart], tokens: int) -> dict[str, Any] | None:
        """The tensors of some of a prompt's images; None if they do not take `tokens` by
        themselves, as where one image gets more than each of several."""
        marks = [{"type": "image", "image": image} for image in _decoded(images)]
        processed = self._processed([{"role": "user", "content": marks}], {})
        if processed["input_ids"][0].tolist().count(self._image_token) != tokens:
            return None
        return _pixels_of(processed)

    def _place(self, prompt: Prompt) -> None:
        """Find where each image is, by the tokens that one of its size takes."""
        prompt.identity = list(prompt.ids)
        places = [i for i, token in enumerate(prompt.ids) if token == self._image_token]
        several = len(prompt.images) > 1
        counts = [self._image_cost(i.width, i.height, several).image for i in prompt.images]
        if sum(counts) != len(places):
            return
        prompt.spans, begin = [], 0
        for image, count in zip(prompt.images, counts, strict=True):
            own = places[begin : begin + count]
            begin += count
            digest = hashlib.sha256(image.data + count.to_bytes(4, "big")).digest()
            named = -1 - int.from_bytes(digest[:7], "big")
            for place in own:
                prompt.identity[place] = named
            prompt.spans.append((own[0], own[-1] + 1))

    def _asked(self, request: ChatRequest) -> tuple[tuple[Message, ...], dict[str, Any]]:
        """The messages as the template takes them, and what else is handed to it."""
        options = request.extra.get("chat_template_kwargs", {})
        if not isinstance(options, dict):
            raise InputError("chat_template_kwargs is no table of names and values")
        messages = list(request.messages)
        schema = Sampling.of(request).schema
        if schema is not None and not self.grammars.take(schema):
            text = json.dumps(schema, ensure_ascii=False)
            last = messages[-1]
            note = TextPart(f"Answer with one JSON object that fits this JSON schema: {text}")
            messages[-1] = Message(last.role, (*last.parts, note))
        if self.system == "user" and messages[0].role == "system" and len(messages) > 1:
            first = Message("user", messages[0].parts)
            messages[0] = first
        joined: list[Message] = []
        for message in messages:
            if joined and joined[-1].role == message.role:
                joined[-1] = Message(message.role, (*joined[-1].parts, *message.parts))
            else:
                joined.append(message)
        return tuple(joined), options

    def _check(self, images: Sequence[ImagePart]) -> None:
        if images and self.processor is None:
            raise InputError(
                f"{self.name} reads text only: ask without an image, or name a model that sees"
            )

    def _conversation(
        self, messages: Sequence[Message], images: Sequence[Any] = ()
    ) -> Conversation:
        """As the template reads it. Text parts that follow each other are lines of one text."""
        pending = iter(images)
        said: Conversation = []
        for message in messages:
            parts: list[dict[str, Any]] = []
            for part in message.parts:
                if isinstance(part, ImagePart):
                    parts.append({"type": "image", "image": next(pending, None)})
                elif parts and parts[-1]["type"] == "text":
                    parts[-1]["text"] += "\n" + self._plain(part.text)
                else:
                    parts.append({"type": "text", "text": self._plain(part.text)})
            if self.processor is None:
                said.append({"role": message.role, "content": self._plain(message.text)})
            else:
                said.append({"role": message.role, "content": parts})
        return said

    def _plain(self, text: str) -> str:
        """`text` without halves of characters, which no tokenizer takes, and without the mark of an
        image, which some processors count as one wherever it stands: it gets a blank inside."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        for mark in self._marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _tokens_without_pixels(self, said: Conversation, options: Mapping[str, Any]) -> list[int]:
        """The prompt's tokens with a mark in the place of each image."""
        with self._counting, self._template_errors():
            ids: list[int] = self._counter.apply_chat_template(
                said,
                chat_template=self.template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                # What a user writes is text, also where it spells a mark of the template.
                sanitize_control_tokens=True,
                **options,
            )
        return ids

    def _processed(self, said: Conversation, options: Mapping[str, Any]) -> Mapping[str, Any]:
        reader, how = self.tokenizer, {}
        if self.processor is not None:
            # Named again: SmolVLM's processor adds to what it is given here, or else warns.
            reader, how = self.processor, {"processor_kwargs": {"return_tensors": "pt"}}
        with self._lock, self._template_errors():
            made: Mapping[str, Any] = reader.apply_chat_template(
                said,
                chat_template=self.template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                sanitize_control_tokens=True,
                **how,
                **options,
            )
        return made

    @contextmanager
    def _template_errors(self) -> Iterator[None]:
        from jinja2 import TemplateError

        try:
            yield
        except TemplateError as error:
            raise InputError(
                f"the chat template of {self.name} does not take this conversation: {error}"
            ) from None

    def _system(self) -> str:
        """Whether the template takes a system message, beside an image where there are any."""
        from jinja2 import TemplateError

        seen: list[dict[str, Any]] = [] if self.processor is None else [{"type": "image"}]
        parts = [*seen, {"type": "text", "text": "hello"}]
        said: Conversation = [
            {"role": "system", "content": [{"type": "text", "text": "sesame"}]},
            {"role": "user", "content": parts},
        ]
        if self.processor is None:
            said = [{"role": "system", "content": "sesame"}, {"role": "user", "content": "hello"}]
        try:
            text = self.tokenizer.apply_chat_template(
                said, chat_template=self.template, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError):
            return "user"
        return "system" if "sesame" in text else "user"

    # -- back to text

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Marks are spelled out: some of them begin or end hidden reasoning,
        which is told by them alone."""
        with self._lock:
            text: str = self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return text

    def piece(self, token: int) -> str:
        """What `token` spells inside a text; a mark by its name."""
        return self._piece(token)

    def _piece_of(self, token: int) -> str:
        with self._lock:
            alone: str = self.tokenizer.decode(self._reference)
            both: str = self.tokenizer.decode([*self._reference, token])
        return both.removeprefix(alone)


def _pixels_of(processed: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in processed.items() if n != "input_ids" and n not in ALIGNED}


def _decoded(images: Sequence[ImagePart]) -> list[Any]:
    from PIL import Image

    opened = []
    for image in images:
        try:
            with Image.open(io.BytesIO(image.data)) as file:
                opened.append(file.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files
            raise InputError(
                f"the image of {len(image.data)} bytes ({image.media_type}) cannot be read: {error}"
            ) from error
    return opened
