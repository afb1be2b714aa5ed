"""What can be known of the image and of compose.yml without a Docker engine."""

from __future__ import annotations

import configparser
import copy
import http.server
import importlib.resources
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dotenv import dotenv_values

from gateway.config import settings
from pipeline import order

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose.yml"
EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLES = {variable.name: variable for variable in settings.VARIABLES.values()}


@pytest.fixture
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return parsed


@pytest.fixture(scope="module")
def compose_schema() -> jsonschema.protocols.Validator:
    """The Compose specification's own schema, as check-jsonschema carries it (Apache-2.0)."""
    folder = importlib.resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads((folder / "compose-spec.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments in one line, without comments."""
    without_comments = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", without_comments).splitlines()
    return [
        (word, arguments.strip()) for word, _, arguments in (line.partition(" ") for line in lines if line)
    ]


@pytest.fixture(scope="module")
def stages() -> list[dict[str, list[str]]]:
    """The stages of the Dockerfile: instruction to its arguments, in order."""
    found: list[dict[str, list[str]]] = []
    for word, arguments in instructions((ROOT / "Dockerfile").read_text()):
        if word == "FROM":
            found.append({})
        found[-1].setdefault(word, []).append(arguments)
    return found


@pytest.fixture(scope="module")
def image(stages: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    """The stage that becomes the image."""
    return stages[-1]


def test_compose_follows_the_specification(
    compose: dict[str, Any], compose_schema: jsonschema.protocols.Validator
) -> None:
    assert [error.message for error in compose_schema.iter_errors(compose)] == []


@pytest.mark.parametrize(
    ("service", "change"),
    [
        ("gateway", {"restrat": "always"}),
        ("gateway", {"depends_on": {"redis": {"condition": "service_happy"}}}),
        ("redis", {"healthcheck": {"interval": 5}}),
    ],
)
def test_the_specification_s_schema_refuses_mistakes(
    compose: dict[str, Any],
    compose_schema: jsonschema.protocols.Validator,
    service: str,
    change: dict[str, Any],
) -> None:
    broken = copy.deepcopy(compose)
    broken["services"][service] |= change
    assert not compose_schema.is_valid(broken)


def test_compose_has_no_version_key(compose: dict[str, Any]) -> None:
    assert "version" not in compose


def test_the_gateway_waits_for_healthy_servers_that_keep_their_data(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["gateway"]["depends_on"].keys() == {"redis", "rabbitmq"}
    for name, dependency in services["gateway"]["depends_on"].items():
        assert dependency["condition"] == "service_healthy"
        assert "test" in services[name]["healthcheck"]
        assert [volume.partition(":")[0] for volume in services[name]["volumes"]] == [name]
        assert name in compose["volumes"]


def test_redis_appends_every_write(compose: dict[str, Any]) -> None:
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_docker_waits_longer_than_the_gateway_needs_to_stop(compose: dict[str, Any]) -> None:
    assert compose["services"]["gateway"]["stop_grace_period"] == "20s"


def test_only_this_machine_reaches_the_ports(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_is_written_into_compose() -> None:
    """Each comes from .env, and Compose stops with a message where it is missing."""
    uses = re.findall(r"\$\{(\w+)(:[?-])?", COMPOSE.read_text())
    secrets = [(name, how) for name, how in uses if re.search("PASSWORD|USER|CONFIG", name)]
    passwords = {"RABBITMQ_PASSWORD", "RABBITMQ_USER", "REDIS_PASSWORD"}
    assert {name for name, _ in secrets} == passwords | {"CLIENT_CONFIG", "PROVIDERS_CONFIG"}
    assert {how for _, how in secrets} == {":?"}


def test_every_variable_of_compose_is_in_the_example(compose: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    used |= {name for name, value in compose["services"]["gateway"]["environment"].items() if value is None}
    assert used <= set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE))


def test_compose_hands_every_setting_to_the_gateway(compose: dict[str, Any]) -> None:
    # A file named by GATEWAY_CONFIG lies outside of the container: who wants it mounts it.
    assert compose["services"]["gateway"]["environment"].keys() == VARIABLES.keys() - {"GATEWAY_CONFIG"}


def test_every_variable_is_explained_in_the_example() -> None:
    explained = re.findall(r"^# .+\n#?(\w+)=", EXAMPLE, re.MULTILINE)
    assert sorted(set(explained) - {"REDIS_PASSWORD"}) == sorted(VARIABLES)


def test_what_is_commented_out_in_the_example_is_the_default() -> None:
    shown = dict(re.findall(r"^#(\w+)=(.*)", EXAMPLE, re.MULTILINE))
    # Unset by default: what one could write stands there.
    del shown["GATEWAY_CONFIG"], shown["RABBITMQ_SPOOL"]
    assert shown.pop("PIPELINE") == ",".join(order.DEFAULT_ORDER)
    assert shown == {name: VARIABLES[name].default for name in shown}


def test_the_gateway_starts_with_the_example() -> None:
    written = {name: value or "" for name, value in dotenv_values(stream=io.StringIO(EXAMPLE)).items()}
    configured = settings.load(written)
    assert configured.is_loopback
    assert configured.warnings == ()


def test_the_image_is_built_in_another_stage(
    stages: list[dict[str, list[str]]], image: dict[str, list[str]]
) -> None:
    assert len(stages) == 2
    assert image["COPY"] == ["--from=build /opt/sms-gateway /opt/sms-gateway"]


def test_all_stages_run_on_one_slim_python_of_3_12_or_later(stages: list[dict[str, list[str]]]) -> None:
    bases = {stage["FROM"][0].partition(" AS ")[0] for stage in stages}
    assert len(bases) == 1
    found = re.fullmatch(r"python:3\.(\d+)-slim", bases.pop())
    assert found
    assert int(found[1]) >= 12


def test_the_image_does_not_run_as_root(image: dict[str, list[str]]) -> None:
    (user,) = image["USER"]
    assert int(user) > 0  # A number: Kubernetes cannot tell from a name that it is not root.
    assert any(f"--uid {user} " in run for run in image["RUN"])


def test_the_gateway_is_the_container_s_own_process(image: dict[str, list[str]]) -> None:
    """No shell in between: signals reach it."""
    (entrypoint,), (command,) = image["ENTRYPOINT"], image["CMD"]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    script = setup["options.entry_points"]["console_scripts"].split("=")[0].strip()
    assert json.loads(entrypoint) == [script]
    assert json.loads(command) == ["serve"]
    assert image["STOPSIGNAL"] == ["SIGTERM"]


def test_what_the_image_is_built_from_is_sent_to_docker_and_nothing_else(
    stages: list[dict[str, list[str]]],
) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {source for copy in stages[0]["COPY"] for source in copy.split()[:-1]}
    assert "*" in ignore
    assert sent == copied
    assert all((ROOT / source).exists() for source in copied)


def test_every_file_of_the_packages_comes_with_them() -> None:
    """What is not Python is left out of the wheel, and so of the image, unless setup.cfg names it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {package: patterns.split() for package, patterns in setup["options.package_data"].items()}
    files = [file for top in ("gateway", "pipeline", "schemas") for file in (ROOT / top).rglob("*.*")]
    data = [file.relative_to(ROOT) for file in files if file.suffix not in {".py", ".pyc"}]
    assert len(data) > 10
    for file in data:
        patterns = named["*"] + named.get(".".join(file.parent.parts), [])
        assert any(file.match(pattern) for pattern in patterns), f"{file} is in no package_data of setup.cfg"


class Healthz(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server calls it so)
        """Say nothing."""


@pytest.fixture
def healthz_port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Healthz) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_the_gateway(
    image: dict[str, list[str]],
    healthz_port: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: int,
    healthy: bool,
) -> None:
    monkeypatch.setattr(Healthz, "status", status)
    assert check_health(image, healthz_port) is healthy


def test_the_health_check_fails_where_nothing_listens(image: dict[str, list[str]], healthz_port: int) -> None:
    assert check_health(image, healthz_port)
    assert not check_health(image, 1)


def check_health(image: dict[str, list[str]], port: int) -> bool:
    """Runs the image's health check against the port."""
    program, *arguments = json.loads(image["HEALTHCHECK"][0].partition("CMD ")[2])
    assert program == "python"
    # A proxy for the outside must not be asked for the inside.
    env = os.environ | {"SERVER_A_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, timeout=10, check=False)
    return done.returncode == 0
