"""One answer as it is written: which token comes next, when it ends, and what it says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
import torch

from ecoalign.errors import ModelError
from ecoalign.models._base import Completion, TokenLogprob, Usage
from ecoalign.models.hf._encoder import Encoder, Prompt
from ecoalign.models.hf._params import Sampling


class Writer:
    """The answer to one call.

    Args:
        prompt: what is answered.
        sampling: how.
        cap: tokens it may have, >= 1.
        ends: the tokens that end it.
        encoder: turns tokens to text.
        matcher: allows only what fits the schema; None for free text. Of `llguidance`.
        future: where the answer goes; cancelled when nobody waits for it.
        begun, deadline: by `time.monotonic`; None for no deadline.

    Attributes:
        reused: tokens of the prompt whose key-values were kept from earlier calls.
        done: whether it has ended, by itself, at its cap, at its deadline or by cancellation.
    """

    def __init__(
        self,
        prompt: Prompt,
        sampling: Sampling,
        cap: int,
        ends: frozenset[int],
        encoder: Encoder,
        matcher: Any,
        future: Future[Completion],
        begun: float,
        deadline: float | None,
    ) -> None:
        self.prompt = prompt
        self.reused = 0
        self.cap = cap
        self.done = False
        self.future = future
        self._sampling = sampling
        self._ends = ends
        self._encoder = encoder
        self._matcher = matcher
        self._begun = begun
        self._deadline = deadline
        self._late = False
        self._finish: Literal["stop", "length"] = "length"
        self._tokens: list[int] = []
        self._pieces: list[str] = []
        self._tables: list[tuple[float, Mapping[str, float]]] = []
        self._shown = 0  # tokens whose text is in the pieces
        self._from = 0  # where the text before them begins to matter
        self._count = 0
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed % (1 << 63))

    def expired(self) -> bool:
        """Whether there is no use in going on: nobody waits, or the time is up."""
        if self.future.cancelled():
            self.done = True
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.done = self._late = True
        return self.done

    def next(self, logits: Any) -> int:
        """The token that follows, from the model's raw logits, [vocabulary], in float32."""
        token = self._chosen(logits)
        self._count += 1
        if token in self._ends:
            self._end("stop")
            return token
        self._tokens.append(token)
        if self._sampling.alternatives or self._sampling.wanted:
            self._tables.append(self._table(logits, token))
        self._spell()
        if self._matcher is not None:
            self._matcher.consume_token(token)
            if self._matcher.is_stopped():
                self._end("stop")
        if not self.done and self._count >= self.cap:
            self._end("length")
        return token

    def _chosen(self, logits: Any) -> int:
        scores = logits
        if self._matcher is not None:
            allowed = np.unpackbits(
                np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little"
            )[: len(scores)].astype(bool)
            mask = torch.zeros(len(scores), dtype=torch.bool)
            mask[: len(allowed)] = torch.from_numpy(allowed)
            scores = scores.masked_fill(~mask.to(scores.device), -torch.inf)
        if self._sampling.temperature == 0:
            return int(scores.argmax())
        chances = torch.softmax(scores.double().cpu() / self._sampling.temperature, -1)
        if self._sampling.top_p < 1:
            ordered, order = chances.sort(descending=True)
            # The likeliest tokens that reach top_p together, the first one always.
            beyond = ordered.cumsum(-1) - ordered >= self._sampling.top_p
            chances[order[beyond]] = 0.0
        return int(torch.multinomial(chances, 1, generator=self._random))

    def _table(self, logits: Any, token: int) -> tuple[float, Mapping[str, float]]:
        logprobs = torch.log_softmax(logits, -1)
        best = torch.topk(logprobs, min(max(self._sampling.alternatives, 1), len(logprobs)))
        top: dict[str, float] = {}
        if self._sampling.alternatives:
            for value, other in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                top.setdefault(self._encoder.piece(other), min(0.0, value))
        return min(0.0, float(logprobs[token])), top

    def _spell(self, *, last: bool = False) -> None:
        """Add the text of the tokens that are not shown yet, unless a character is incomplete."""
        before = self._encoder.decoded(self._tokens[self._from : self._shown])
        text = self._encoder.decoded(self._tokens[self._from :])
        unshown = len(self._tokens) - self._shown
        if unshown == 0 or (text.endswith("\ufffd") and not last):
            return
        self._pieces += [""] * (unshown - 1) + [text[len(before) :]]
        self._from, self._shown = self._shown, len(self._tokens)
        for stop in self._sampling.stops:
            whole = "".join(self._pieces)
            place = whole.find(stop, max(0, len(whole) - len(self._pieces[-1]) - len(stop)))
            if place >= 0:
                self._cut(place)
                self.done, self._finish = True, "stop"
                return

    def _cut(self, length: int) -> None:
        """Keep the first `length` characters, and the tokens that spell them."""
        kept: list[str] = []
        for piece in self._pieces:
            if length <= 0:
                break
            kept.append(piece[:length])
            length -= len(piece)
        self._pieces = kept
        self._tables = self._tables[: len(kept)]

    def _end(self, finish: Literal["stop", "length"]) -> None:
        if not self.done:
            self.done, self._finish = True, finish
            self._spell(last=True)

    def deliver(self) -> None:
        """Hand the answer over, or why there is none; once."""
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return
        used, name = self.prompt.usage, self._encoder.name
        seconds = time.monotonic() - self._begun
        if self._late:
            said = f"{name} was cut off after {seconds:.1f} s, its time for this call, at token "
            spent = (
                Usage(used.prompt, self._count, used.image, self.reused) if self._count else None
            )
            raised = ModelError(
                f"{said}{self._count}", fault="timeout", billed=self._count > 0, usage=spent
            )
            self.future.set_exception(raised)
            return
        self.future.set_result(
            Completion(
                text="".join(self._pieces),
                usage=Usage(used.prompt, self._count, used.image, self.reused),
                finish_reason=self._finish,
                logprobs=self._logprobs() if self._sampling.alternatives else None,
                model=name,
                seconds=seconds,
                raw_logprobs=self._raw() if self._sampling.wanted else None,
            )
        )

    def _logprobs(self) -> tuple[TokenLogprob, ...]:
        rows = zip(self._pieces, self._tables, strict=True)
        return tuple(TokenLogprob(piece, value, top) for piece, (value, top) in rows)

    def _raw(self) -> dict[str, Any]:
        """As the chat completions API writes them."""

        def entry(token: str, logprob: float) -> dict[str, Any]:
            return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8"))}

        content = [
            {**entry(piece, value), "top_logprobs": [entry(*one) for one in top.items()]}
            for piece, (value, top) in zip(self._pieces, self._tables, strict=True)
        ]
        return {"content": content}
