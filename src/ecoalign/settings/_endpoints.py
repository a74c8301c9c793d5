"""Endpoints: where a model is asked, with which key, by which way; and that no key goes astray."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    field_validator,
)

from ecoalign.errors import InputError
from ecoalign.models import (
    OPENAI_URL,
    PROVIDERS,
    Profile,
    base_url_of_environment,
    provider_of,
    read_base_url,
    read_proxy,
)

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]

_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_SECRETS = ("key", "api_key", "token", "password", "secret")


def read_url(value: object) -> str | None:
    """An address of a server; None for none.

    Raises:
        ValueError: it is not one, or it holds a user or a password.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("it must be a string")
    try:
        parts = read_base_url(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    if "@" in parts.netloc:
        raise ValueError(
            "an address holds no user or password: settings are printed and saved; give the key in "
            "the environment variable OPENAI_API_KEY"
        )
    return value.strip()


Url = Annotated[str | None, PlainValidator(read_url)]


class NamedEndpoint(BaseModel):
    """A model on a server, under a name of one's own: a table `[endpoints.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Name
    """ "provider:name", or the name on the server at `base_url`."""
    base_url: Url = None
    """The address; None for the provider's own."""
    key_env: str | None = None
    """The variable of its key; "" for none. By default the provider's at the provider's own
    address, and none elsewhere."""
    proxy: str | None = None
    """The proxy on the way; "" for none, None for that of the environment."""
    timeout: float | None = Field(None, gt=0, le=3600)
    """Seconds that one call may take; None for the setting `timeout`."""
    profile: Name | Mapping[str, Any] = "auto"
    """As the setting `profile`; or a table of values, which stand before what is known."""

    @field_validator("key_env")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value and not _VARIABLE.fullmatch(value):
            # Not shown: it may well be the key itself.
            raise ValueError("it is the name of an environment variable, such as GUARD_API_KEY")
        return value

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, value: str | None) -> str | None:
        if value:
            if "@" in value:
                raise ValueError("a proxy with a password is named in HTTPS_PROXY, not in a file")
            try:
                read_proxy(value, "it")
            except InputError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, value: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
        if not isinstance(value, str):
            try:
                Profile().with_values(value, "the table")
            except InputError as error:
                raise ValueError(str(error)) from None
        return value


def _read(value: object) -> dict[str, NamedEndpoint]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(value, Mapping):
        raise ValueError('give a table, [endpoints.guard] model = "openai:llama-guard3"')
    return {name: _one(str(name), table) for name, table in value.items()}


def _one(name: str, table: object) -> NamedEndpoint:
    if not _NAMED.fullmatch(name) or name in {"self", "embedded", "auto", "none", *PROVIDERS}:
        raise ValueError(
            f"{name!r} cannot be the name of an endpoint: letters, digits, '-', '_' and '.', and "
            "no provider's name"
        )
    if isinstance(table, NamedEndpoint):
        return table
    if isinstance(table, Mapping) and (secret := next((n for n in _SECRETS if n in table), None)):
        raise ValueError(
            f"endpoints.{name}.{secret}: keys are not settings; set an environment variable and "
            "give its name as key_env"
        )
    try:
        return NamedEndpoint.model_validate(table)
    except ValidationError as error:
        wrong = "; ".join(
            f"endpoints.{name}{''.join(f'.{part}' for part in each['loc'][:1])}: {_said(each)}"
            for each in error.errors(include_url=False)
        )
        raise ValueError(wrong) from None


def _said(wrong: Mapping[str, Any]) -> str:
    """What is wrong with one field, in words."""
    if wrong["type"] != "extra_forbidden":
        return str(wrong["msg"]).removeprefix("Value error, ")
    return f"there is no such field; there are: {', '.join(NamedEndpoint.model_fields)}"


def _show(endpoints: Mapping[str, NamedEndpoint]) -> dict[str, object]:
    return {name: one.model_dump(exclude_defaults=True) for name, one in endpoints.items()}


Endpoints = Annotated[Mapping[str, NamedEndpoint], PlainValidator(_read), PlainSerializer(_show)]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a model's name means under settings, and the way there.

    Attributes:
        spec: "provider:name", or a name on the server at `base_url`.
        base_url: the address; None for the provider's own.
        timeout: seconds that one call may take; None for the default.
        key_env: the variable of the key; None for the provider's own.
        proxy: see `NamedEndpoint`.
        profile: where what is known of it comes from.
        values: of its profile, which stand before what is known.
        endpoint: the endpoint's name; "" where none is named.
    """

    spec: str
    base_url: str | None
    timeout: float | None
    key_env: str | None = None
    proxy: str | None = None
    profile: str = "auto"
    values: Mapping[str, Any] | None = None
    endpoint: str = ""

    @classmethod
    def of(cls, name: str, endpoint: NamedEndpoint, timeout: float | None) -> Reach:
        """The way to a named endpoint."""
        table = None if isinstance(endpoint.profile, str) else endpoint.profile
        key = endpoint.key_env
        if key is None and endpoint.base_url is not None and not _is_home(endpoint):
            key = ""
        return cls(
            endpoint.model,
            endpoint.base_url,
            endpoint.timeout or timeout,
            key,
            endpoint.proxy,
            endpoint.profile if isinstance(endpoint.profile, str) else "auto",
            table,
            name,
        )

    @property
    def address(self) -> str:
        """The address that is asked; "" where none is, as for the embedded model."""
        provider = provider_of(self.spec)[0]
        if self.base_url is not None:
            return self.base_url
        if provider is None:
            return ""
        if provider.name == "openai":
            return base_url_of_environment() or OPENAI_URL
        return provider.base_url

    @property
    def key(self) -> str:
        """The variable whose key is sent there; "" for none."""
        provider = provider_of(self.spec)[0] or PROVIDERS["openai"]
        variable = provider.key_env if self.key_env is None else self.key_env
        there = variable and os.environ.get(variable, "").strip()
        return variable if there and self.address else ""


def _is_home(endpoint: NamedEndpoint) -> bool:
    """Whether an endpoint's address is its provider's own."""
    provider = provider_of(endpoint.model)[0]
    return provider is not None and _origin(endpoint.base_url or "") == _origin(provider.base_url)


def _origin(address: str) -> tuple[str, str, int | None]:
    try:
        parts = read_base_url(address)
    except InputError:
        return ("", address, None)  # it is refused where it is used
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return (parts.scheme, (parts.hostname or "").lower(), port)


def one_host_a_key(asked: Reach, others: Iterable[tuple[str, Reach]]) -> None:
    """Make sure that the key for `asked` goes to no other server of these settings.

    Args:
        asked: the way that is about to be used.
        others: what else the settings name, with what it is: "the model", "the evaluator".

    Raises:
        InputError: the same variable would be sent to two servers, and no endpoint names it for
            one of them.
    """
    if not asked.key:
        return
    for what, other in others:
        if other.key != asked.key or _origin(other.address) == _origin(asked.address):
            continue
        if any(one.endpoint and one.key_env for one in (asked, other)):
            continue  # said expressly
        raise InputError(
            f"{asked.key} would be sent to two servers: to {_shown(other.address)} for {what} "
            f"({other.spec}) and to {_shown(asked.address)} for {asked.spec}. Name an endpoint for "
            f'one of them: [endpoints.NAME] model = "{asked.spec}", base_url = ..., and key_env = '
            'the variable of its own key ("" for none); then use NAME in place of the model\'s name'
        )


def _shown(address: str) -> str:
    scheme, host, port = _origin(address)
    return f"{scheme}://{host}:{port}"
