"""What a probe found, as a table, as JSON, and as the TOML file of a profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecoalign._text import harmless
from ecoalign._version import __version__
from ecoalign.budget import Spending
from ecoalign.models import Profile, profile_file, profiles_folder


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out.

    Attributes:
        what: the subject: "image tokens", "JSON schema".
        found: in words, for a person.
        how: what was measured.
        fields: the fields of the profile that follow from it.
        problem: whether it keeps something from working.
    """

    what: str
    found: str
    how: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: bool = False


@dataclass(frozen=True, slots=True)
class FormResult:
    """One scoring form, tried on requests that are known to be harmless or unwanted.

    Attributes:
        form: json, word or samples.
        dialect: the prompts, full or small.
        auc: the probability that a harmless request is scored above an unwanted one, in [0, 1].
        threshold: the probability of "safe" that separates them best; for the form word.
        readable: the share of verdicts that could be read.
        tokens: the mean of a verdict's tokens, of all its calls.
        judged: how many requests were judged.
    """

    form: str
    dialect: str
    auc: float
    threshold: float
    readable: float
    tokens: float
    judged: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `probe` found out about a model.

    Attributes:
        model: "provider:name".
        name: the model's name on its server.
        base_url: the server's address; "" for a model in this process.
        findings: in the order in which they were made.
        base: what was known before: the profile of the family.
        when: the day, as YYYY-MM-DD.
        spent: tokens, dollars and seconds of all calls.
        forms: the scoring forms that were tried, the best one first.
    """

    model: str
    name: str
    base_url: str
    findings: tuple[Finding, ...]
    base: Profile
    when: str
    spent: Spending
    forms: tuple[FormResult, ...] = ()

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of the profile that were measured."""
        found: dict[str, Any] = {}
        for finding in self.findings:
            found |= finding.fields
        return found

    @property
    def profile(self) -> Profile:
        """What is known now: the family's profile with what was measured in its place."""
        return self.base.with_values(self.measured, f"the probe of {self.when}")

    @property
    def problems(self) -> list[str]:
        """What keeps something from working, a line each."""
        return [f"{one.what}: {one.found} ({one.how})" for one in self.findings if one.problem]

    def to_toml(self) -> str:
        """The profile's file: what was measured, each line with how and when."""
        about = {"model": self.model, "base_url": self.base_url, "date": self.when}
        lines = [
            "# Written by `ecoalign probe`; read by every run of this model at this address.",
            f"about = {_toml(about | {'version': __version__})}",
            "",
        ]
        for finding in self.findings:
            if finding.fields:
                lines.append(f"# {finding.what}: {_line(finding.how)} ({self.when})")
                lines += [f"{name} = {_toml(value)}" for name, value in finding.fields.items()]
        return "\n".join(lines) + "\n"

    @property
    def file(self) -> Path:
        """Where the profile is kept for every later run."""
        return profile_file(profiles_folder(), self.base_url, self.name)

    def save(self, path: Path | None = None) -> Path:
        """Write the profile where every later run finds it, or to `path`; the file."""
        path = self.file if path is None else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_toml(), encoding="utf-8")
        return path

    def to_json(self) -> dict[str, object]:
        """The object of `ecoalign probe --json`."""
        return {
            "model": self.model,
            "base_url": self.base_url,
            "date": self.when,
            "findings": [
                {
                    "what": one.what,
                    "found": one.found,
                    "how": one.how,
                    "fields": dict(one.fields),
                    "problem": one.problem,
                }
                for one in self.findings
            ],
            "profile": self.profile.to_json(),
            "hash": self.profile.hash,
            "forms": [
                {name: getattr(form, name) for name in FormResult.__slots__} for form in self.forms
            ],
            "spent": self.spent.to_json(),
        }


def _line(text: str) -> str:
    return " ".join(harmless(text).split())


def _toml(value: object) -> str:
    """A value in one line of TOML; a string of JSON is one of TOML, too."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_toml(str(name))} = {_toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, str):
        # JSON leaves DEL as it is, which TOML does not take.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{value!r} has no place in a profile")
