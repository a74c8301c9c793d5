"""The upstream's key, kept out of answers that are passed on as they came."""

from __future__ import annotations

__all__ = ["Hiding"]

_SHOWN = b"[key]"
# A shorter one is no secret, and its letters may well stand in an answer.
_SHORTEST = 8


class Hiding:
    """Takes a secret out of bytes, whole or in pieces that may end anywhere.

    Args:
        secret: under eight bytes it is left alone.
    """

    def __init__(self, secret: str) -> None:
        coded = secret.encode()
        self._secret = coded if len(coded) >= _SHORTEST else b""
        self._held = b""

    def whole(self, data: bytes) -> bytes:
        """`data` without the secret."""
        return data.replace(self._secret, _SHOWN) if self._secret else data

    def feed(self, piece: bytes) -> bytes:
        """What can be shown so far; what may be the start of the secret waits for the rest."""
        data = self.whole(self._held + piece)
        cut = len(data) - self._begun(data)
        self._held = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """What was waiting when there are no more pieces."""
        rest, self._held = self._held, b""
        return rest

    def _begun(self, data: bytes) -> int:
        """How many of the last bytes are the first of the secret, but not all of it."""
        most = min(len(self._secret) - 1, len(data))
        if most < 1 or self._secret[:1] not in data[-most:]:
            return 0
        return next((n for n in range(most, 0, -1) if data.endswith(self._secret[:n])), 0)
