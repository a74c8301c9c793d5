"""A cache of responses: what a model answered before is answered again, and its cost still counts.

One SQLite file (write-ahead log) that several processes may share. Only requests whose answer is
meant to be the same every time are looked up or kept: greedy ones, and those with a seed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.errors import InputError
from ecoalign.models import (
    ChatModel,
    ChatRequest,
    Completion,
    KnownTokens,
    Profile,
    Segment,
    SupportsSegments,
    TokenLogprob,
    Usage,
    check_domain,
    profile_of,
    request_key,
)

if TYPE_CHECKING:
    from PIL import Image

_TABLE = """
create table if not exists responses (
    scope text not null, model text not null, key text not null,
    body text not null, at real not null,
    primary key (scope, model, key)
) without rowid
"""


def is_deterministic(request: ChatRequest) -> bool:
    """Whether the same answer is to be expected every time: temperature 0, or a seed."""
    return request.temperature == 0 or request.seed is not None


def scope_of(model: str, base_url: str | None = None) -> str:
    """What distinguishes models of one name: the server, or the weights of the embedded one."""
    if model != "embedded":
        return base_url or ""
    from importlib.resources import files

    digest = hashlib.sha256()
    folder = files("ecoalign.models.embedded")
    for name in ("decoder.onnx", "stem.onnx"):
        digest.update(folder.joinpath(name).read_bytes())
    return digest.hexdigest()[:16]


class ResponseCache:
    """The file. Close it when done.

    Args:
        path: made with its folder if it is not there.
        scope: see `scope_of`; answers of another scope are not seen.

    Raises:
        InputError: the file cannot be opened or is no such cache.
    """

    def __init__(self, path: Path, scope: str = "") -> None:
        self.path = path
        self.scope = scope
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: a response is kept at once, whatever happens to the run.
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"the response cache {self.path} cannot be used: {error}")

    def get(self, model: str, request: ChatRequest) -> Completion | None:
        """The kept answer to this very request, with the usage that it had; None if there is none.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            found = self._db.execute(
                "select body from responses where scope = ? and model = ? and key = ?",
                (self.scope, model, request_key(request)),
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return None if found is None else _completion(found[0])

    def put(self, model: str, request: ChatRequest, completion: Completion) -> None:
        """Keep an answer; the first one to a request stays.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            self._db.execute(
                "insert or ignore into responses values (?, ?, ?, ?, ?)",
                (self.scope, model, request_key(request), _body(completion), time.time()),
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from responses").fetchone()[0])

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()


class CachedModel:
    """A model with a cache in front of it; a `ChatModel` of the same name.

    Make one for each sample: it counts what it answered from the cache.

    Args:
        model: asked where the cache has no answer.
        cache: the cache.

    Attributes:
        hits: calls answered from the cache.
        known: what it was told of token counts, which is kept for no other sample; None where the
            model has nothing to learn.
    """

    def __init__(self, model: ChatModel, cache: ResponseCache) -> None:
        self._model = model
        self._cache = cache
        self.hits = 0
        # Its own: what one sample learns must not depend on which ones were run before it.
        learns = isinstance(model, SupportsSegments) and model.known is not None
        self.known = KnownTokens() if learns else None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def dialect(self) -> str:
        """The model's dialect."""
        return self._model.dialect

    @property
    def profile(self) -> Profile:
        """What is known of the model."""
        return profile_of(self._model)

    def bound(self, request: ChatRequest) -> Usage:
        """The model's bound: a cached answer is charged as it was."""
        return self._model.bound(request)

    def check_domain(self, question: str, images: Sequence[Image.Image]) -> None:
        """The model's."""
        check_domain(self._model, question, images)

    def segments(self, request: ChatRequest) -> list[Segment]:
        """The model's."""
        return self._model.segments(request) if isinstance(self._model, SupportsSegments) else []

    async def complete(self, request: ChatRequest) -> Completion:
        """The kept answer, or the model's, which is kept if the request is deterministic.

        Raises:
            ModelError: as the model; failures are not kept.
            InputError: the cache cannot be used.
        """
        if not is_deterministic(request):
            return await self._model.complete(request)
        known = self._cache.get(self.name, request)
        if known is not None:
            self.hits += 1
            return known
        completion = await self._model.complete(request)
        self._cache.put(self.name, request, completion)
        return completion

    async def aclose(self) -> None:
        """Nothing: the model belongs to whoever opened it."""


def _body(completion: Completion) -> str:
    usage, logprobs = completion.usage, completion.logprobs
    body = {
        "text": completion.text,
        "usage": None if usage is None else astuple(usage),
        "finish_reason": completion.finish_reason,
        "logprobs": None if logprobs is None else [astuple(one) for one in logprobs],
        "model": completion.model,
        "seconds": completion.seconds,
    }
    return json.dumps(body, separators=(",", ":"))


def _completion(body: str) -> Completion:
    saved = json.loads(body)
    usage, logprobs = saved.pop("usage"), saved.pop("logprobs")
    return Completion(
        usage=None if usage is None else Usage(*usage),
        logprobs=None if logprobs is None else tuple(TokenLogprob(*one) for one in logprobs),
        **saved,
    )
