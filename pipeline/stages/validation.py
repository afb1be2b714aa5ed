"""The stage ``validation``: the body against the schema of a request."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Message
from pipeline.failures import Refused
from pipeline.payload import Payload
from pipeline.stage import Stage
from schemas import Schema


class Validation(Stage):
    """Adds the message, with defaults, or refuses with every rule that the body breaks."""

    provides = frozenset({Message})

    def __init__(self, app: ASGIApp, schema: Schema) -> None:
        super().__init__(app)
        self.schema = schema
        self.default_ttl_seconds: int = schema.document["properties"]["ttl_seconds"]["default"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        payload = await context.payload(receive)
        if payload.problem or not self.schema.is_valid(payload.document):
            raise Refused(codes.INVALID_PAYLOAD, details={"errors": self._explain(payload)})
        context.add(self._message(payload.document))
        await self.app(scope, receive, send)

    def _explain(self, payload: Payload) -> list[dict[str, str]]:
        if payload.problem:
            return [{"path": "", "message": payload.problem, "rule": "json"}]
        try:
            return [violation.as_json() for violation in self.schema.violations_fast(payload.document)]
        except RecursionError:
            # jsonschema writes out what it refuses, though we do not show it. No valid request nests.
            return [{"path": "", "message": "must not be nested deeply", "rule": "json"}]

    def _message(self, document: dict[str, Any]) -> Message:
        providers = document.get("providers")
        return Message(
            to=document["to"],
            text=document["text"],
            # JSON Schema counts 60.0 among the integers.
            ttl_seconds=int(document.get("ttl_seconds", self.default_ttl_seconds)),
            providers=None if providers is None else tuple(providers),
        )
