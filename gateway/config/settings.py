"""The settings: read from the environment and the TOML file, with every mistake reported at once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

import schemas
from gateway.clock import SystemClock
from gateway.config import clients, documents, providers, variables
from gateway.config.clients import ConfiguredClients
from gateway.config.fingerprint import fingerprint
from gateway.config.variables import Variable
from pipeline import order, wiring
from pipeline.envelope import ConfigFingerprint
from pipeline.providers import Providers

_FILE_PARTS = ("pipeline", "stage", "clients", "providers")


class ConfigurationError(Exception):
    """The configuration has mistakes; ``mistakes`` holds all of them, each saying where it is and what to write."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that operators configure. ``gateway.config.variables`` says what each means."""

    service_name: str
    host: str
    port: int
    redis_url: str = field(repr=False)
    rabbitmq_url: str = field(repr=False)
    exchange: str
    queue: str
    queue_type: str
    heartbeat_exchange: str
    heartbeat_queue: str
    spool: str | None
    spool_max_messages: int
    provider_gate_enabled: bool
    idempotency_ttl_seconds: int
    quota_prefix: str
    heartbeat_interval_seconds: int
    max_in_flight: int
    log_level: str
    clients: ConfiguredClients
    providers: Providers
    config_fingerprint: ConfigFingerprint
    pipeline: tuple[str, ...]
    disabled: Mapping[str, str]
    stage_options: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether who listens on ``host``, a name or an address, is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def environment() -> dict[str, str]:
    """The environment variables, over those of an ``.env`` file in the working directory."""
    try:
        read = dotenv_values(".env", interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f".env: cannot be read as UTF-8: {type(error).__name__}"]) from None
    written = {name: value for name, value in read.items() if value is not None}
    return {**written, **os.environ}


def load(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ`` and in the file that it names.

    Raises ``ConfigurationError``. Opens nothing but that file; imports the operator's own stages.
    """
    return _Reader(environ).settings()


class _Reader:
    """Reads everything before it complains of anything."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[str] = []
        self.warnings: list[str] = []
        self.file = self._read_file()

    def settings(self) -> Settings:
        v = variables
        scalars = {
            "service_name": self._value(v.SERVICE_NAME),
            "host": self._value(v.HOST),
            "port": self._value(v.PORT),
            "redis_url": self._required(v.REDIS_URL, v.REDIS_EXAMPLE),
            "rabbitmq_url": self._required(v.RABBITMQ_URL, v.RABBITMQ_EXAMPLE),
            "exchange": self._value(v.EXCHANGE),
            "queue": self._value(v.QUEUE),
            "queue_type": self._value(v.QUEUE_TYPE),
            "heartbeat_exchange": self._value(v.HEARTBEAT_EXCHANGE),
            "heartbeat_queue": self._value(v.HEARTBEAT_QUEUE),
            "spool": self._value(v.SPOOL),
            "spool_max_messages": self._value(v.SPOOL_MAX_MESSAGES),
            "provider_gate_enabled": self._value(v.GATE_ENABLED),
            "idempotency_ttl_seconds": self._value(v.IDEMPOTENCY_TTL),
            "quota_prefix": self._value(v.QUOTA_PREFIX),
            "heartbeat_interval_seconds": self._value(v.HEARTBEAT_INTERVAL),
            "max_in_flight": self._value(v.MAX_IN_FLIGHT),
            "log_level": self._value(v.LOG_LEVEL),
        }
        if scalars["spool"] and str(scalars["rabbitmq_url"]).startswith(v.EMBEDDED):
            self.mistakes.append(
                f"{v.SPOOL.name}: {v.RABBITMQ_URL.name} names a file already, so that there is no broker to wait for. "
                "Leave one of the two out"
            )
        self.mistakes += variables.clashes(scalars)
        client_document = self._document(v.CLIENT_CONFIG, "clients", clients)
        provider_document = self._document(v.PROVIDERS_CONFIG, "providers", providers)
        options, disabled = self._stage_tables()
        pipeline = self._pipeline(disabled, options)
        configured_clients = ConfiguredClients(client_document)
        catalogue = providers.catalogue(provider_document)
        services = {
            **dict.fromkeys(("claims", "quotas", "telemetry", "provider_gate_enabled")),
            "clock": SystemClock(),
            "clients": configured_clients,
            "providers": catalogue,
            "schema": schemas.load("request"),
            "is_loopback": is_loopback(scalars["host"]),
        }
        self.mistakes += wiring.mistakes(pipeline, options, services)
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        return Settings(
            **scalars,
            clients=configured_clients,
            providers=catalogue,
            config_fingerprint=ConfigFingerprint(
                configured_clients.fingerprint, fingerprint(provider_document)
            ),
            pipeline=pipeline,
            disabled=disabled,
            stage_options=options,
            warnings=tuple(self.warnings),
        )

    def _text(self, variable: Variable) -> str | None:
        # Compose and systemd set a variable that was left out to the empty string.
        return self.environ.get(variable.name) or None

    def _value(self, variable: Variable) -> Any:
        text = self._text(variable)
        if text is None:
            text = variable.default
        if text is None:
            return None
        try:
            return variable.read(text)
        except ValueError as error:
            self.mistakes.append(f"{variable.name}: {error}")
            return None

    def _required(self, variable: Variable, example: str) -> Any:
        if self._text(variable) is None:
            self.mistakes.append(
                f"{variable.name}: is not set. Write {variable.name}={example}, or "
                f"{variable.name}={variables.EMBEDDED}var/gateway.db to keep it in one file on this machine"
            )
        return self._value(variable)

    def _read_file(self) -> dict[str, Any]:
        path = self._text(variables.GATEWAY_CONFIG)
        if path is None:
            return {}
        name = variables.GATEWAY_CONFIG.name
        try:
            document = documents.read_toml(Path(path))
        except ValueError as error:
            self.mistakes.append(f"{name}: the file '{path}' {error}")
            return {}
        self.mistakes += [
            f"{name}: the file '{path}' {words}" for words in documents.unknown(document, _FILE_PARTS)
        ]
        return document

    def _from_one_source(self, variable: Variable, part: str) -> bool:
        """Whether the file has it; complains when the environment has it too."""
        if part in self.file and self._text(variable) is not None:
            self.mistakes.append(
                f"{variable.name} and '{part}' in the file of {variables.GATEWAY_CONFIG.name} are both set: "
                "keep one of the two"
            )
        return part in self.file

    def _document(self, variable: Variable, part: str, kind: Any) -> dict[str, Any]:
        """Clients or providers, from their one source; ``kind`` is the module that judges them."""
        is_in_file = self._from_one_source(variable, part)
        where = f"[{part}] in the file of {variables.GATEWAY_CONFIG.name}" if is_in_file else variable.name
        try:
            document = (
                documents.checked(self.file[part])
                if is_in_file
                else documents.parse(self._text(variable) or "{}")
            )
        except ValueError as error:
            self.mistakes.append(f"{where}: {error}")
            return {}
        found = kind.mistakes(document)
        if found:
            self.mistakes += [f"{where}: {mistake}" for mistake in found]
            return {}
        self.warnings += kind.warnings(document)
        return dict(document)

    def _stage_tables(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        tables = self.file.get("stage", {})
        options: dict[str, dict[str, Any]] = {}
        disabled: dict[str, str] = {}
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self.mistakes.append("stage: write a table for each stage, such as [stage.quota]")
            return options, disabled
        for name, table in tables.items():
            options[name] = {key: value for key, value in table.items() if key != "disabled"}
            if "disabled" not in table:
                continue
            reason = table["disabled"]
            if isinstance(reason, str) and reason.strip():
                disabled[name] = reason
            else:
                self.mistakes.append(
                    f'[stage.{name}] disabled: write the reason, as in disabled = "quota is kept elsewhere"'
                )
        return options, disabled

    def _pipeline(self, disabled: Mapping[str, str], options: Mapping[str, object]) -> tuple[str, ...]:
        """The stages that serve."""
        listed = self._listed()
        effective = tuple(name for name in listed if name not in disabled)
        found = [f"PIPELINE: {mistake}" for mistake in order.mistakes(effective)]
        if found and (suggestion := order.suggestion(effective)):
            found[-1] += f". {suggestion}"
        self.mistakes += found
        for name in options:
            if name not in listed:
                try:
                    order.find(name)
                except LookupError as error:
                    self.mistakes.append(f"[stage.{name}]: the stage {error}")
                else:
                    self.warnings.append(f"[stage.{name}] has no effect: the stage is not in the pipeline")
        self.warnings += order.warnings(effective)
        return effective

    def _listed(self) -> tuple[str, ...]:
        if self._from_one_source(variables.PIPELINE, "pipeline"):
            listed = self.file["pipeline"]
            if not (isinstance(listed, list) and all(isinstance(name, str) for name in listed)):
                self.mistakes.append(
                    'pipeline: write a list of stage names, such as pipeline = ["auth", "validation"]'
                )
                return order.DEFAULT_ORDER
            return tuple(listed)
        text = self._text(variables.PIPELINE)
        if text is None:
            return order.DEFAULT_ORDER
        return tuple(name.strip() for name in text.split(",") if name.strip())
