"""The drawing of a run: a page of its own, the parts of it for other pages, and the server of pages
for this machine only.

The names are loaded when they are first used: a drawing needs no server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.view._follow import follow
    from ecoalign.view._formats import TreeLine, graphviz, mermaid, state, tree
    from ecoalign.view._loopback import Lines, LoopbackServer, Refused, body_of, listen
    from ecoalign.view._page import Assets, assets, is_own_page, loopback_script, page, policy
    from ecoalign.view._pictures import data_uri, pictures

_HOMES = {
    "Assets": "_page",
    "Lines": "_loopback",
    "LoopbackServer": "_loopback",
    "Refused": "_loopback",
    "TreeLine": "_formats",
    "assets": "_page",
    "body_of": "_loopback",
    "data_uri": "_pictures",
    "follow": "_follow",
    "graphviz": "_formats",
    "is_own_page": "_page",
    "listen": "_loopback",
    "loopback_script": "_page",
    "mermaid": "_formats",
    "page": "_page",
    "pictures": "_pictures",
    "policy": "_page",
    "state": "_formats",
    "tree": "_formats",
}

__all__ = [
    "Assets",
    "Lines",
    "LoopbackServer",
    "Refused",
    "TreeLine",
    "assets",
    "body_of",
    "data_uri",
    "follow",
    "graphviz",
    "is_own_page",
    "listen",
    "loopback_script",
    "mermaid",
    "page",
    "pictures",
    "policy",
    "state",
    "tree",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ecoalign.view' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ecoalign.view.{_HOMES[name]}"), name)
