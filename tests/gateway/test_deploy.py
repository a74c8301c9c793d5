"""deploy/: what is in there exists, parses and would run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import httpx2
import pytest
import yaml
from command import QUESTION, ROOT, environment, run
from hostile import HostileServer, Received, Reply
from serving import asking, picture, text

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.iterdir() if path.is_file())
SECRET = re.compile(r"(?:sk|eco)-[A-Za-z0-9]{8}|-----BEGIN|://[^/\s@]+:[^/\s@%]+@")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def entry_point() -> list[str]:
    command = [rest for name, rest in instructions() if name == "ENTRYPOINT"]
    found: list[str] = json.loads(command[0])
    return found


def compose() -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    found: Mapping[str, Mapping[str, Mapping[str, object]]] = yaml.safe_load(
        (DEPLOY / "compose.yaml").read_text()
    )
    return found


def unit(name: str) -> list[str]:
    """The values of a setting of the systemd unit."""
    lines = (DEPLOY / "ecoalign.service").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if not line.startswith("#")]
    return [value for key, _, value in pairs if key == name]


def commands() -> dict[str, list[str]]:
    """Every command line of ours in there, without the program."""
    served = compose()["services"]["gateway"]["command"]
    assert isinstance(served, list)
    found = {
        "Dockerfile": entry_point()[1:],
        "compose.yaml": [*entry_point()[1:], *served],
        "ecoalign.service": shlex.split(unit("ExecStart")[0])[1:],
    }
    for path in FILES:
        text = re.sub(r"\\\n#\s*", " ", path.read_text())
        for i, keys in enumerate(re.findall(r"^#.*ecoalign (keys create .*)$", text, re.M)):
            found[f"{path.name}, comment {i}"] = shlex.split(keys)
    return found


@pytest.mark.parametrize("where", commands())
def test_every_command_and_option_is_one_of_ours(where: str, tmp_path: Path) -> None:
    arguments = commands()[where]
    done = run(tmp_path, *arguments, "--help")
    assert done.returncode == 0, done.stderr.decode()
    # The same with an option that nobody has fails, so that the line above says something.
    assert run(tmp_path, *arguments, "--no-such-option", "--help").returncode == 2


def test_keys_are_shown_how_to_make() -> None:
    assert sum("comment" in where for where in commands()) == 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert SECRET.search(path.read_text()) is None


def test_the_image_runs_as_nobody_and_never_without_keys() -> None:
    found = instructions()
    assert [rest for name, rest in found if name == "USER"] == ["10001:10001"]
    settings = " ".join(rest for name, rest in found if name == "ENV")
    assert "ECOALIGN_KEYS=/var/lib/ecoalign/" in settings
    # A secret in an instruction would stay in a layer.
    given = " ".join(rest for name, rest in found if name in {"ARG", "ENV", "RUN"})
    assert re.search(r"API_KEY|PASSWORD|TOKEN", given) is None


def test_the_image_is_built_from_what_is_there_and_little_more() -> None:
    sources = [
        part
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for part in rest.split()[:-1]
    ]
    assert all((ROOT / source).exists() for source in sources)
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert kept == {source.removeprefix("./") for source in sources}


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_ready_from_not(status: int, code: int, tmp_path: Path) -> None:
    check = next(rest for name, rest in instructions() if name == "HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD")[2])

    def answer(request: Received) -> Reply:
        return Reply({"status": "as told"}, status=status)

    with HostileServer(answer) as server:
        port = server.url.split(":")[2].removesuffix("/v1")
        script = command[2].replace(":8000/", f":{port}/")
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, timeout=30, check=False
        )
        assert [request.path for request in server.received] == ["/readyz"]
    assert done.returncode == code


def test_the_image_installs_nothing_but_what_is_locked() -> None:
    """Every installation is by hash or without an index, and both stages have the same base."""
    runs = [rest for name, rest in instructions() if name == "RUN"]
    installs = [one for rest in runs for one in rest.split("&&") if " install " in one]
    installs = [one for one in installs if "pip" in one]
    assert installs
    for one in installs:
        assert "--require-hashes -r locks/" in one or "--no-deps --no-index" in one
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert bases == ["${BASE}", "${BASE}"]
    # One that is pinned is given when the image is built; a digest here would grow old.
    assert [rest for name, rest in instructions() if name == "ARG"] == ["BASE=python:3.13-slim"]


@pytest.mark.parametrize("service", ["gateway", "db"])
def test_a_container_of_compose_can_do_little(service: str) -> None:
    found = compose()["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in found
    assert {"mem_limit", "pids_limit"} <= found.keys()
    assert "healthcheck" in found or any(name == "HEALTHCHECK" for name, _ in instructions())


def test_compose_publishes_on_the_loopback_only() -> None:
    services = compose()["services"]
    assert services["gateway"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services["db"]
    back = compose()["networks"]["back"]
    assert back["internal"] is True


def test_compose_takes_its_secrets_from_files() -> None:
    """None is in a variable, which `docker inspect` shows, and each file is named once."""
    services, secrets = compose()["services"], compose()["secrets"]
    for name, service in services.items():
        variables = service["environment"]
        assert isinstance(variables, dict)
        used = set()
        for variable, value in variables.items():
            if variable.endswith("_FILE"):
                used.add(Path(value).relative_to("/run/secrets").name)
            else:
                assert not re.search("PASSWORD|KEY(?!S)|TOKEN|SECRET", variable)
        assert used == set(cast("list[str]", service["secrets"])), name
    assert {Path(str(one["file"])).parent.name for one in secrets.values()} == {"secrets"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/secrets/" in ignored


def test_the_files_that_compose_names_are_read(tmp_path: Path) -> None:
    """With the variables of the gateway's container, and files as its comment makes them."""
    (tmp_path / "keys_url").write_text(f"{tmp_path}/k.sqlite3\n")
    (tmp_path / "openai_api_key").write_text("sk-canary\n")
    given = cast("dict[str, str]", compose()["services"]["gateway"]["environment"])
    given = {name: text for name, text in given.items() if "$" not in text}
    for variable, path in given.items():
        given[variable] = path.replace("/run/secrets", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "ecoalign", "keys", "create", "first"],
        env=environment(tmp_path, **given),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "k.sqlite3").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become nobody",
)
def test_an_account_without_a_name_a_home_and_rights_can_serve(tmp_path: Path) -> None:
    """As in a container that is run with any number of a user: one folder is its own."""
    capabilities = "-all,+dac_read_search"  # to read what is root's here
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--no-new-privs"]
    become += [f"--{of}={capabilities}" for of in ("inh-caps", "ambient-caps", "bounding-set")]
    os.chown(tmp_path, 54321, 54321)
    variables = environment(tmp_path, ECOALIGN_KEYS=str(tmp_path / "k.sqlite3"))
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        del variables[name]

    def nobody(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*become, sys.executable, "-m", "ecoalign", *arguments],
            cwd=tmp_path,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with nobody("keys", "create", "first") as creating:
        key, said = creating.communicate(timeout=60)
    assert creating.returncode == 0, said
    with nobody("serve", "--port", "0", "--log-json") as server:
        assert server.stderr is not None
        lines = iter(server.stderr)
        url = next(line for line in lines if line.startswith("listening on ")).split()[2]
        try:
            picture_and_words = asking(text(QUESTION), picture())
            headers = {"authorization": f"Bearer {key.strip()}"}
            answer = httpx2.post(f"{url}/chat/completions", json=picture_and_words, headers=headers)
            assert answer.status_code == 200, answer.text
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0


def test_a_unit_gets_its_secret_as_a_credential() -> None:
    (credential,) = unit("LoadCredential")
    name, _, path = credential.partition(":")
    assert path.startswith("/etc/ecoalign/")
    assert f"OPENAI_API_KEY_FILE=%d/{name}" in unit("Environment")
    for hardened in ("ProtectSystem=strict", "DynamicUser=yes", "NoNewPrivileges=yes"):
        key, _, value = hardened.partition("=")
        assert unit(key) == [value]


def test_what_a_request_has_to_end_is_less_than_what_the_process_has() -> None:
    """Docker and systemd would kill it in the middle otherwise; the default of --drain is 30 s."""
    assert compose()["services"]["gateway"]["stop_grace_period"] == "45s"
    assert unit("TimeoutStopSec") == ["45"]
    assert "--drain 30" in unit("ExecStart")[0]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = shutil.which("true")
    text = (DEPLOY / "ecoalign.service").read_text()
    text = text.replace("/opt/ecoalign/bin/ecoalign", str(program))
    file = tmp_path / "ecoalign.service"
    file.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(file)], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
