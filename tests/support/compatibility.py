"""The tables of docs/compatibility.md, made by running everything in them.

    python tests/support/compatibility.py clients|servers

runs what is installed and writes its cells into the page; other cells stay as they are.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import client_features
import real_servers
import server_features
from command import ROOT
from hostile import HostileServer
from serving import serving

PAGE = ROOT / "docs" / "compatibility.md"

Table = dict[str, dict[str, str]]
"""By row and column."""

UNKNOWN = "not run"
FIRST = {"clients": "client", "servers": "feature"}


def marks(name: str) -> tuple[str, str]:
    """The comments around a table of the page."""
    return f"<!-- {name}: made by tests/support/compatibility.py -->", f"<!-- end of {name} -->"


def read_table(name: str, page: str | None = None) -> Table:
    """A table as the page has it."""
    start, end = marks(name)
    text = (PAGE.read_text() if page is None else page).partition(start)[2].partition(end)[0]
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in text.split("\n") if line
    ]
    if not rows:
        return {}
    head, _, *body = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def written(name: str, table: Mapping[str, Mapping[str, str]], page: str) -> str:
    """The page with a table in place of the one that it has."""
    start, end = marks(name)
    columns = list(next(iter(table.values())))
    head = " | ".join([FIRST[name], *columns])
    lines = [f"| {head} |", f"|{' --- |' * (len(columns) + 1)}"]
    for row, cells in table.items():
        lines.append(f"| {' | '.join([row, *(cells[column] for column in columns)])} |")
    made = "\n".join([start, *lines, end])
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: made, page, flags=re.S)


def client_cell(client: str, feature: str, base: str) -> str:
    """What a client gets through the gateway at `base`."""
    check = client_features.CLIENTS[client][1].get(feature)
    if check is None:
        return "-"
    check(base)
    return "yes"


def clients(before: Table) -> Table:
    """The table of clients."""
    table: Table = {}
    with (
        HostileServer(client_features.upstream) as upstream,
        serving(
            Path(tempfile.mkdtemp()), "--model", "gpt-4o", "--base-url", upstream.url
        ) as gateway,
    ):
        for client, (module, _) in client_features.CLIENTS.items():
            had = before.get(client, {})
            for feature in client_features.FEATURES:
                cell = had.get(feature, UNKNOWN)
                if find_spec(module) is not None:
                    cell = client_cell(client, feature, gateway.v1)
                table.setdefault(client, {})[feature] = cell
    return table


def servers(before: Table) -> Table:
    """The table of servers."""
    table: Table = {feature: {} for feature in server_features.FEATURES}
    starts = {
        "llama.cpp": ("llama.cpp", real_servers.llama),
        "transformers serve": ("transformers", real_servers.transformers),
    }
    for name in server_features.SERVERS:
        folder = Path(tempfile.mkdtemp())
        if name in starts:
            package, start = starts[name]
            if real_servers.missing(package):
                for feature, row in table.items():
                    row[name] = before.get(feature, {}).get(name, UNKNOWN)
                continue
            with start(folder) as server:
                for feature, row in table.items():
                    subject = server_features.subject_of(server)
                    row[name] = asyncio.run(server_features.found(subject, feature))
            continue
        for feature, row in table.items():
            with server_features.fake(name)(folder) as subject:
                row[name] = asyncio.run(server_features.found(subject, feature))
    return table


def main(name: str) -> None:
    """Run a table and write it into the page."""
    made = {"clients": clients, "servers": servers}[name](read_table(name))
    PAGE.write_text(written(name, made, PAGE.read_text()))


if __name__ == "__main__":
    main(sys.argv[1])
