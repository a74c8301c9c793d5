"""Models that know one domain only, and say so before they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ecoalign.errors import SettingsError
from ecoalign.models._base import ChatModel

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class SupportsDomain(Protocol):
    """A model that can tell beforehand what it cannot answer."""

    def check_domain(self, question: str, images: Sequence[Image.Image]) -> None:
        """Do nothing if `question` about `images` is in the model's domain.

        Raises:
            OutOfDomainError: it is not.
        """
        ...


def check_domain(model: ChatModel, question: str, images: Sequence[Image.Image]) -> None:
    """Do nothing if `model` may be asked `question` about `images`; most may be asked anything.

    Raises:
        OutOfDomainError: it knows one domain only, and this is not in it.
    """
    if isinstance(model, SupportsDomain):
        model.check_domain(question, images)


def check_judge(judge: str, judged: str) -> None:
    """Do nothing if the model named `judge` may judge what the model named `judged` writes.

    Raises:
        SettingsError: it is the embedded model, which has no idea of what another one is asked.
    """
    if judge == "embedded" != judged:
        raise SettingsError(
            f"the embedded model cannot judge what {judged} writes: it knows its own small world "
            "and nothing else, so its verdicts would mean nothing. Name a real model as the judge; "
            "as the evaluator, self will do, too"
        )
