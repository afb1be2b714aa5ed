"""The envelope: one accepted message as the delivery side gets it (schema ``sms.outbound.v1``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from pipeline.facts import Message, Route
from pipeline.timing.timestamps import OPTION, in_json


@dataclass(frozen=True, slots=True)
class ConfigFingerprint:
    """SHA-256, in hex, of the configured clients and of the configured providers."""

    clients: str
    providers: str


@dataclass(slots=True)
class Envelope:
    """A message, where it goes and until when it is worth delivering. ``client`` is a name, never an API key."""

    tracking_id: str
    client: str
    message: Message
    route: Route
    config_fingerprint: ConfigFingerprint
    created_at: datetime

    @property
    def expires_at(self) -> datetime:
        """After this instant the message is not to be delivered any more."""
        return self.created_at + timedelta(seconds=self.message.ttl_seconds)

    def to_json(self) -> bytes:
        """The body that goes on the queue."""
        message = self.message
        return orjson.dumps(
            {
                "tracking_id": self.tracking_id,
                "client": self.client,
                "to": message.to,
                "text": message.text,
                "ttl_seconds": message.ttl_seconds,
                "expires_at": in_json(self.expires_at),
                "providers_original": message.providers,
                "providers_effective": self.route.providers,
                "config_fingerprint": {
                    "clients": self.config_fingerprint.clients,
                    "providers": self.config_fingerprint.providers,
                },
                "created_at": in_json(self.created_at),
            },
            option=OPTION,
        )
