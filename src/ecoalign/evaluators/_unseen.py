"""Judges that see no images are told what they show by the caption, the root of the path."""

from __future__ import annotations

from dataclasses import replace

from ecoalign.errors import VerdictError
from ecoalign.graph import ROOT
from ecoalign.prompts.requests import ScoreRequest

_ADVICE = "name an evaluator that sees them, or have them described first, as EcoAlign's scan does"


def require_caption(name: str, request: ScoreRequest) -> None:
    """Fail where nothing tells an evaluator that sees no images what they show.

    Raises:
        VerdictError: the path has no root, or one without a text.
    """
    if not _caption(request):
        raise VerdictError(
            f"evaluator {name} cannot see the images, and no caption describes them: {_ADVICE}",
            advice=_ADVICE,
        )


def described(request: ScoreRequest) -> ScoreRequest:
    """The request without its images, with what they show before the question. Where that is not
    known it says so, to bound the call."""
    shown = f"[Images: {_caption(request) or 'not described'}]"
    return replace(
        request,
        question=f"{shown}\n\n{request.question}",
        path=tuple(thought for thought in request.path if thought.id != ROOT),
        views=(),
        crop=None,
        region=None,
    )


def _caption(request: ScoreRequest) -> str:
    root = request.path[0] if request.path and request.path[0].id == ROOT else None
    return "" if root is None else root.text.strip()
