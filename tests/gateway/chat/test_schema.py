"""What schemathesis makes of the API's own description: a bounded run against a real gateway."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from command import environment
from serving import WAIT, Served, serving


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("schema"), "--budget", "2000") as served:
        yield served


def test_the_description_is_served(gateway: Served) -> None:
    described = gateway.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/ecoalign/traces/{trace}",
        "/v1/ecoalign/usage",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert httpx2.get(f"{gateway.url}/docs", timeout=WAIT).status_code == 404


def test_schemathesis_finds_nothing(gateway: Served, tmp_path: Path) -> None:
    """No 5xx, no undocumented status or type, no body that its schema does not allow."""
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,negative_data_rejection"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
            *("--checks", checks, "--max-examples", "8", "--seed", "7", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--request-timeout", "20"),
            *("--generation-database", "none", "--suppress-health-check", "all"),
        ],
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=4 * WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-8000:]
    passed = re.search(rb"(\d+) generated, (\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) == int(passed[2]) > 200
    # Some of it was fit to be answered.
    assert gateway.metric('ecoalign_requests_total{method="ecoalign",status="200"}') > 0
