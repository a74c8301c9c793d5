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
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from ecoalign.errors import InputError
from ecoalign.models._tokens import image_family

if TYPE_CHECKING:
    from pydantic import TypeAdapter

BoxConvention = Literal[
    "xyxy-1000", "yxyx-1000", "xyxy-1", "xyxy-1024", "xyxy-pixels", "xywh-pixels"
]
"""How a model writes a region: the order of its four numbers, and what they count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one model on one server can do, and how it is best spoken to.

    Values are checked where they are read (`with_values`), not where they are written in code.
    """

    # -- what calls cost

    family: str = "unknown"
    """Whose image tokens are reserved; see `ecoalign.models._tokens.FAMILIES`."""
    image_tokens: Mapping[str, Annotated[int, Ge(1)]] = field(default_factory=dict)
    """Tokens of an image by its size, "WIDTHxHEIGHT" in pixels, as measured."""
    bytes_per_token: Annotated[float, Ge(1), Le(16)] = 1.0
    """UTF-8 bytes of English a token, as measured; it bounds nothing, estimates use it."""
    tokenize: str = ""
    """The path of the server's own token counter, from its origin ("/tokenize"); "" for none."""

    # -- what the server takes

    schema_mode: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How a JSON schema is given: enforced, as JSON of any shape, or in the prompt alone."""
    logprobs: Annotated[int, Ge(0), Le(20)] = 20
    """The most alternatives per token that it gives; 0 for none."""
    seed: bool = True
    """Whether it takes a seed."""
    system: Literal["system", "user"] = "system"
    """Where the system message goes: some templates have no such role, or none beside images."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of every request to it, in its own words."""
    images: bool = True
    """Whether images reach the model: some servers drop them and say nothing."""
    detail: Literal["auto", "low", "high"] | None = None
    """The hint that goes with every image; None leaves it to the size of the image."""
    caps_honoured: bool = True
    """Whether it stops at the cap on its output."""
    usage: bool = True
    """Whether it reports what a call used."""
    prefix_cache: bool = False
    """Whether it reads a prefix that it has seen before from a cache."""

    # -- how the model writes and sees

    thinking: Annotated[int, Ge(0), Le(100_000)] = 0
    """Tokens of hidden reasoning for which every cap on the output leaves room."""
    reasoning_effort: str | None = None
    """Sent with every request, where the server knows it."""
    boxes: BoxConvention = "xyxy-1000"
    """How it writes a region of an image."""
    smallest_image: Annotated[int, Ge(1), Le(4096)] = 28
    """The least side of an image that it takes, in pixels; some servers crash below one patch."""
    view_pixels: Annotated[int, Ge(32), Le(4096)] = 512
    """The longest side of a low-resolution view that suits it, in pixels."""
    crop_pixels: Annotated[int, Ge(32), Le(4096)] = 512
    """The longest side of a region that suits it, in pixels."""
    dialect: Literal["full", "small", "compact"] = "full"
    """How it is prompted: as a model that keeps to a form, as one that does not, or as the
    embedded one."""
    scoring: Literal["json", "word", "samples"] = "json"
    """How its verdicts are asked for: a strict JSON object, one word read by its log-probabilities,
    or five samples."""
    safe_threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    """The probability of "safe" that counts as s = 0 where `scoring` is "word"."""

    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each field that was found comes from."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that differ between profiles which act differently."""
        acting = {name: value for name, value in self.to_json().items() if name != "sources"}
        text = json.dumps(acting, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def with_values(self, values: Mapping[str, Any], source: str) -> Profile:
        """The profile with some fields replaced, and where they come from noted.

        Raises:
            InputError: there is no such field, or a value does not fit; the message names all.
        """
        if not values:
            return self
        sources = {**self.sources, **dict.fromkeys(values, source), **values.get("sources", {})}
        sources.pop("sources", None)
        return _read({**asdict(self), **values, "sources": sources}, source)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = "the trace") -> Profile:
        """The inverse of `to_json`.

        Raises:
            InputError: see `with_values`.
        """
        return _read(dict(values), source)

    def to_json(self) -> dict[str, Any]:
        """What is not as by default; `from_json` takes it back."""
        plain = Profile()
        return {
            name: value for name, value in asdict(self).items() if value != getattr(plain, name)
        }


def _read(values: dict[str, Any], source: str) -> Profile:
    from pydantic import ValidationError

    try:
        return _checker().validate_python(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {_said(each['type'], each['msg'])}"
            for each in error.errors()
        )
        raise InputError(f"the profile from {source} cannot be used: {wrong}") from None


def _said(kind: str, words: str) -> str:
    if kind != "unexpected_keyword_argument":
        return words
    names = ", ".join(one.name for one in fields(Profile) if one.name != "sources")
    return f"there is no such field; there are: {names}"


@cache
def _checker() -> TypeAdapter[Profile]:
    """Pydantic is loaded where a profile is read, and not with the models."""
    from pydantic import ConfigDict, TypeAdapter, with_config

    checked = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))(Profile)
    return TypeAdapter(checked)


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


_LOOPBACK = re.compile(r"^(https?://)(?:localhost|\[::1\])(?=[:/]|$)", re.I)


def profile_file(folder: Path, base_url: str, model: str) -> Path:
    """Where the profile of a model at an address is kept: one TOML file each."""
    # One server of one's own, whichever of its two names it is asked by.
    address = _LOOPBACK.sub(r"\g<1>127.0.0.1", base_url.rstrip("/"))
    digest = hashlib.sha256(f"{address}\n{model}".encode()).hexdigest()[:12]
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


def profiles_folder() -> Path:
    """Where probed profiles are kept: the folder `profiles` in the user's configuration folder."""
    from platformdirs import user_config_path

    return user_config_path("ecoalign", appauthor=False) / "profiles"


def known_profile(base_url: str, model: str, profile: str = "auto") -> Profile:
    """What is known of a model at an address before any setting.

    Args:
        base_url, model: the address, and the model's name there.
        profile: "auto" for its probe's file, if there is one, on top of its family's; "none" for
            the defaults, with the family whose image tokens are reserved; or a file of a profile.

    Raises:
        InputError: a file cannot be read as a profile.
    """
    if profile == "none":
        return Profile(family=image_family(model))
    base = shipped_profile(model)
    if profile != "auto":
        return read_profile(Path(profile).expanduser(), base)
    try:
        path = profile_file(profiles_folder(), base_url, model)
    except RuntimeError:  # an account without a home has no folder
        return base
    return read_profile(path, base) if path.is_file() else base


def profile_of(model: object) -> Profile:
    """What is known of any chat model; the defaults, with its dialect, where it has no profile."""
    profile = getattr(model, "profile", None)
    if isinstance(profile, Profile):
        return profile
    dialect = getattr(model, "dialect", "full")
    return Profile().with_values({"dialect": dialect}, "the model") if dialect != "full" else _PLAIN


_PLAIN = Profile()
