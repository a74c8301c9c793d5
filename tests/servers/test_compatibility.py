"""What EcoAlign's client gets from each server; and the page says what the tests find."""

from __future__ import annotations

from pathlib import Path

import compatibility
import pytest
import server_features
from real_servers import RealServer


@pytest.mark.parametrize("feature", list(server_features.FEATURES))
@pytest.mark.parametrize(
    "name", [name for name in server_features.SERVERS if name not in server_features.REAL]
)
async def test_the_embedded_model_and_fakes(tmp_path: Path, name: str, feature: str) -> None:
    with server_features.fake(name)(tmp_path) as subject:
        found = await server_features.found(subject, feature)
    assert found == compatibility.read_table("servers")[feature][name]


@pytest.mark.parametrize("feature", list(server_features.FEATURES))
async def test_llama(llama: RealServer, feature: str) -> None:
    found = await server_features.found(server_features.subject_of(llama), feature)
    assert found == compatibility.read_table("servers")[feature]["llama.cpp"]


@pytest.mark.parametrize("feature", list(server_features.FEATURES))
async def test_transformers(transformers: RealServer, feature: str) -> None:
    found = await server_features.found(server_features.subject_of(transformers), feature)
    assert found == compatibility.read_table("servers")[feature]["transformers serve"]


def test_the_page_has_every_server_and_feature() -> None:
    table = compatibility.read_table("servers")
    assert list(table) == list(server_features.FEATURES)
    assert {tuple(cells) for cells in table.values()} == {server_features.SERVERS}
    assert compatibility.UNKNOWN not in {cell for row in table.values() for cell in row.values()}
