"""The settings: the one declaration of each, and how all of them are loaded, with every mistake told at once."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream

import schemas
from gateway.clock import SystemClock
from gateway.config import certificates, clients, parsers, providers, stages
from gateway.config.clients import ConfiguredClients
from gateway.config.fingerprint import fingerprint
from gateway.config.sources import FILE, Sources
from gateway.config.variables import declared_in, part_of_file, setting
from pipeline import wiring
from pipeline.envelope import ConfigFingerprint
from pipeline.order import DEFAULT_ORDER
from pipeline.ports import Exposure, GateSwitch
from pipeline.providers import Providers
from pipeline.wiring import Services

# What opens something or is told something is not there while a configuration is judged.
_LATER: Any = None


class ConfigurationError(Exception):
    """The configuration has mistakes; ``mistakes`` holds all of them, each saying where it is and what to write."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that operators configure, in the order of the documentation, and what follows from it.

    What is declared here is all there is to say of a setting: it is read, judged and documented by it. ``make fmt``
    writes the table of the documentation and ``.env.example`` anew.
    """

    service_name: str = setting(
        "SERVICE_NAME",
        default="server-a",
        read=parsers.service_name,
        meaning="the name in log lines, heartbeats and on messages (`app_id`)",
    )
    host: str = setting(
        "SERVER_A_HOST",
        default="0.0.0.0",  # noqa: S104 - the contract's default
        read=parsers.host,
        meaning="the address to listen on; `127.0.0.1` for this machine only",
    )
    port: int = setting(
        "SERVER_A_PORT", default="8000", read=parsers.whole(0, 65535), meaning="the port to listen on"
    )
    redis_url: str = setting(
        "REDIS_URL",
        is_required=True,
        is_secret=True,
        example="redis://127.0.0.1:6379/0",
        read=parsers.redis_url,
        meaning="where claims and quotas are kept: `redis://`, `rediss://` (TLS), `unix://PATH` (a socket of this "
        "machine), `redis+sentinel://` and `redis+cluster://` (clusters; with TLS `rediss+sentinel://` and "
        "`rediss+cluster://`), or `embedded:PATH` for an SQLite file. Behind a `?`: "
        "[the options of TLS](operating.md#tls), and redis-py's",
    )
    rabbitmq_url: str = setting(
        "RABBITMQ_URL",
        is_required=True,
        is_secret=True,
        example="amqp://user:password@127.0.0.1:5672/",
        read=parsers.rabbitmq_url,
        meaning="where messages go: `amqp://`, `amqps://` (TLS), several of one cluster separated by commas, or "
        "`embedded:PATH` for an SQLite file. Behind a `?`: [the options of TLS](operating.md#tls), `heartbeat`, "
        "`timeout`, `name` and `auth`; anything else is a mistake",
    )
    exchange: str = setting(
        "RABBITMQ_EXCHANGE",
        default="sms.outbound",
        read=parsers.amqp_name,
        meaning="the durable direct exchange that messages are published to",
    )
    queue: str = setting(
        "RABBITMQ_QUEUE",
        default="sms.outbound",
        read=parsers.amqp_name,
        meaning="the durable queue that Server B reads, bound by its own name",
    )
    queue_type: str = setting(
        "RABBITMQ_QUEUE_TYPE",
        default="quorum",
        read=parsers.one_of("quorum", "classic"),
        meaning="the type of that queue: `quorum` or `classic`",
    )
    heartbeat_exchange: str = setting(
        "RABBITMQ_HEARTBEAT_EXCHANGE",
        default="sms.heartbeat",
        read=parsers.amqp_name,
        meaning="the durable fanout exchange of heartbeats",
    )
    heartbeat_queue: str = setting(
        "RABBITMQ_HEARTBEAT_QUEUE",
        default="sms.heartbeat",
        read=parsers.amqp_name,
        meaning="the durable queue of heartbeats for Server B; the oldest fall out when it is full",
    )
    spool: str | None = setting(
        "RABBITMQ_SPOOL",
        example="var/spool.db",
        read=parsers.path,
        meaning="the path of a file in which messages wait while RabbitMQ cannot take them; unset, they are refused. "
        "Not together with a `RABBITMQ_URL` of `embedded:PATH`",
    )
    spool_max_messages: int = setting(
        "SPOOL_MAX_MESSAGES",
        default="100000",
        read=parsers.whole(1, 100_000_000),
        meaning="how many messages may wait in it; then they are refused with 503",
    )
    provider_gate_enabled: bool = setting(
        "PROVIDER_GATE_ENABLED",
        default="true",
        read=parsers.yes_or_no,
        meaning="whether providers out of use are dropped; with `false` names are resolved and that is all",
    )
    idempotency_ttl_seconds: int = setting(
        "IDEMPOTENCY_TTL_SECONDS",
        default="86400",
        # A record that ends before its own lease could be claimed twice.
        read=parsers.whole(60, 31_536_000, "seconds"),
        meaning="how many seconds the answer under an `Idempotency-Key` is kept",
    )
    quota_prefix: str = setting(
        "QUOTA_PREFIX",
        default="quota",
        read=parsers.key_prefix,
        meaning="how the keys of quotas begin in Redis",
    )
    heartbeat_interval_seconds: int = setting(
        "HEARTBEAT_INTERVAL_SECONDS",
        default="60",
        read=parsers.whole(1, 86_400, "seconds"),
        meaning="the seconds from one heartbeat to the next",
    )
    max_in_flight: int = setting(
        "MAX_IN_FLIGHT",
        default="512",
        read=parsers.whole(1, 1_000_000),
        meaning="how many sends one process works on at once; one more is refused at once with 503",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        default="INFO",
        read=parsers.log_level,
        meaning="the least level that is logged: `TRACE`, `DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`",
    )
    clients: ConfiguredClients = part_of_file(  # noqa: RUF009 - it makes a field
        "CLIENT_CONFIG",
        "clients",
        meaning='the clients, as JSON: API key, or `sha256:<hex of it>`, to `{"name", "is_active", "daily_quota"}`',
    )
    providers: Providers = part_of_file(  # noqa: RUF009 - it makes a field
        "PROVIDERS_CONFIG",
        "providers",
        meaning='the providers, as JSON: name to `{"is_active", "is_operational", "aliases", "note"}`',
    )
    pipeline: tuple[str, ...] = part_of_file(
        "PIPELINE",
        "pipeline",
        example=",".join(DEFAULT_ORDER),
        meaning="the stages in their order, separated by commas; unset means the default order",
    )
    config_file: str | None = setting(
        FILE,
        example="gateway.toml",
        read=str,
        meaning="the path of a TOML file with any of `pipeline`, `[stage.NAME]`, `[clients]` and `[providers]`; what "
        "it sets must not be set by a variable as well",
    )
    config_fingerprint: ConfigFingerprint
    disabled: Mapping[str, str]
    stage_options: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return is_loopback(self.host)


VARIABLES = declared_in(Settings)
"""Every environment variable, by the field of ``Settings`` that it sets."""


def is_loopback(host: str) -> bool:
    """Whether who listens on ``host``, a name or an address, is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def environment() -> dict[str, str]:
    """The environment variables, over those of an ``.env`` file in the working directory."""
    try:
        with Path(".env").open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f".env: cannot be read as UTF-8: {type(error).__name__}"]) from None
    # What stands there may be a secret, and is not repeated.
    wrong = [f".env, line {_number(line)}: write NAME=VALUE, or # before it" for line in lines if line.error]
    if wrong:
        raise ConfigurationError(wrong)
    return {line.key: line.value for line in lines if line.key and line.value is not None} | os.environ


def _number(line: Binding) -> int:
    """Its number in the file; one that follows empty lines is given with them."""
    return line.original.line + re.match(r"\s*", line.original.string)[0].count("\n")  # type: ignore[index]  # It matches.


def load(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ`` and in the file that it names.

    Raises ``ConfigurationError``. Opens nothing but that file and the certificates that the URLs name; imports the
    operator's own stages.
    """
    sources = Sources(environ)
    values = {field: sources.value(one) for field, one in VARIABLES.items() if not one.part}
    sources.mistakes += _contradictions(values)
    wrong, weak = _certificates(values)
    sources.mistakes += wrong
    sources.warnings += weak
    client_document = sources.document(VARIABLES["clients"], clients)
    provider_document = sources.document(VARIABLES["providers"], providers)
    configured = stages.read(sources, VARIABLES["pipeline"])
    found = ConfiguredClients(client_document)
    services = Services(
        clients=found,
        claims=_LATER,
        quotas=_LATER,
        providers=providers.catalogue(provider_document),
        clock=SystemClock(),
        telemetry=_LATER,
        schema=schemas.load("request"),
        exposure=Exposure(is_loopback(values["host"])),
        gate_switch=GateSwitch(values["provider_gate_enabled"]),
    )
    sources.mistakes += wiring.mistakes(configured.pipeline, configured.options, services)
    if sources.mistakes:
        raise ConfigurationError(sources.mistakes)
    return Settings(
        **values,
        clients=found,
        providers=services.providers,
        config_fingerprint=ConfigFingerprint(found.fingerprint, fingerprint(provider_document)),
        pipeline=configured.pipeline,
        disabled=configured.disabled,
        stage_options=configured.options,
        warnings=tuple(sources.warnings),
    )


def _certificates(values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong and what is weak about the certificates and keys of TLS."""
    readers = {"redis_url": parsers.redis_tls, "rabbitmq_url": parsers.rabbitmq_tls}
    found = {VARIABLES[field].name: read(values[field]) for field, read in readers.items() if values[field]}
    return certificates.judge(found, SystemClock().now().timestamp())


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that do not go together, and names that are one thing on the broker and are to be two."""
    name = {field: variable.name for field, variable in VARIABLES.items()}
    found = []
    if values["spool"] and str(values["rabbitmq_url"]).startswith(parsers.EMBEDDED):
        found.append(
            f"{name['spool']}: {name['rabbitmq_url']} names a file already, so that there is no broker to wait for. "
            "Leave one of the two out"
        )
    dead = f"{values['queue']}.dead"
    if values["heartbeat_exchange"] in {values["exchange"], dead}:
        found.append(
            f"{name['heartbeat_exchange']} must be another name than {name['exchange']} "
            f"and than {name['queue']}'s dead-letter exchange"
        )
    if values["heartbeat_queue"] in {values["queue"], dead}:
        found.append(
            f"{name['heartbeat_queue']} must be another name than {name['queue']} and than its dead-letter queue"
        )
    return found
