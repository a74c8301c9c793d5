"""A model behind a real socket that counts what it is asked, question by question."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hostile import HostileServer, Received, Reply
from served import well_behaved

_NUMBER = re.compile(r"number (\d+)")


@dataclass
class Counted:
    """Answers as `well_behaved` does, and keeps count. Use `serving` for a server of it.

    Attributes:
        before: called with the number of every request, from 1, before it is answered.
        asked: requests by the number in the question.
        used: tokens reported in all.
    """

    before: Callable[[int], None] = lambda number: None
    asked: Counter[int] = field(default_factory=Counter)
    used: int = 0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Received) -> Reply:
        found = _NUMBER.search(request.body.decode())
        with self._lock:
            self.requests += 1
            number = self.requests
            if found is not None:
                self.asked[int(found[1])] += 1
        self.before(number)
        reply = well_behaved(request)
        assert isinstance(reply.body, dict)
        with self._lock:
            self.used += reply.body["usage"]["total_tokens"]
        return reply

    def serving(self) -> HostileServer:
        """A server of it: a context manager."""
        return HostileServer(self)
