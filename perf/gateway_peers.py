"""The peers of the gateway's load test, each in a virtual environment of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

from gateway_servers import HOST, Running, call, free_port, started

__all__ = ["PEERS", "install", "its_hub", "litellm"]

PEERS = {"its_hub": "its_hub[iaas]==1.2.0", "litellm": "litellm[proxy]==1.106.2"}
"""What is installed; litellm is half a gigabyte. Other releases of litellm have been found to
steal credentials: this one is run with an empty environment, and never outside this test."""


def install(home: Path, name: str) -> Path:
    """The environment of the peer `name` below `home`; made on the first call, which takes minutes.

    Raises:
        subprocess.CalledProcessError: it could not be installed.
    """
    place = home / name
    if not (place / "ready").exists():
        print(f"installing {PEERS[name]} in {place}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = str(place / "bin" / "pip")
        subprocess.run([pip, "install", "--quiet", PEERS[name]], check=True)
        (place / "ready").touch()
    return place


def its_hub(place: Path, upstream: str) -> Running:
    """its_hub's gateway as it ships, asked for one sample where a request does not say."""
    port = free_port()
    command = [str(place / "bin" / "its-iaas"), "--port", str(port), "--log-level", "WARNING"]
    server = started("its_hub", command, f"http://{HOST}:{port}/v1", ready="/models")
    settings = {
        "endpoint": upstream,
        "api_key": "none",
        "model": "mock",
        "alg": "self-consistency",
        "regex_patterns": ["(.*)"],
        "budget": 1,
    }
    if call(f"http://{HOST}:{port}/configure", body=json.dumps(settings).encode()) != 200:
        server.stop()
        raise RuntimeError("its_hub did not take its configuration")
    return server


def litellm(place: Path, upstream: str) -> Running:
    """litellm's proxy as it ships, without its telemetry."""
    port = free_port()
    settings = {
        "model_list": [
            {
                "model_name": "mock",
                "litellm_params": {
                    "model": "openai/mock",
                    "api_base": upstream,
                    "api_key": "none",
                },
            }
        ],
        "litellm_settings": {"telemetry": False},
    }
    config = place / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = [str(place / "bin" / "litellm"), "--config", str(config)]
    command += ["--host", HOST, "--port", str(port)]
    key = f"sk-{secrets.token_hex(32)}"  # it does not start without one
    environment = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    url = f"http://{HOST}:{port}/v1"
    return started("litellm", command, url, ready="/models", environment=environment, key=key)
