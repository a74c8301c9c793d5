"""Records: dataclasses that are frozen for a type checker, and made as fast as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool = False, **options: Any) -> Any:
        """`dataclasses.dataclass`, but that `frozen` is left to the type checker, which refuses an
        assignment wherever it is written; equal records still hash alike.

        At run time a frozen one sets each field through `object.__setattr__`, which takes three
        times as long as to set it, and a search makes more than fifty records a thought.
        """
        return dataclasses.dataclass(unsafe_hash=frozen, **options)
