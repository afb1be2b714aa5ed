"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from itertools import permutations
from pathlib import Path

import pytest

from gateway import __version__, cli
from gateway.config import api_keys, clients, settings
from pipeline import order
from pipeline.order import DEFAULT_ORDER

KEY = "s3cr3t-acme-0123456789"
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A valid configuration, and an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for variable in settings.VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("REDIS_URL", "embedded:gateway.db")
    monkeypatch.setenv("RABBITMQ_URL", "embedded:gateway.db")
    monkeypatch.setenv("CLIENT_CONFIG", json.dumps({KEY: {"name": "acme"}}))
    monkeypatch.setenv("PROVIDERS_CONFIG", '{"alpha": {}}')
    return monkeypatch


@pytest.mark.parametrize("names", list(permutations(DEFAULT_ORDER)), ids=",".join)
def test_check_explains_each_of_the_120_orders(
    names: tuple[str, ...], environment: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """An illegal one ends with 2 and a line for each mistake; a legal one with 0, its table and its warnings."""
    environment.setenv("PIPELINE", ",".join(names))
    mistakes = order.mistakes(names)
    assert cli.main(["check"]) == (2 if mistakes else 0)
    printed = capsys.readouterr()
    if mistakes:
        lines = printed.err.splitlines()
        told = [f"error: PIPELINE: {mistake}" for mistake in mistakes]
        assert lines[:-1] == [*told[:-1], f"{told[-1]}. {order.suggestion(names)}"]
        assert lines[-1].startswith(f"{len(mistakes)} mistake")
        assert printed.out == ""
    else:
        lines = printed.out.splitlines()
        assert [line.split()[0] for line in lines[1:8]] == ["stage", *names, "publish"]
        warnings = [line for line in lines if line.startswith("warning: ")]
        assert warnings == [f"warning: {warning}" for warning in order.warnings(names)]
        assert printed.err == ""


def test_check_shows_the_effective_pipeline(environment: pytest.MonkeyPatch, capsys: Printed) -> None:
    """Needs and provides of each stage, what is disabled and why, the fingerprints, and the count of warnings."""
    Path("gateway.toml").write_text('[stage.quota]\ndisabled = "counted elsewhere"\n')
    environment.setenv("GATEWAY_CONFIG", "gateway.toml")
    assert cli.main(["check"]) == 0
    fingerprint = settings.load(settings.environment()).config_fingerprint
    assert capsys.readouterr().out.splitlines() == [
        "pipeline:",
        "  stage          needs            provides",
        "  auth           –                client",
        "  idempotency    client           claim",
        "  validation     –                message",
        "  provider_gate  message          route",
        "  publish        client, message  –",
        "disabled: quota (counted elsewhere)",
        f"clients: 1, fingerprint {fingerprint.clients}",
        f"providers: 1, fingerprint {fingerprint.providers}",
        "the configuration is valid; 0 warnings",
    ]


@pytest.mark.parametrize(("arguments", "code"), [(["check"], 0), (["check", "--strict"], 1)], ids=str)
def test_strictness_makes_a_warning_fail(
    arguments: list[str], code: int, environment: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """A pipeline may fail on what is merely weaker; without ``--strict`` it is only told."""
    environment.setenv("PIPELINE", "validation,auth,idempotency,provider_gate,quota")
    assert cli.main(arguments) == code
    assert "the configuration is valid; 2 warnings" in capsys.readouterr().out
    environment.delenv("PIPELINE")
    assert cli.main(arguments) == 0


def test_a_mistake_ends_before_anything_is_started(environment: pytest.MonkeyPatch, capsys: Printed) -> None:
    """``serve`` and ``check`` refuse alike: every mistake on a line of its own, exit code 2, nothing opened."""
    environment.delenv("REDIS_URL")
    environment.setenv("SERVER_A_PORT", "x")
    told = []
    for command in ("serve", "check"):
        assert cli.main([command]) == 2
        told.append(capsys.readouterr())
    assert told[0] == told[1]
    assert told[0].out == ""
    assert [line.partition(":")[0] for line in told[0].err.splitlines()] == [
        "error",
        "error",
        "2 mistakes in the configuration; nothing was started",
    ]
    assert list(Path().iterdir()) == []


def test_one_mistake_is_counted_as_one(environment: pytest.MonkeyPatch, capsys: Printed) -> None:
    """The last line reads as a sentence."""
    environment.setenv("SERVER_A_PORT", "x")
    assert cli.main(["check"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "1 mistake in the configuration; nothing was started"


def test_a_new_key_comes_with_its_entry(capsys: Printed) -> None:
    """The key is shown once; both entries hold its digest only and are read as they stand."""
    assert cli.main(["key", "new", 'Øre & "Co"']) == 0
    printed = capsys.readouterr().out
    key = next(line.strip() for line in printed.splitlines() if line.startswith("    sms_"))
    assert printed.count(key) == 1
    as_json = json.loads(next(line for line in printed.splitlines() if line.startswith("    {")))
    as_toml = tomllib.loads(printed[printed.index("    [clients.") :])["clients"]
    assert as_json.keys() == as_toml.keys()
    for document in (as_json, as_toml):
        assert clients.mistakes(document) == []
        client = clients.ConfiguredClients(document).authenticate(key.encode())
        assert client is not None
        assert client.name == 'Øre & "Co"'
        assert client.daily_quota is not None


def test_every_new_key_is_another() -> None:
    """Keys are made of 256 random bits."""
    keys = {api_keys.new()[0] for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) >= 43 for key in keys)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\x7f", "\x1b[2J"], ids=repr)
def test_a_key_for_an_impossible_name_is_refused(name: str, capsys: Printed) -> None:
    """The name is judged as the configuration would judge it, and no key is made."""
    assert cli.main(["key", "new", name]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: NAME: must be 1 to 64 characters")
    assert printed.err.removesuffix("\n").isprintable()
    assert printed.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chekc"],
        ["serve", "--workers", "0"],
        ["serve", "--workers", "two"],
        ["serve", "--workers", "1000"],
        ["key"],
        ["key", "new"],
        ["forward"],
        ["forward", "--to", "http://host"],
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_ends_with_2(arguments: list[str], capsys: Printed) -> None:
    """The usage is shown, and nothing happens."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: sms-gateway" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["messages", "forward"])
def test_what_reads_the_embedded_outbox_needs_one(
    command: str, environment: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """With RabbitMQ there is none to read, and the message says what to write; the password stays hidden."""
    environment.setenv("RABBITMQ_URL", "amqp://user:s3cr3t@127.0.0.1/")
    assert cli.main([command, *(["--to", "amqp://127.0.0.1/"] if command == "forward" else [])]) == 2
    printed = capsys.readouterr()
    assert "RABBITMQ_URL: names no embedded outbox" in printed.err
    assert "s3cr3t" not in printed.err


def test_a_url_to_forward_to_that_is_none_is_a_mistake(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: Printed
) -> None:
    """It is named by its option, and its password stays hidden."""
    for name in ("REDIS_URL", "RABBITMQ_URL"):
        environment.setenv(name, f"embedded:{tmp_path / 'gateway.db'}")
    assert cli.main(["forward", "--to", "amqp://user:s3cr3t@127.0.0.1:port/"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: --to: ")
    assert "s3cr3t" not in complaint


@pytest.mark.parametrize("module", ["gateway", "gateway.cli"])
def test_the_package_is_the_command(module: str) -> None:
    """``python -m gateway`` and the installed command are one program."""
    ran = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert ran.stdout == f"sms-gateway {__version__}\n"


def test_the_package_without_a_command_serves(environment: pytest.MonkeyPatch) -> None:
    """``python -m gateway`` alone is ``serve``: here it refuses a mistake as ``serve`` does."""
    environment.setenv("SERVER_A_PORT", "x")
    environment.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    ran = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: SERVER_A_PORT: must be a whole number")
