"""`ecoalign probe` as a user meets it, and the doctor that shows what it found."""

from __future__ import annotations

import json
import re
import socket
import tomllib
from pathlib import Path

import pytest
from capable import Capable
from command import KEY, QUESTION, SIGNS, both, run
from hostile import HostileServer, Reply


def test_what_is_found_is_shown_kept_and_used(tmp_path: Path) -> None:
    server = Capable(logprobs=0, schema="refused", thinks=300, image=64)
    with HostileServer(server) as running:
        where = ("--base-url", running.url)
        done = run(tmp_path, "probe", "my-model", *where, OPENAI_API_KEY=KEY)
        assert done.returncode == 0, done.stderr
        said, told = done.stdout.decode(), done.stderr.decode()
        assert re.search(r"at most [\d,]+ tokens, usually far less", told)
        assert "boxes ..." in told
        assert "224x224: 64" in said
        assert "299 tokens before a sum" in said
        (kept,) = (tmp_path / "ecoalign" / "profiles").glob("my-model-*.toml")
        assert str(kept) in said
        values = tomllib.loads(kept.read_text(encoding="utf-8"))
        assert (values["logprobs"], values["thinking"]) == (0, 640)

        config = tmp_path / "ecoalign.toml"
        config.write_text(f'model = "my-model"\nbase_url = "{running.url}"\n', encoding="utf-8")
        health = json.loads(run(tmp_path, "doctor", "--json").stdout)
        profile = health["profile"]
        assert (profile["model"], profile["file"]) == ("openai:my-model", str(kept))
        origin = f"the probe in {kept.name}"
        assert profile["fields"]["logprobs"] == {"value": 0, "origin": origin}
        assert profile["fields"]["boxes"] == {"value": "xyxy-1000", "origin": origin}
        assert profile["fields"]["family"] == {"value": "unknown", "origin": "default"}
        plain = run(tmp_path, "doctor", "--all").stdout.decode()
        assert f"profile of openai:my-model: {profile['hash']}" in plain
        assert origin in plain

        asked = len(server.asked)
        answer = run(tmp_path, "ask", SIGNS, QUESTION, "--json", "--trace", "t.jsonl")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["profile"] == profile["hash"]
        started = json.loads((tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert started["profile_hash"] == profile["hash"]
        assert started["profile"]["thinking"] == 640
        run_of = server.asked[asked:]
        assert run_of
        for body in run_of:
            assert not {"logprobs", "response_format"} & body.keys()
            assert body["max_tokens"] > 640
    assert KEY not in both(done)


def test_json_is_one_object_and_nothing_is_kept_unless_wanted(tmp_path: Path) -> None:
    with HostileServer(Capable()) as running:
        done = run(
            tmp_path, "probe", "m", "--base-url", running.url, "--json", "--no-save", "-b", "80000"
        )
        assert (done.returncode, done.stderr) == (0, b"")
        body = json.loads(done.stdout)
        assert body["file"] is None
        assert body["profile"]["image_tokens"] == {"224x224": 100, "512x384": 100, "1024x768": 100}
        assert body["spent"]["tokens"]["total"] <= 80_000
        assert not (tmp_path / "ecoalign").exists()
        run(tmp_path, "probe", "m", "--base-url", running.url, "--out", "mine.toml", "-q")
        assert tomllib.loads((tmp_path / "mine.toml").read_text(encoding="utf-8"))["logprobs"] == 20
        assert not (tmp_path / "ecoalign").exists()
        config = tmp_path / "ecoalign.toml"
        config.write_text(
            f'model = "m"\nbase_url = "{running.url}"\nprofile = "mine.toml"\n', encoding="utf-8"
        )
        fields = json.loads(run(tmp_path, "doctor", "--json").stdout)["profile"]["fields"]
        assert fields["logprobs"]["origin"] == "the probe in mine.toml"


def test_an_endpoint_is_probed_by_its_name(tmp_path: Path) -> None:
    with HostileServer(Capable()) as running:
        config = tmp_path / "ecoalign.toml"
        config.write_text(
            f'[endpoints.guard]\nmodel = "openai:g"\nbase_url = "{running.url}"\n'
            'key_env = "GUARD_KEY"\n',
            encoding="utf-8",
        )
        done = run(tmp_path, "probe", "guard", "--json", GUARD_KEY=KEY, OPENAI_API_KEY="sk-other-1")
        keys = {one.headers.get("authorization") for one in running.received}
    assert json.loads(done.stdout)["model"] == "openai:g"
    assert keys == {f"Bearer {KEY}"}
    assert KEY not in both(done)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_that_is_down_is_one_line(as_json: bool, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        options = ("--json",) if as_json else ("--quiet",)
        done = run(tmp_path, "probe", "m", "--base-url", url, *options)
    assert done.returncode == 3
    said = (done.stdout if as_json else done.stderr).decode()
    assert "cannot be reached" in said
    assert as_json or len(said.splitlines()) == 1
    assert not (tmp_path / "ecoalign").exists()


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = Reply({"error": {"message": "The model `m` does not exist"}}, 404)
    with HostileServer(lambda _: missing) as running:
        done = run(tmp_path, "probe", "m", "--base-url", running.url, "-q")
    assert (done.returncode, done.stdout) == (3, b"")
    assert len(done.stderr.decode().splitlines()) == 1
    assert b"does not exist" in done.stderr
    wrong = run(tmp_path, "probe", "opnai:gpt-4o")
    assert wrong.returncode == 2
    assert b"did you mean 'openai:gpt-4o'" in wrong.stderr


def test_a_model_that_sees_nothing_is_warned_of_and_not_asked_about_images(tmp_path: Path) -> None:
    with HostileServer(Capable(sees="dropped")) as running:
        done = run(tmp_path, "probe", "m", "--base-url", running.url, "-q")
        calls = len(running.received)
        asked = run(tmp_path, "ask", SIGNS, "What?", "--model", "m", "--base-url", running.url)
        assert len(running.received) == calls
    assert asked.returncode == 2
    assert b"openai:m does not see images (the probe" in asked.stderr
    assert done.returncode == 0
    (warning,) = done.stderr.decode().splitlines()
    assert warning.startswith("warning: images: ignored in silence")


def test_the_embedded_model_needs_none(tmp_path: Path) -> None:
    done = run(tmp_path, "probe", "embedded")
    assert done.returncode == 0
    assert b"there is nothing to find out" in done.stdout
    assert not (tmp_path / "ecoalign").exists()
