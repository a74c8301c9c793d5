"""Which tests are slow: `pytest -m "not slow"` leaves them out and tries fewer random examples."""

from __future__ import annotations

import signal
from types import ModuleType

import pytest
from hypothesis import settings

PROCESS_MODULES = frozenset(
    {"bench_process", "command", "serving", "subprocess"}
    | {"asgi_running", "hostile", "image_host", "listening", "proxy_server", "raw_upstream"}
    | {"compatibility", "playing", "real_servers", "server_features"}
)
"""A test file that imports one of them starts the command line, a server or a script, or talks to
a server over a socket."""


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a shell without job control; what is started here would inherit it,
        # and the tests of interrupts would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "slow: starts a process or a server (the command line, a database), or is marked for the "
        "time it takes",
    )
    settings.register_profile("fast", max_examples=30, deadline=None)
    settings.register_profile("all", deadline=None)
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = pytest.mark.slow
    for item in items:
        if isinstance(item, pytest.Function) and (
            _starts_processes(item.module) or "postgresql" in _parameters(item)
        ):
            item.add_marker(slow)


def _parameters(item: pytest.Function) -> list[object]:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


def _starts_processes(module: ModuleType) -> bool:
    return any(
        getattr(value, "__module__", getattr(value, "__name__", None)) in PROCESS_MODULES
        for value in vars(module).values()
        if callable(value) or isinstance(value, ModuleType)
    )
