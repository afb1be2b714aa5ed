"""The command line as an operator types it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.gateways import NUMBER, TEXT, Gateway

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``sms-gateway`` in an empty working directory."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


VALID = {
    "REDIS_URL": "redis://user:store-secret@127.0.0.1:1/0",
    "RABBITMQ_URL": "amqp://user:broker-secret@127.0.0.1:1/",
    "CLIENT_CONFIG": '{"a-key-of-twenty-chars": {"name": "demo"}}',
    "PROVIDERS_CONFIG": '{"alpha": {}}',
}


def test_serve_and_check_refuse_an_empty_environment_with_exit_code_2(tmp_path: Path) -> None:
    """Nobody runs a gateway to nowhere: both URLs are asked for, with what to write."""
    for command in ("serve", "check"):
        result = run(tmp_path, command)
        assert result.returncode == 2
        assert "REDIS_URL" in result.stderr
        assert "RABBITMQ_URL" in result.stderr
        assert "embedded:" in result.stderr
        assert "Traceback" not in result.stderr


def test_check_shows_the_effective_pipeline_and_opens_nothing(tmp_path: Path) -> None:
    """Needs, provides and fingerprints; no secret; exit code 0 although nothing is there to connect to."""
    result = run(tmp_path, "check", **VALID)
    assert result.returncode == 0, result.stderr
    for words in (
        "auth",
        "idempotency",
        "validation",
        "provider_gate",
        "quota",
        "publish",
        "needs",
        "provides",
    ):
        assert words in result.stdout
    assert len(re.findall(r"\b[0-9a-f]{64}\b", result.stdout)) == 2
    assert "secret" not in result.stdout
    assert "a-key-of-twenty-chars" not in result.stdout


def test_check_strict_exits_1_on_a_warning(tmp_path: Path) -> None:
    """A legal but weaker order passes ``check``, and fails it with ``--strict``."""
    weaker = {**VALID, "PIPELINE": "auth,validation,provider_gate,quota"}
    assert run(tmp_path, "check", **weaker).returncode == 0
    result = run(tmp_path, "check", "--strict", **weaker)
    assert result.returncode == 1
    assert "a retry may send twice" in result.stdout
    assert run(tmp_path, "check", "--strict", **VALID).returncode == 0


def test_an_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    """``.env`` in the working directory is read as it is, ``$`` included."""
    lines = [f"{name}={value}" for name, value in VALID.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "QUOTA_PREFIX=a$HOME", "LOG_LEVEL=nonsense"]))
    assert "LOG_LEVEL" in run(tmp_path, "check").stderr
    assert run(tmp_path, "check", LOG_LEVEL="DEBUG").returncode == 0


def test_a_new_key_is_shown_once_with_its_entry(tmp_path: Path) -> None:
    """The entry holds the digest of the key that is shown, and is valid configuration."""
    result = run(tmp_path, "key", "new", "Acme")
    assert result.returncode == 0
    key = re.search(r"sms_[\w-]{43}", result.stdout)
    entry = re.search(r"^ *(\{.*\})$", result.stdout, re.MULTILINE)
    assert key is not None
    assert entry is not None
    assert list(json.loads(entry[1])) == ["sha256:" + hashlib.sha256(key[0].encode()).hexdigest()]
    assert run(tmp_path, "check", **{**VALID, "CLIENT_CONFIG": entry[1]}).returncode == 0
    assert result.stdout.count(key[0]) == 1


def test_no_terminal_is_too_simple(tmp_path: Path) -> None:
    """What its encoding does not have is escaped, so that both entries still read as they are meant."""
    name = "Øre 😀"
    ascii_only = {**VALID, "PYTHONIOENCODING": "ascii"}
    checked = run(tmp_path, "check", **ascii_only)
    assert checked.returncode == 0, checked.stderr
    assert "the configuration is valid" in checked.stdout
    made = run(tmp_path, "key", "new", name, **ascii_only)
    assert made.returncode == 0, made.stderr
    entry = re.search(r"^ *(\{.*\})$", made.stdout, re.MULTILINE)
    assert entry is not None
    in_toml = tomllib.loads(made.stdout[made.stdout.index("    [clients.") :])["clients"]
    for document in (json.loads(entry[1]), in_toml):
        assert [one["name"] for one in document.values()] == [name]


def test_messages_shows_what_waits_and_hides_what_is_private(tmp_path: Path) -> None:
    """A message that was answered 202 is listed; text and number only with ``--full``."""
    url = f"embedded:{tmp_path / 'gateway.db'}"
    with Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url}) as gateway:
        tracking_id = gateway.send().json()["tracking_id"]
        shown = run(tmp_path, "messages", RABBITMQ_URL=url)
    assert shown.returncode == 0, shown.stderr
    assert tracking_id in shown.stdout
    assert "+98912***4567" in shown.stdout
    assert TEXT not in shown.stdout
    assert NUMBER not in shown.stdout
    full = run(tmp_path, "messages", "--full", RABBITMQ_URL=url)
    assert TEXT in full.stdout
    assert NUMBER in full.stdout


def test_serve_refuses_a_file_that_is_not_ours(tmp_path: Path) -> None:
    """A path where something else lies is a mistake to report, not one to serve with."""
    (tmp_path / "notes.txt").write_text("not a database, and longer than the header of one would be " * 10)
    url = f"embedded:{tmp_path / 'notes.txt'}"
    result = run(tmp_path, "serve", **{**VALID, "REDIS_URL": url, "RABBITMQ_URL": url})
    assert result.returncode == 2
    assert "notes.txt" in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_refuses_a_spool_that_is_not_ours(tmp_path: Path) -> None:
    """It would serve, and find out with the first outage that there is nowhere to keep a message."""
    (tmp_path / "notes.txt").write_text("not a database, and longer than the header of one would be " * 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE messages (of_another_program)")
    for name in ("notes.txt", "other.db"):
        before = (tmp_path / name).read_bytes()
        result = run(
            tmp_path, "serve", **VALID, SERVER_A_HOST="127.0.0.1", SERVER_A_PORT="0", RABBITMQ_SPOOL=name
        )
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: RABBITMQ_SPOOL: {name}: ")
        assert (tmp_path / name).read_bytes() == before


def test_messages_of_a_broker_are_not_ours_to_show(tmp_path: Path) -> None:
    """Without an embedded outbox the command says what to write."""
    result = run(tmp_path, "messages", RABBITMQ_URL="amqp://127.0.0.1/")
    assert result.returncode == 2
    assert "embedded:" in result.stderr
