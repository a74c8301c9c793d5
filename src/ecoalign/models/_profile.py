"""What a model on its server can do: measured by `ecoalign probe`, published, set, or assumed.

    settings  >  the file of a probe  >  the shipped table of families  >  the defaults below

The defaults are right for a server of which nothing is known: what it lacks is found out by
negotiation, and bounds err on the high side.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ecoalign.errors import InputError
from ecoalign.models._tokens import image_family

BoxConvention = Literal[
    "xyxy-1000", "yxyx-1000", "xyxy-1", "xyxy-1024", "xyxy-pixels", "xywh-pixels"
]
"""How a model writes a region: the order of its four numbers, and what they count."""


class Profile(BaseModel):
    """What one model on one server can do, and how it is best spoken to."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    # -- what calls cost

    family: str = "unknown"
    """Whose image tokens are reserved; see `ecoalign.models._tokens.FAMILIES`."""
    image_tokens: Mapping[str, int] = Field(default_factory=dict)
    """Tokens of an image by its size, "WIDTHxHEIGHT" in pixels, as measured."""
    bytes_per_token: float = Field(default=1.0, ge=1, le=16)
    """UTF-8 bytes of English a token, as measured; it bounds nothing, estimates use it."""
    tokenize: str = ""
    """The path of the server's own token counter, from its origin ("/tokenize"); "" for none."""

    # -- what the server takes

    schema_mode: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How a JSON schema is given: enforced, as JSON of any shape, or in the prompt alone."""
    logprobs: int = Field(default=20, ge=0, le=20)
    """The most alternatives per token that it gives; 0 for none."""
    seed: bool = True
    """Whether it takes a seed."""
    system: Literal["system", "user"] = "system"
    """Where the system message goes: some templates have no such role, or none beside images."""
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """Further parameters of every request to it, in its own words."""
    detail: Literal["auto", "low", "high"] | None = None
    """The hint that goes with every image; None leaves it to the size of the image."""
    caps_honoured: bool = True
    """Whether it stops at the cap on its output."""
    usage: bool = True
    """Whether it reports what a call used."""
    prefix_cache: bool = False
    """Whether it reads a prefix that it has seen before from a cache."""

    # -- how the model writes and sees

    thinking: int = Field(default=0, ge=0, le=100_000)
    """Tokens of hidden reasoning for which every cap on the output leaves room."""
    reasoning_effort: str | None = None
    """Sent with every request, where the server knows it."""
    boxes: BoxConvention = "xyxy-1000"
    """How it writes a region of an image."""
    smallest_image: int = Field(default=1, ge=1, le=4096)
    """The least side of an image that it takes, in pixels."""
    view_pixels: int = Field(default=512, ge=32, le=4096)
    """The longest side of a low-resolution view that suits it, in pixels."""
    crop_pixels: int = Field(default=512, ge=32, le=4096)
    """The longest side of a region that suits it, in pixels."""
    dialect: Literal["full", "small", "compact"] = "full"
    """How it is prompted: as a model that keeps to a form, as one that does not, or as the
    embedded one."""
    scoring: Literal["json", "word", "samples"] = "json"
    """How its verdicts are asked for: a strict JSON object, one word read by its log-probabilities,
    or five samples."""
    safe_threshold: float = Field(default=0.5, gt=0, lt=1)
    """The probability of "safe" that counts as s = 0 where `scoring` is "word"."""

    sources: Mapping[str, str] = Field(default_factory=dict)
    """Where each field that was found comes from."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that differ between profiles which act differently."""
        acting = self.model_dump(mode="json", exclude={"sources"})
        text = json.dumps(acting, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def with_values(self, values: Mapping[str, Any], source: str) -> Self:
        """The profile with some fields replaced, and where they come from noted.

        Raises:
            InputError: there is no such field, or a value does not fit; the message names all.
        """
        if not values:
            return self
        sources = {**self.sources, **dict.fromkeys(values, source), **values.get("sources", {})}
        sources.pop("sources", None)
        kept = self.model_dump(exclude={"sources"})
        try:
            return type(self)(**{**kept, **values, "sources": sources})
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
            raise InputError(f"the profile from {source} cannot be used: {wrong}") from None


@cache
def _shipped() -> Mapping[str, Mapping[str, Any]]:
    text = (files("ecoalign.models") / "profiles.toml").read_text("utf-8")
    return tomllib.loads(text)


def shipped_profile(model: str) -> Profile:
    """The profile of a model's family, by its name; the first pattern that matches counts.

    Args:
        model: its name on its server, without a provider.
    """
    lowered = model.lower()
    profile = Profile(family=image_family(model))
    for name, table in _shipped().items():
        if re.search(str(table["pattern"]), lowered):
            values = {field: value for field, value in table.items() if field != "pattern"}
            return profile.with_values(values, f"the family {name}")
    return profile


def profile_file(folder: Path, base_url: str, model: str) -> Path:
    """Where the profile of a model at an address is kept: one TOML file each."""
    digest = hashlib.sha256(f"{base_url.rstrip('/')}\n{model}".encode()).hexdigest()[:12]
    plain = re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-.")[:60] or "model"
    return folder / f"{plain}-{digest}.toml"


def read_profile(path: Path, base: Profile) -> Profile:
    """`base` with what a probe has found out.

    Raises:
        InputError: the file cannot be read as a profile.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the profile {path} cannot be read: {error}") from None
    values.pop("about", None)
    return base.with_values(values, f"the probe in {path.name}")


def profile_of(model: object) -> Profile:
    """What is known of any chat model; the defaults, with its dialect, where it has no profile."""
    profile = getattr(model, "profile", None)
    if isinstance(profile, Profile):
        return profile
    dialect = getattr(model, "dialect", "full")
    return Profile().with_values({"dialect": dialect}, "the model") if dialect != "full" else _PLAIN


_PLAIN = Profile()
