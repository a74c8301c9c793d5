"""Reading settings, in order of precedence, and explaining them.

    keyword  >  environment (ECOALIGN_*)  >  TOML file  >  preset  >  default

The files are ./ecoalign.toml and then ecoalign.toml in the user's configuration folder, or one
file that is named and no other. Keys of services are not settings: they stay in the environment
of the official client; nothing here reads, holds or prints one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, PrivateAttr, ValidationError

from ecoalign.budget import Budget, PriceBook
from ecoalign.errors import InputError
from ecoalign.models import (
    PROVIDERS,
    ChatModel,
    Profile,
    check_judge,
    open_model,
    profile_of,
    provider_of,
)
from ecoalign.settings._endpoints import Reach, one_host_a_key
from ecoalign.settings._fields import PRESETS, PROFILED, Fields, default_budget
from ecoalign.settings._sources import (
    CONFIG,
    complaint,
    from_environment,
    from_files,
    range_of,
    shown,
    unknown_name,
)

PRESET = "preset"

Role = Literal["model", "evaluator", "judge"]
"""What a model is for: it answers, it scores thoughts, or it judges answers in a benchmark."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as `ecoalign doctor` prints it.

    Attributes:
        name: as in the TOML file; the environment variable is ECOALIGN_ and the name in capitals.
        value: what is in force, as text.
        range: what it may be.
        origin: "default", "preset NAME", a file's path, "environment VARIABLE", "keyword"
            or "command line".
        description: what it does, with its unit.
    """

    name: str
    value: str
    range: str
    origin: str
    description: str


def preset_named(name: object, origin: str) -> Mapping[str, object]:
    """The values of a preset that is named in `origin`.

    Raises:
        SettingsError: there is no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name(PRESET, str(name), PRESETS, origin)
    return PRESETS[name]


class Settings(Fields):
    """All settings, validated and frozen. `Settings()` are the defaults, files unread.

    Raises:
        SettingsError: a name is unknown, or a value does not fit; all of them are named, with
            where they came from and what would fit.
    """

    _preset: str = PrivateAttr("default")
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: object) -> None:
        self._fill(values, dict.fromkeys(values, "keyword"), "default")

    def _fill(self, values: Mapping[str, object], origins: Mapping[str, str], preset: str) -> None:
        for name in values:
            if name not in Fields.model_fields:
                raise unknown_name("setting", name, Fields.model_fields, origins[name])
        model = str(values.get("model", "embedded")).strip()
        try:
            BaseModel.__init__(self, **{"budget": default_budget(model), **values})
        except ValidationError as error:
            # Without the cause: it would show every input.
            raise complaint(error, origins, Fields.model_fields) from None
        self._preset = preset
        self._origins = {name: origins[name] for name in values}

    def budget_for(self, model: ChatModel, images: int = 1) -> Budget:
        """The budget of a run of `model`: the one that was set, else the default that fits it."""
        if self.origin("budget") != "default":
            return self.budget
        return default_budget(model.name, images, self.tuned(profile_of(model)))

    @classmethod
    def load(
        cls,
        preset: str | None = None,
        file: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        origin: str = "keyword",
        **keywords: object,
    ) -> Self:
        """Read settings from everywhere.

        Args:
            preset: one of `PRESETS`; else ECOALIGN_PRESET, else `preset` in a file.
            file: read this TOML file and no other; else ECOALIGN_CONFIG.
            env: the environment; that of the process by default.
            origin: what to call the place that `keywords` come from.
            **keywords: single settings. None counts as not given, so that the options of a
                command line can be passed on as they are.

        Raises:
            SettingsError: see the class; also for an unknown preset and a file that cannot be
                read.
        """
        names = {*Fields.model_fields, PRESET}
        surroundings = from_environment(os.environ if env is None else env, names)
        path = file or surroundings.values.get(CONFIG)
        layers = from_files(Path(str(path)) if path else None, names)
        layers.append(surroundings)

        values: dict[str, object] = {}
        origins: dict[str, str] = {}
        for layer in layers:
            values |= {name: value for name, value in layer.values.items() if name != CONFIG}
            origins |= layer.origins
        chosen = preset or values.pop(PRESET, None) or "default"
        values.pop(PRESET, None)
        base = preset_named(chosen, origin if preset else origins.get(PRESET, origin))
        given = {name: value for name, value in keywords.items() if value is not None}
        settings = cls.__new__(cls)
        settings._fill(
            {**base, **values, **given},
            dict.fromkeys(base, f"preset {chosen}") | origins | dict.fromkeys(given, origin),
            str(chosen),
        )
        return settings

    @property
    def preset(self) -> str:
        """The name of the preset that these settings started from."""
        return self._preset

    def origin(self, name: str) -> str:
        """Where the value of a setting comes from; see `SettingRow`.

        Raises:
            SettingsError: there is no such setting.
        """
        if name not in Fields.model_fields:
            raise unknown_name("setting", name, Fields.model_fields, "origin()")
        return self._origins.get(name, "default")

    def replace(self, **changes: object) -> Self:
        """The same settings with some of them changed, validated again.

        Raises:
            SettingsError: see the class.
        """
        kept = {name: getattr(self, name) for name in self._origins}
        settings = type(self).__new__(type(self))
        settings._fill(
            kept | changes, self._origins | dict.fromkeys(changes, "keyword"), self._preset
        )
        return settings

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """As `replace`: pydantic's own would not validate. Everything is frozen, so never deep."""
        return self.replace(**(update or {}))

    def explain(self) -> list[SettingRow]:
        """A row for every setting, in the order of their definition."""
        return [
            SettingRow(
                name,
                shown(getattr(self, name)),
                range_of(name, field),
                self.origin(name),
                " ".join((field.description or "").split()),
            )
            for name, field in Fields.model_fields.items()
        ]

    def to_json(self) -> dict[str, object]:
        """All values as plain JSON, with the preset's name; `from_json` takes it back."""
        return {PRESET: self._preset, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, values: Mapping[str, object], origin: str = "trace") -> Self:
        """Settings that were saved by `to_json`. They count as given by `origin`.

        Raises:
            SettingsError: see the class; also for an unknown preset.
        """
        chosen = values.get(PRESET, "default")
        preset_named(chosen, origin)
        rest = {name: value for name, value in values.items() if name != PRESET}
        settings = cls.__new__(cls)
        settings._fill(rest, dict.fromkeys(rest, origin), str(chosen))
        return settings

    def tuned(self, profile: Profile, role: Role = "model") -> Profile:
        """What is known of a model, with what the settings say in its place.

        Args:
            profile: what is known.
            role: "evaluator" for one that only scores; how verdicts are asked for is said for
                whoever scores, everything else for the model that answers.
        """
        if role == "evaluator":
            form = {} if self.scoring is None else {"scoring": self.scoring}
            return profile.with_values(form, "the settings")
        values = {name: getattr(self, name) for name in PROFILED}
        values["family"] = self.image_family
        given = {name: value for name, value in values.items() if value is not None}
        if profile.dialect == "compact":
            # The embedded model was trained on one way of asking.
            given = {name: given[name] for name in ("view_pixels", "crop_pixels") if name in given}
        if self.extra_body:
            given["extra_body"] = {**profile.extra_body, **self.extra_body}
        return profile.with_values(given, "the settings")

    def open_model(
        self,
        spec: str | ChatModel | None = None,
        *,
        role: Role = "model",
        base_url: str | None = None,
    ) -> ChatModel:
        """A model by its name, as these settings reach it; that of the settings if None.

        Args:
            spec: an endpoint's name, "provider:name", a name on the server at the base URL, or a
                model.
            role: what it is for.
            base_url: in place of the settings'.

        Raises:
            InputError: there is no such model, or it cannot be reached this way, or its key would
                go to two servers.
            SettingsError: the embedded model is to judge another one's answers.
        """
        spec = self.model if spec is None else spec
        if not isinstance(spec, str):
            return open_model(spec)
        way = self.reach(spec, role, base_url)
        others = [("the model", self.reach(self.model))] if role != "model" else []
        if role != "evaluator" and self.evaluator != "self":
            others.append(("the evaluator", self.reach(self.evaluator, "evaluator")))
            check_judge(others[-1][1].spec, way.spec)
        if role == "judge":
            check_judge(way.spec, "an answering model")
        one_host_a_key(way, others)

        def tune(known: Profile) -> Profile:
            if way.values is not None:
                known = known.with_values(way.values, f"the endpoint {way.endpoint}")
            return known if role == "judge" else self.tuned(known, role)

        return open_model(
            way.spec,
            way.base_url,
            way.timeout,
            key_env=way.key_env,
            proxy=way.proxy,
            profile=way.profile,
            tune=tune,
        )

    def reach(self, spec: str, role: Role = "model", base_url: str | None = None) -> Reach:
        """What a name means, and the way to it; see `open_model`."""
        spec = spec.strip()
        if spec in self.endpoints:
            return Reach.of(spec, self.endpoints[spec], self.timeout)
        self._check_spelling(spec)
        profile = self.profile if role == "model" else "auto"
        address = base_url or self.base_url
        if spec == "embedded" or spec.startswith("hf:"):
            return Reach(spec, None, self.timeout)
        provider = provider_of(spec)[0]
        if address is None or base_url is not None or role == "model":
            return Reach(spec, address, self.timeout, profile=profile)
        # The setting is the address of the model's server: of another provider's it is not.
        home = provider_of(self.model)[0]
        home = home if home is not None and home.local else PROVIDERS["openai"]
        if provider is None and home.name != "openai":
            spec, provider = f"{home.name}:{spec}", home
        here = provider is None or provider.name == home.name
        return Reach(spec, address if here else None, self.timeout, profile=profile)

    def _check_spelling(self, spec: str) -> None:
        """A server may take any name, and answer as what it has: a slip in the name of an endpoint
        would make the model its own judge."""
        near = difflib.get_close_matches(spec, self.endpoints, n=1, cutoff=0.8)
        if near and sorted(filter(str.isdigit, near[0])) == sorted(filter(str.isdigit, spec)):
            raise InputError(
                f"there is no endpoint {spec!r}: did you mean {near[0]!r}? For a model of that "
                f'name at the base URL write "openai:{spec}"'
            )

    def price_book(self) -> PriceBook:
        """The prices in force: one's own before the bundled ones."""
        elsewhere = {
            way.spec if provider_of(way.spec)[0] else f"openai:{way.spec}": way.base_url
            for way in (Reach.of(name, one, 1) for name, one in self.endpoints.items())
            if way.base_url is not None
        }
        return PriceBook(self.prices, base_url=self.base_url, elsewhere=elsewhere)

    def __eq__(self, other: object) -> bool:
        """Equal values, wherever they come from."""
        if not isinstance(other, Settings):
            return NotImplemented
        return self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())
