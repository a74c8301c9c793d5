"""The model and the methods of answering, opened once for all requests."""

from __future__ import annotations

from collections.abc import Callable

from ecoalign.budget import Budget, Ledger, Reservation
from ecoalign.errors import SettingsError
from ecoalign.methods import Answerer, Method
from ecoalign.models import ChatModel, SamplingParams, checked
from ecoalign.models.openai import OpenAIModel
from ecoalign.settings import Settings

_ECOALIGN = "ecoalign"


class ChatService:
    """The model that answers, and the methods that use it.

    Args:
        settings: of the server.

    Raises:
        InputError: there is no such model, or it has no key.
    """

    def __init__(self, settings: Settings) -> None:
        self._answerer = Answerer(settings)
        self.settings = settings
        self.model: ChatModel = self._answerer.model
        self.prices = self._answerer.prices

    @property
    def upstream_name(self) -> str:
        """What the model is called on its own server."""
        return self.model.model if isinstance(self.model, OpenAIModel) else self.model.name

    def budget_for(self, images: int) -> Budget:
        """Of a request with so many images that does not choose, nor its key: as for `Aligner`."""
        return self.settings.budget_for(self.model, images)

    def method(self, name: str, preset: str | None) -> Method:
        """The method of this name ("ecoalign:paper" has its preset), under a preset.

        Raises:
            SettingsError: there is no such method or preset, or they do not go together.
        """
        kind, _, own = name.partition(":")
        if kind == _ECOALIGN:
            if own and preset and own != preset:
                raise SettingsError(f"the method {name!r} and the preset {preset!r} differ")
            chosen = own or preset
            name = f"{_ECOALIGN}:{chosen}" if chosen else _ECOALIGN
        # There are as many names as methods and presets, so what is kept does not grow for ever.
        return self._answerer.method(name)

    def check(self, sampling: SamplingParams) -> None:
        """Refuse what the model surely cannot honour.

        Raises:
            InputError: with the `param`.
        """
        checked(self.model, sampling)

    def ledger(
        self,
        budget: Budget,
        arrived: float,
        on_change: Callable[[Reservation], object] | None = None,
    ) -> Ledger:
        """An account for the run of a request that arrived then (`time.monotonic`).

        Args:
            on_change: see `Ledger`.
        """
        return self._answerer.ledger(budget, arrived, on_change)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._answerer.aclose()
