"""Third-party clients through a real gateway; and the page says what the tests find."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import client_features
import compatibility
import pytest
from hostile import HostileServer
from serving import Served, serving

pytestmark = [
    pytest.mark.slow,
    # What other packages warn of is theirs.
    pytest.mark.filterwarnings("default"),
]

CELLS = [
    (client, feature) for client in client_features.CLIENTS for feature in client_features.FEATURES
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        HostileServer(client_features.upstream) as upstream,
        serving(
            tmp_path_factory.mktemp("clients"), "--model", "gpt-4o", "--base-url", upstream.url
        ) as served,
    ):
        yield served


def test_the_page_has_every_client_and_feature() -> None:
    table = compatibility.read_table("clients")
    assert list(table) == list(client_features.CLIENTS)
    assert {tuple(cells) for cells in table.values()} == {client_features.FEATURES}
    assert {cell for cells in table.values() for cell in cells.values()} <= {"yes", "-"}


@pytest.mark.parametrize(("client", "feature"), CELLS)
def test_a_client(gateway: Served, client: str, feature: str) -> None:
    module, _ = client_features.CLIENTS[client]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    found = compatibility.client_cell(client, feature, gateway.v1)
    assert found == compatibility.read_table("clients")[client][feature]


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that passes all requests on."""
    with (
        HostileServer(client_features.upstream) as upstream,
        serving(
            tmp_path_factory.mktemp("passing"),
            *("--model", "gpt-4o", "--base-url", upstream.url, "--method", "base"),
        ) as served,
    ):
        yield served


@pytest.mark.parametrize(
    ("client", "feature"),
    [cell for cell in CELLS if cell[1] not in {"refusal", "budget", "by name"}],
)
def test_a_client_whose_requests_are_passed_on(passing: Served, client: str, feature: str) -> None:
    """They get the same, but for what scores and evidence are."""
    module, checks = client_features.CLIENTS[client]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if feature in checks:
        compatibility.client_cell(client, feature, passing.v1)


@pytest.mark.parametrize("client", ["openai", "langchain-openai", "VLMEvalKit's requests"])
def test_a_client_of_the_embedded_model(
    tmp_path_factory: pytest.TempPathFactory, client: str
) -> None:
    module, checks = client_features.CLIENTS[client]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    # It answers, in words of its own.
    with (
        serving(tmp_path_factory.mktemp("embedded")) as served,
        pytest.raises(AssertionError, match="instead of '42'"),
    ):
        checks["image"](served.v1)
