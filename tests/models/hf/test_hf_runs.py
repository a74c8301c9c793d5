"""Whole runs on a local model that sees, with random weights: what it writes means nothing; images,
budgets, scores and kept prefixes go their way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra hf is not installed")
pytest.importorskip("transformers", reason="the extra hf is not installed")

from command import run
from hf_requests import picture
from tiny_models import make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("smolvlm", tmp_path_factory.mktemp("runs") / "smolvlm")


def test_a_question_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    seen.write_bytes(picture(90, 60).data)
    asked = ("ask", "seen.png", "What is it?", "--model", f"hf:{folder}", "--json")
    done = run(tmp_path, *asked, "--budget", "15000", "--trace", "run.jsonl")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    tokens = result["spent"]["tokens"]
    assert tokens["total"] == tokens["prompt"] + tokens["completion"] <= 15000
    assert tokens["image"] > 0
    assert tokens["cached"] > 0
    assert result["model"] == f"hf:{folder}"
    events = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    calls = [event for event in events if "charged" in event]
    assert len(calls) == result["spent"]["calls"] >= 3
    assert all(call["error"] is None for call in calls)
    assert (
        sum(sum(call["charged"][part] for part in ("prompt", "completion")) for call in calls)
        == tokens["total"]
    )

    # The run can be replayed: its bounds need the tokenizer and the processor, and no weights.
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "weights")
    try:
        again = run(tmp_path, "replay", "run.jsonl", "seen.png")
    finally:
        (tmp_path / "weights").rename(weights)
    assert again.returncode == 0, again.stdout + again.stderr


def test_the_doctor_says_where_it_runs(folder: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json", ECOALIGN_MODEL=f"hf:{folder}")
    assert done.returncode == 0, done.stdout
    local = json.loads(done.stdout)["providers"]["hf"]
    assert local["usable"] is True
    assert local["model"].endswith("SmolVLMForConditionalGeneration, 0 M parameters, cpu, float32)")
    (tmp_path / "gone").mkdir()
    done = run(tmp_path, "doctor", ECOALIGN_MODEL=f"hf:{tmp_path / 'gone'}")
    assert done.returncode == 2
    assert b"it cannot be used: hf:" in done.stdout
