"""What a request may ask for as its model: the names of the model, and of ways to answer with it.

Clients that cannot send the object `ecoalign` choose a method or a preset by the model's name:
"ecoalign/paper", "ecoalign/best-of-4", "best-of-4", "base". A name of the model itself comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._state import AppState, Client
from ecoalign.methods import DIRECT, METHODS, is_method
from ecoalign.settings import PRESETS

_ECOALIGN = "ecoalign"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a name says of how to answer.

    Attributes:
        method: None where it says nothing.
        preset: likewise.
    """

    method: str | None = None
    preset: str | None = None


def chosen_by(state: AppState, client: Client, name: str) -> Chosen:
    """What the model's name in a request chooses.

    Raises:
        ApiError: 404 where no model or method is called so, 403 where the request may not choose
            it.
    """
    if name in state.config.served:
        return Chosen()
    rest = name.removeprefix(f"{_ECOALIGN}/")
    if rest != name and rest in PRESETS:
        found = Chosen(_ECOALIGN, rest)
    elif is_method(rest):
        method, _, preset = rest.partition(":")
        found = Chosen(method, preset or None)
    else:
        raise unknown_model(name)
    if not _allowed(state, client, found):
        shows = (
            ", which shows text that was not scored"
            if found.method in DIRECT
            else " by the model's name"
        )
        what = f"the {'preset' if found.preset else 'method'} {rest}{shows}"
        whose = (
            "this key may not choose" if client.key else "a request without a key may not choose"
        )
        hint = "" if client.key else "; `ecoalign serve --may-choose` says what it may"
        message = f"{whose} {what}{hint}"
        raise ApiError(403, message, "permission_error", param="model", code="not_allowed")
    return found


def listed(state: AppState, client: Client) -> tuple[str, ...]:
    """The names that a client may ask for: those of the model, then presets and methods."""
    served = state.config.served
    methods = [name for name in METHODS if ":" not in name and name != _ECOALIGN]
    ways = {f"{_ECOALIGN}/{preset}": Chosen(_ECOALIGN, preset) for preset in PRESETS}
    ways |= {name: Chosen(name) for name in methods}
    allowed = (name for name, found in ways.items() if _allowed(state, client, found))
    return tuple(dict.fromkeys((*served, *allowed)))


def unknown_model(name: str) -> ApiError:
    """The refusal of a name that nothing is called by."""
    return ApiError(
        404,
        f"unknown model {name[:80]!r}; GET /v1/models lists those available",
        param="model",
        code="model_not_found",
    )


def _allowed(state: AppState, client: Client, found: Chosen) -> bool:
    usual = (client.policy.method or state.config.method).partition(":")[0]
    # What the request would get anyway is no choice.
    method = found.method == usual or client.may_choose("method", found.method)
    return method and (found.preset is None or client.may_choose("preset", found.preset))
