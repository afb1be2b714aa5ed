"""Wherever a secret got by mistake, on the command line or in the configuration, nothing that is printed has it.

What is shown is what reads as meant: names of stages and their options, files that are there, and the names of clients
and providers, which are public.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway import cli
from gateway.config.settings import VARIABLES

MARK = "s3cr3t"
MADE = f"sms_{MARK}-0123456789-0123456789-0123456789-012"
SECRETS = {
    "a key": MADE,
    "a key of one's own": f"{MARK}-acme-0123456789",
    "a key like a name": f"auth_{MARK}_quota",
    "a URL": f"amqp://user:{MARK}@127.0.0.1:1/",
    "a URL of Redis": f"redis://:{MARK}@127.0.0.1:1/0",
    "a digest of another form": f"SHA-256:{MARK}{'0' * 58}",
}
VALID = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "RABBITMQ_URL": "amqp://127.0.0.1:1/",
    "CLIENT_CONFIG": '{"a-key-of-the-client-acme": {"name": "acme"}}',
    "PROVIDERS_CONFIG": '{"alpha": {}}',
}

COMMAND_LINES: list[Callable[[str], list[str]]] = [
    lambda secret: [secret],
    lambda secret: [f"-{secret}"],
    lambda secret: [f"--version={secret}"],
    lambda secret: ["check", secret],
    lambda secret: ["check", f"--strict={secret}"],
    lambda secret: ["check", f"--{secret}"],
    lambda secret: ["check", "--", secret],
    lambda secret: ["serve", secret],
    lambda secret: ["serve", "--workers", secret],
    lambda secret: ["serve", f"--workers={secret}"],
    lambda secret: ["serve", "--workers", "1", f"--strict={secret}"],
    lambda secret: ["key", secret],
    lambda secret: ["key", "new", "acme", secret],
    lambda secret: ["key", "new", "acme", f"--name={secret}"],
    lambda secret: ["key", "new", secret * 4],
    lambda secret: ["messages", secret],
    lambda secret: ["messages", f"--f={secret}"],
    lambda secret: ["messages", f"--full={secret}"],
    lambda secret: ["forward", secret],
    lambda secret: ["forward", "--to", secret],
    lambda secret: ["forward", f"--to={secret}"],
    lambda secret: ["forward", "--to", f"amqp://{secret}"],
    lambda secret: ["forward", "--to", "amqp://host/", secret],
    lambda secret: ["forward", "--to", "amqp://host/", f"--follow={secret}"],
    lambda secret: ["forward", "--to", "amqp://host/", "--full", secret],
]

DOCUMENTS: list[Callable[[str], object]] = [
    lambda secret: secret,
    lambda secret: [secret],
    lambda secret: {secret: 1},
    lambda secret: {secret: {}},
    lambda secret: {secret: {"name": 1}},
    lambda secret: {secret: {"is_active": "yes", "name": "acme"}},
    lambda secret: {secret: {"daily_quota": -1}},
    lambda secret: {f"{secret} ": {"name": "acme"}},
    lambda secret: {f"sha256:{secret}": {"name": "acme"}},
    lambda secret: {secret: {"name": "acme"}, "beta": {"aliases": 1, "is_active": 1}},
    lambda secret: {"beta": {secret: 1, "name": "acme"}},
    lambda secret: {"beta": {"name": "acme", "daily_quota": secret}},
    lambda secret: {"beta": {"is_active": secret, "note": [secret], "aliases": secret}},
    lambda secret: {"beta": {"aliases": [[secret], secret * 4]}},
    lambda secret: {"beta": {"name": {secret: secret}}},
    lambda secret: {"beta": {"name": secret * 4}},
]

FILES: list[Callable[[str], str]] = [
    lambda secret: secret,
    lambda secret: f'"{secret}" = 1',
    lambda secret: f'"{secret}" = {{ name = "acme" }}',
    lambda secret: f'["{secret}"]\nname = "acme"',
    lambda secret: f'[clients."{secret}"\nname = "acme"',
    lambda secret: f'clients = "{secret}"\nproviders = "{secret}"\nstage = "{secret}"\npipeline = "{secret}"',
    lambda secret: f'pipeline = ["{secret}"]',
    lambda secret: f'pipeline = ["auth", "{secret}", "{secret}", "validation"]',
    lambda secret: f'pipeline = ["auth", "{secret}", "validation"]\n[stage."{secret}"]\ndisabled = "x"',
    lambda secret: f'[stage."{secret}"]\ndisabled = 1',
    lambda secret: f'[stage."{secret}"]\ndisabled = "x"',
    lambda secret: f'[stage."{secret}"]\nclient = 1',
    lambda secret: f'[stage]\n"{secret}" = 1',
    lambda secret: f'[stage.quota]\n"{secret}" = 1\non_store_error = "{secret}"',
    lambda secret: f'[stage.quota]\non_store_error = ["{secret}"]\ndisabled = ["{secret}"]',
    lambda secret: f'[stage.auth]\n"{secret}" = {{ name = "acme" }}',
    lambda secret: f'pipeline = ["anonymous", "validation"]\n[stage.anonymous]\nclient = "{secret}"',
    lambda secret: f'pipeline = ["anonymous", "validation"]\n[stage.anonymous]\nclient = ["{secret}"]',
    lambda secret: (
        f'pipeline = ["anonymous", "validation"]\n[stage.anonymous]\nclient = "acme"\nallow_public = "{secret}"'
    ),
]

DOTENV: list[Callable[[str], str]] = [
    lambda secret: secret,
    lambda secret: f"{secret}=1",
    lambda secret: f"REDIS_URL='{secret}",
    lambda secret: f'LOG_LEVEL="{secret}" {secret}',
    lambda secret: f"SERVER_A_PORT={secret}",
]

secrets = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)


Printed = pytest.CaptureFixture[str]


def keeps_silent(
    capfd: Printed, environ: Mapping[str, str], arguments: list[str] | None = None, code: int | None = 2
) -> None:
    """Nothing of the secret is printed when the command runs; ``code`` is its exit code, None whichever it is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        try:
            ended: object = cli.main(arguments or ["check"])
        except SystemExit as exit_:
            ended = exit_.code
    printed = capfd.readouterr()
    assert MARK not in printed.out + printed.err, (arguments, environ)
    assert printed.out + printed.err
    assert code is None or ended == code, (printed, environ)


@secrets
def test_no_argument_is_repeated(secret: str, capfd: Printed) -> None:
    """Whatever a command makes of it; the usage stands above the error, and says what there is."""
    for line in COMMAND_LINES:
        keeps_silent(capfd, VALID, line(secret))


@secrets
@pytest.mark.parametrize("name", [variable.name for variable in VARIABLES.values()])
def test_no_variable_is_repeated(name: str, secret: str, capfd: Printed) -> None:
    """Alone, with something around it, and behind what names a file."""
    for text in (
        secret,
        f" {secret}",
        f"{secret},{secret}",
        f"1{secret}",
        f"embedded:/{secret}",
        f"{secret}\t",
    ):
        keeps_silent(capfd, VALID | {name: text}, code=None)


@secrets
@pytest.mark.parametrize("name", ["CLIENT_CONFIG", "PROVIDERS_CONFIG"])
def test_no_document_is_repeated(name: str, secret: str, capfd: Printed) -> None:
    """Neither as JSON, nor as JSON that is cut off, nor where it names the same thing twice."""
    for document in DOCUMENTS:
        text = json.dumps(document(secret))
        for written in (
            text,
            text[:-1],
            f"[{text}, ",
            text.replace("}", f', "{secret}": 1, "{secret}": 2}}'),
        ):
            keeps_silent(capfd, VALID | {name: written}, code=None)


@secrets
def test_no_file_is_repeated(secret: str, capfd: Printed) -> None:
    """Whatever part of it the secret stands in."""
    Path("gateway.toml").touch()
    environ = {name: VALID[name] for name in ("REDIS_URL", "RABBITMQ_URL")}
    clients = '\n[clients.a-key-of-the-client-acme]\nname = "acme"\n'
    for file in FILES:
        for text in (file(secret), file(secret) + clients):
            Path("gateway.toml").write_text(text, encoding="utf-8")
            keeps_silent(capfd, environ | {"GATEWAY_CONFIG": "gateway.toml"})


@secrets
def test_no_line_of_an_env_file_is_repeated(secret: str, capfd: Printed) -> None:
    """Nor one that is none."""
    for lines in DOTENV:
        Path(".env").write_text(lines(secret), encoding="utf-8")
        keeps_silent(capfd, VALID, code=None)


@pytest.mark.parametrize("name", ["CLIENT_CONFIG", "PROVIDERS_CONFIG"])
def test_a_key_does_not_become_a_name(name: str, capfd: Printed) -> None:
    """Names are public: in metrics, in logs and on the queue. So a key that we made is told from one."""
    documents = [
        {"shop": {"name": MADE}},
        {"the-key-of-the-shop": {"name": MADE}, "the-other-key-of-it": {"name": MADE, "daily_quota": 1}},
        {MADE: {}, "beta": {"aliases": [MADE]}},
        {"beta": {"aliases": [MADE]}},
    ]
    for document in documents:
        keeps_silent(capfd, VALID | {name: json.dumps(document)})
    keeps_silent(capfd, VALID, ["key", "new", MADE])


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["forward", "--to", "amqp://host/", SECRETS["a URL"]], {}),
        (["key", "old", MADE], {}),
        (["serve"], {"PIPELINE": MADE, "GATEWAY_CONFIG": SECRETS["a URL"], "CLIENT_CONFIG": MADE}),
    ],
    ids=["stray arguments", "an unknown command", "serve"],
)
def test_the_installed_command_does_not_repeat_it_either(
    arguments: list[str], environ: dict[str, str]
) -> None:
    """As a process of its own, with all that the interpreter and the libraries print."""
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, **VALID, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert MARK not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
