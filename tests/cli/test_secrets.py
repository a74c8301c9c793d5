"""No secret is taken from a command line, and none that a process was given can be seen outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import both, environment, run
from hostile import HostileServer, Received, Reply, completion
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.cli._secrets import store_url, take_files
from ecoalign.errors import InputError

PASSWORD = "canary-p4ss-0123456789"  # noqa: S105


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://eco:{PASSWORD}@db/keys",
        f"postgres://eco:{PASSWORD}@[::1]:5432/keys",
        f"postgresql://one:5432,eco:{PASSWORD}@two/keys",
        f"postgresql://:{PASSWORD}@db/keys",
        f"postgresql://db/keys?user=eco&password={PASSWORD}",
        f"postgresql://db/keys?%70assword={PASSWORD}",
        f"postgresql://db/keys?sslmode=require&sslpassword={PASSWORD}",
        f"postgresql://eco:{PASSWORD}/with?and#unescaped@db/keys",
        f"POSTGRESQL://eco:{PASSWORD}@db/keys",
    ],
)
def test_a_password_in_the_address_of_the_store_is_refused(url: str) -> None:
    with pytest.raises(InputError) as refused:
        store_url(url)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("command", [("serve",), ("keys", "list"), ("keys", "create", "x")])
def test_the_refusal_names_the_cures_in_a_line(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, *command, "--keys", f"postgresql://eco:{PASSWORD}@db/keys")
    assert done.returncode == 2
    assert "ECOALIGN_KEYS" in both(done)
    assert "--keys @FILE" in both(done)
    assert PASSWORD not in both(done)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "keys.sqlite3",
        "sqlite:////srv/keys.sqlite3",
        "C:\\keys\\k@home.sqlite3",
        "a:b@c.sqlite3",
        "postgresql://eco@db:5432/keys",
        "postgresql://eco@%2Fvar%2Frun/keys?sslmode=verify-full",
        "postgresql://eco@[::1]:5432/keys",
        "postgresql://eco:@db/keys",
        "postgresql://db:5432/keys?passfile=/srv/pgpass",
    ],
)
def test_an_address_without_a_password_is_taken(url: str) -> None:
    assert store_url(url) == url


def test_the_address_of_the_store_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{tmp_path}/k.sqlite3\n")
    made = run(tmp_path, "keys", "create", "x", "--keys", f"@{file}")
    assert made.returncode == 0, both(made)
    for found in (
        run(tmp_path, "keys", "list", "--keys", "@url"),
        run(tmp_path, "keys", "list", ECOALIGN_KEYS_FILE=str(file)),
        run(tmp_path, "keys", "list", ECOALIGN_KEYS="", ECOALIGN_KEYS_FILE="url"),
    ):
        assert found.returncode == 0, both(found)
        assert " x " in found.stdout.decode()
    file.write_text(f"postgresql://eco:{PASSWORD}@/none?host={tmp_path}\n")
    down = run(tmp_path, "keys", "list", "--keys", f"@{file}")
    assert down.returncode == 3
    assert PASSWORD not in both(down)


def test_a_key_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f" {PASSWORD}\n")

    def answer(request: Received) -> Reply:
        return Reply(completion("42"))

    with HostileServer(answer) as server:
        options = ("--model", "openai:m", "--base-url", server.url, "--method", "base")
        done = run(tmp_path, "ask", "What?", *options, OPENAI_API_KEY_FILE="key")
        sent = [request.headers["authorization"] for request in server.received]
    assert sent
    assert set(sent) == {f"Bearer {PASSWORD}"}
    assert PASSWORD not in both(done)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "no text in UTF-8"),
        (f"{PASSWORD}\nmore".encode(), "more than one line"),
        (PASSWORD.encode() * 1000, "more than one line"),
        (b"a\x00b", "more than one line"),
    ],
)
def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    for done in (
        run(tmp_path, "ask", "What?", OPENAI_API_KEY_FILE=str(file)),
        run(tmp_path, "keys", "list", "--keys", f"@{file}"),
    ):
        assert done.returncode == 2
        assert words in both(done)
        assert str(file) in both(done)
        assert PASSWORD not in both(done)
        assert len(done.stderr.splitlines()) == 1


def test_two_sources_of_one_secret_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PASSWORD)
    given = {"OPENAI_API_KEY": "sk-another", "OPENAI_API_KEY_FILE": str(tmp_path / "key")}
    with pytest.raises(InputError, match="OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set"):
        take_files(given)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,12}(_FILE)?", fullmatch=True), st.text(max_size=9)))
def test_other_variables_are_left_alone(variables: dict[str, str]) -> None:
    others = {name: text for name, text in variables.items() if not name.endswith("_API_KEY_FILE")}
    before = dict(others)
    take_files(others)
    assert others == before


def test_an_empty_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    given = environment(tmp_path, OPENAI_API_KEY_FILE=str(tmp_path / "key"), GROQ_API_KEY_FILE="")
    take_files(given)
    assert not {name for name in given if "API_KEY" in name} & {"OPENAI_API_KEY", "GROQ_API_KEY"}
    done = run(tmp_path, "keys", "list", "--keys", f"@{tmp_path / 'key'}")
    assert done.returncode == 2
    assert "is empty" in both(done)
