"""The settings: what is read, and every mistake with what to write instead.

The folder ``files`` beside this one holds a file for each mistake and each warning, with the message that it is to
have in its first lines. Whatever stands for a secret there has ``s3cr3t`` in it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import get_type_hints

import pytest
from dotenv import dotenv_values

from gateway import cli
from gateway.config import settings
from gateway.config.settings import VARIABLES, ConfigurationError, Settings, is_loopback
from pipeline.order import DEFAULT_ORDER

CONFIG = Path(__file__).with_name("files")
FILES = sorted(path.name for path in CONFIG.iterdir() if path.is_file())
VALID = {
    "REDIS_URL": "embedded:gateway.db",
    "RABBITMQ_URL": "embedded:gateway.db",
    "CLIENT_CONFIG": '{"s3cr3t-acme-0123456789": {"name": "acme"}}',
    "PROVIDERS_CONFIG": '{"alpha": {}}',
}


# The contract's table, section 4, the overload limit of the guarantees, and the spool.
DEFAULTS = {
    "SERVICE_NAME": "server-a",
    "SERVER_A_HOST": "0.0.0.0",  # noqa: S104
    "SERVER_A_PORT": "8000",
    "REDIS_URL": None,
    "RABBITMQ_URL": None,
    "RABBITMQ_EXCHANGE": "sms.outbound",
    "RABBITMQ_QUEUE": "sms.outbound",
    "RABBITMQ_QUEUE_TYPE": "quorum",
    "RABBITMQ_HEARTBEAT_EXCHANGE": "sms.heartbeat",
    "RABBITMQ_HEARTBEAT_QUEUE": "sms.heartbeat",
    "RABBITMQ_SPOOL": None,
    "SPOOL_MAX_MESSAGES": "100000",
    "PROVIDER_GATE_ENABLED": "true",
    "IDEMPOTENCY_TTL_SECONDS": "86400",
    "QUOTA_PREFIX": "quota",
    "HEARTBEAT_INTERVAL_SECONDS": "60",
    "CLIENT_CONFIG": None,
    "PROVIDERS_CONFIG": None,
    "PIPELINE": None,
    "GATEWAY_CONFIG": None,
    "LOG_LEVEL": "INFO",
    "MAX_IN_FLIGHT": "512",
}


def expected(name: str, kind: str) -> list[str]:
    """What the comments of a file say."""
    start = f"# {kind}: "
    lines = (CONFIG / name).read_text().splitlines()
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def environ(name: str) -> dict[str, str]:
    """A valid environment, but for what the file says."""
    found = dict(VALID)
    if name.endswith(".toml"):
        for variable in expected(name, "unset"):
            del found[variable]
        return found | {"GATEWAY_CONFIG": name}
    written = dotenv_values(CONFIG / name, interpolate=False)
    return found | {variable: value for variable, value in written.items() if value is not None}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is that of the files."""
    monkeypatch.chdir(CONFIG)


def load(**changed: str) -> Settings:
    return settings.load(VALID | changed)


def load_file(tmp_path: Path, text: str, *without: str) -> Settings:
    path = tmp_path / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    left = {name: value for name, value in VALID.items() if name not in without}
    return settings.load(left | {"GATEWAY_CONFIG": str(path)})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", FILES)
def test_each_mistake_is_told_as_its_file_expects(name: str) -> None:
    """All mistakes come at once, in the words that stand beside them; what is no mistake is a warning."""
    errors, warnings = expected(name, "error"), expected(name, "warning")
    assert errors or warnings
    if errors:
        with pytest.raises(ConfigurationError) as raised:
            settings.load(environ(name))
        assert raised.value.mistakes == errors
    else:
        assert list(settings.load(environ(name)).warnings) == warnings


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_ever_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither an API key nor the password of a URL is repeated, by whatever mistake it got where it stands."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)
    for variable_name, value in environ(name).items():
        monkeypatch.setenv(variable_name, value)
    assert cli.main(["check"]) == (2 if expected(name, "error") else 0)
    printed = capsys.readouterr()
    assert "s3cr3t" not in printed.out + printed.err
    assert printed.err.count("error: ") == len(expected(name, "error"))


def test_the_variables_and_their_defaults_are_those_of_the_contract() -> None:
    """Every name that operators may write is there with its default, and no other is."""
    assert {variable.name: variable.default for variable in VARIABLES.values()} == DEFAULTS


@pytest.mark.parametrize("field", VARIABLES)
def test_every_declaration_is_whole(field: str) -> None:
    """A default reads as its field's type; without one, the field may be empty or there is something to write."""
    variable, kind = VARIABLES[field], get_type_hints(Settings)[field]
    assert variable.meaning
    assert not variable.meaning.endswith(".")
    if variable.default is not None:
        assert type(variable.read(variable.default)) is kind
        assert not variable.is_required
    elif variable.is_required:
        assert variable.read(variable.example or "") == variable.example
    else:
        assert variable.part or isinstance(None, kind)


def test_two_urls_are_all_that_must_be_set() -> None:
    """Everything else has the default that the contract names."""
    found = settings.load({"REDIS_URL": "embedded:x", "RABBITMQ_URL": "embedded:x"})
    assert (found.service_name, found.host, found.port) == ("server-a", "0.0.0.0", 8000)  # noqa: S104
    assert (found.exchange, found.queue, found.queue_type) == ("sms.outbound", "sms.outbound", "quorum")
    assert (found.heartbeat_exchange, found.heartbeat_queue) == ("sms.heartbeat", "sms.heartbeat")
    assert found.provider_gate_enabled is True
    assert (found.idempotency_ttl_seconds, found.quota_prefix) == (86400, "quota")
    assert (found.heartbeat_interval_seconds, found.max_in_flight) == (60, 512)
    assert found.log_level == "INFO"
    assert found.pipeline == DEFAULT_ORDER
    assert (found.disabled, found.stage_options) == ({}, {})
    assert (len(found.clients), len(found.providers.by_name)) == (0, 0)
    assert (found.spool, found.spool_max_messages, found.config_file) == (None, 100_000, None)


def test_every_variable_is_read() -> None:
    """What operators write is what the gateway gets."""
    found = load(
        SERVICE_NAME="front door",
        SERVER_A_HOST="::1",
        SERVER_A_PORT="80",
        REDIS_URL="rediss://user:s3cr3t@redis.example:6380/1",
        RABBITMQ_URL="amqps://user:s3cr3t@rabbit.example/",
        RABBITMQ_EXCHANGE="e",
        RABBITMQ_QUEUE="q",
        RABBITMQ_QUEUE_TYPE="classic",
        RABBITMQ_HEARTBEAT_EXCHANGE="he",
        RABBITMQ_HEARTBEAT_QUEUE="hq",
        PROVIDER_GATE_ENABLED="false",
        IDEMPOTENCY_TTL_SECONDS="60",
        QUOTA_PREFIX="acme:quota",
        HEARTBEAT_INTERVAL_SECONDS="5",
        MAX_IN_FLIGHT="7",
        LOG_LEVEL="debug",
        PIPELINE=" auth , idempotency,validation ,",
    )
    assert (found.service_name, found.host, found.port) == ("front door", "::1", 80)
    assert found.redis_url == "rediss://user:s3cr3t@redis.example:6380/1"
    assert found.rabbitmq_url == "amqps://user:s3cr3t@rabbit.example/"
    assert (found.exchange, found.queue, found.queue_type) == ("e", "q", "classic")
    assert (found.heartbeat_exchange, found.heartbeat_queue) == ("he", "hq")
    assert found.provider_gate_enabled is False
    assert (found.idempotency_ttl_seconds, found.quota_prefix) == (60, "acme:quota")
    assert (found.heartbeat_interval_seconds, found.max_in_flight) == (5, 7)
    assert found.log_level == "DEBUG"
    assert found.pipeline == ("auth", "idempotency", "validation")
    assert "s3cr3t" not in repr(found)


def test_an_empty_variable_is_an_unset_one() -> None:
    """Compose and systemd set a variable that was left out to the empty string."""
    assert load(SERVER_A_PORT="", PIPELINE="", LOG_LEVEL="").port == 8000


def test_the_file_may_hold_everything(tmp_path: Path) -> None:
    """Order, options, clients and providers are read from TOML as they are from the environment."""
    found = load_file(
        tmp_path,
        """
        pipeline = ["auth", "idempotency", "validation", "provider_gate", "quota"]

        [stage.quota]
        disabled = "counted elsewhere"

        [stage.idempotency]
        on_store_error = "allow"

        [clients.s3cr3t-acme-0123456789]
        name = "acme"
        daily_quota = 5

        [providers.alpha]
        aliases = ["a"]
        """,
        "CLIENT_CONFIG",
        "PROVIDERS_CONFIG",
    )
    assert found.pipeline == ("auth", "idempotency", "validation", "provider_gate")
    assert found.disabled == {"quota": "counted elsewhere"}
    assert found.stage_options == {"quota": {}, "idempotency": {"on_store_error": "allow"}}
    client = found.clients.authenticate(b"s3cr3t-acme-0123456789")
    assert client is not None
    assert (client.name, client.daily_quota) == ("acme", 5)
    assert found.providers.resolve(["A"])[0].name == "alpha"


def test_both_sources_have_the_same_fingerprint(tmp_path: Path) -> None:
    """Two gateways are configured alike whether one of them uses a file or a digest and the other does not."""
    key = "s3cr3t-acme-0123456789"
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = {"name": "acme", "daily_quota": 5}
    from_environment = load(CLIENT_CONFIG=json.dumps({key: entry})).config_fingerprint
    from_file = load_file(
        tmp_path,
        f'[clients."sha256:{digest}"]\ndaily_quota = 5\nname = "acme"\n[providers.alpha]\n',
        "CLIENT_CONFIG",
        "PROVIDERS_CONFIG",
    ).config_fingerprint
    assert from_environment == from_file
    canonical = f'{{"sha256:{digest}":{{"daily_quota":5,"name":"acme"}}}}'
    assert from_environment.clients == hashlib.sha256(canonical.encode()).hexdigest()
    assert from_environment.providers == hashlib.sha256(b'{"alpha":{}}').hexdigest()


def test_an_operators_stage_is_wired_by_its_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked and constructed with its options like the built-in ones."""
    (tmp_path / "acme_wired.py").write_text(
        "from pipeline.stage import Stage\n"
        "class Blocklist(Stage):\n"
        "    def __init__(self, app, numbers):\n"
        "        super().__init__(app)\n"
        "        if not numbers:\n"
        "            raise ValueError('numbers must not be empty')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = 'pipeline = ["auth", "idempotency", "validation", "acme_wired:Blocklist"]\n[stage."acme_wired:Blocklist"]\n'
    assert load_file(tmp_path, text + "numbers = [1]").pipeline[-1] == "acme_wired:Blocklist"
    with pytest.raises(
        ConfigurationError, match=r'\[stage\."acme_wired:Blocklist"\] numbers must not be empty'
    ):
        load_file(tmp_path, text + "numbers = []")
    with pytest.raises(ConfigurationError, match=r'\[stage\."acme_wired:Blocklist"\] numbers: must be set'):
        load_file(tmp_path, text)


@pytest.mark.parametrize("variable", ["CLIENT_CONFIG", "PROVIDERS_CONFIG"])
@pytest.mark.parametrize(
    "document",
    [
        r'{"s3cr3t-key-0123456789\ud800": {"name": "acme"}}',
        r'{"s3cr3t-key-0123456789": {"name": "\udfff"}}',
        r'{"alpha": {"aliases": ["\ud800"]}}',
        r'{"alpha": {"note": [{"x": "\ud800"}]}}',
    ],
)
def test_half_a_character_is_told(variable: str, document: str) -> None:
    """JSON can write an unpaired surrogate, but nothing else can: it is a mistake, not a traceback."""
    with pytest.raises(ConfigurationError) as raised:
        load(**{variable: document})
    assert raised.value.mistakes == [
        f"{variable}: holds an unpaired surrogate (\\ud800 to \\udfff), which is no character"
    ]


def test_a_pair_of_surrogates_is_a_character() -> None:
    """Written in halves, as JSON does beyond the first plane, it is as good as any."""
    written = load(PROVIDERS_CONFIG=r'{"alpha": {"note": "\ud83d\ude00"}}')
    assert written.config_fingerprint == load(PROVIDERS_CONFIG='{"alpha": {"note": "😀"}}').config_fingerprint


def test_a_broken_env_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not UTF-8, or cannot be read at all, is a mistake too, and its words are not repeated."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"SERVICE_NAME=s3cr3t-caf\xe9\n")
    with pytest.raises(ConfigurationError) as raised:
        settings.environment()
    assert raised.value.mistakes == [".env: cannot be read as UTF-8: UnicodeDecodeError"]
    (tmp_path / ".env").write_text("# fine\nSERVICE_NAME=a\ns3cr3t and more\n\n'LOG_LEVEL\n")
    with pytest.raises(ConfigurationError) as raised:
        settings.environment()
    assert raised.value.mistakes == [
        f".env, line {number}: write NAME=VALUE, or # before it" for number in (3, 5)
    ]


def test_stages_of_ones_own_are_built_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks the clock when it is made works; one that raises whatever it likes is a mistake."""
    (tmp_path / "acme_built.py").write_text(
        "from pipeline.ports import Clock\n"
        "from pipeline.stage import Stage\n"
        "class Punctual(Stage):\n"
        "    def __init__(self, app, clock: Clock, **options):\n"
        "        super().__init__(app)\n"
        "        self.since = clock.now()\n"
        "        if 'broken' in options:\n"
        "            raise RuntimeError('not today')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "acme_built:Punctual"
    text = f'pipeline = ["auth", "idempotency", "validation", "{name}"]\n[stage."{name}"]\n'
    assert load_file(tmp_path, text + "anything = 1").stage_options[name] == {"anything": 1}
    with pytest.raises(ConfigurationError) as raised:
        load_file(tmp_path, text + "broken = true")
    assert raised.value.mistakes == [f'[stage."{name}"] cannot be built: RuntimeError: not today']


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, is_one: bool) -> None:
    """A name that merely looks like it is not."""
    assert is_loopback(host) is is_one


@pytest.mark.parametrize(("host", "legal"), [("127.0.0.1", True), ("0.0.0.0", False)])  # noqa: S104
def test_anonymous_is_for_loopback(host: str, legal: bool, tmp_path: Path) -> None:
    """A gateway without keys serves this machine only, unless it says otherwise."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        'pipeline = ["anonymous", "idempotency", "validation"]\n[stage.anonymous]\nclient = "acme"\n'
    )
    if legal:
        assert load(SERVER_A_HOST=host, GATEWAY_CONFIG=str(path)).is_loopback
    else:
        with pytest.raises(ConfigurationError, match="allow_public = true"):
            load(SERVER_A_HOST=host, GATEWAY_CONFIG=str(path))


def test_an_env_file_is_read_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In development ``.env`` fills in what the environment does not say; nothing in it is interpolated."""
    (tmp_path / ".env").write_text("SERVICE_NAME=from-file\nQUOTA_PREFIX=$HOME\nLOG_LEVEL\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICE_NAME", "from-environment")
    monkeypatch.delenv("QUOTA_PREFIX", raising=False)
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    found = settings.environment()
    assert (found["SERVICE_NAME"], found["QUOTA_PREFIX"]) == ("from-environment", "$HOME")
    assert "LOG_LEVEL" not in found


def test_nothing_is_opened_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging a configuration creates no file."""
    monkeypatch.chdir(tmp_path)
    load(REDIS_URL="embedded:var/x.db", RABBITMQ_URL="embedded:y.db")
    assert list(tmp_path.iterdir()) == []
