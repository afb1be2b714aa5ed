"""Operators at work: stages reordered, disabled, replaced and added, over real sockets."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from pipeline import order
from tests.support.gateways import NUMBER, SEND, TEXT, Backend, Gateway, key_of
from tests.support.needs import on_embedded

StartGateway = Callable[..., Gateway]

LEGAL = [",".join(names) for names in permutations(order.DEFAULT_ORDER) if not order.mistakes(names)]


def write(tmp_path: Path, text: str) -> str:
    """The path of a configuration file with this text."""
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return str(path)


def test_there_are_nine_legal_orders() -> None:
    """Those that are served below."""
    assert len(LEGAL) == 9


@on_embedded
@pytest.mark.parametrize("names", LEGAL)
def test_every_legal_order_serves(start_gateway: StartGateway, own_backend: Backend, names: str) -> None:
    """A send is accepted once, replayed, and refused as the contract says."""
    gateway = start_gateway(PIPELINE=names)
    key = uuid.uuid4().hex
    first, second = gateway.send(key=key), gateway.send(key=key)
    assert first.status_code == 202
    assert second.content == first.content
    assert gateway.send(None).status_code == 401
    assert gateway.send(text="").status_code == 422
    assert gateway.send(providers=["off"]).status_code == 409
    assert gateway.send("nothing").status_code == 429
    assert len(own_backend.take_all()) == 1


def test_quota_taken_before_the_gate_refuses_is_given_back(start_gateway: StartGateway) -> None:
    """In the weaker order a refusal of the gate takes quota and gives it back."""
    gateway = start_gateway(PIPELINE="auth,idempotency,validation,quota,provider_gate")
    for key in (None, uuid.uuid4().hex, None):
        refused = gateway.send("small", key, providers=["off"])
        assert refused.status_code == 409
        assert refused.headers["ratelimit"].startswith('"daily";r=3;')
    assert gateway.send("small").headers["ratelimit"].startswith('"daily";r=2;')


def test_a_disabled_stage_does_nothing(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Without ``quota`` a client over its limit is served."""
    config = write(tmp_path, '[stage.quota]\ndisabled = "counted elsewhere"\n')
    gateway = start_gateway(GATEWAY_CONFIG=config)
    answer = gateway.send("nothing", uuid.uuid4().hex)
    assert answer.status_code == 202
    assert "ratelimit" not in answer.headers


def test_without_idempotency_a_key_means_nothing(start_gateway: StartGateway, own_backend: Backend) -> None:
    """Two requests with one key are two messages, and the start warned of it."""
    gateway = start_gateway(PIPELINE="auth,validation,provider_gate,quota")
    key = uuid.uuid4().hex
    assert gateway.send(key=key).json() != gateway.send(key=key).json()
    assert len(own_backend.take_all()) == 2
    assert any("a retry may send twice" in line["message"] for line in gateway.log_lines())


@pytest.mark.parametrize(
    "environ",
    [{"PIPELINE": "auth,idempotency,validation,quota"}, {"PROVIDER_GATE_ENABLED": "false"}],
)
@on_embedded
def test_without_the_gate_names_are_resolved_and_states_ignored(
    start_gateway: StartGateway, own_backend: Backend, environ: dict[str, str]
) -> None:
    """Aliases become canonical names, unknown names are refused, unusable providers stay in the route."""
    gateway = start_gateway(**environ)
    assert gateway.send(providers=["broken", "First", "OFF", "down"]).status_code == 202
    assert own_backend.take_all()[0]["providers_effective"] == ["down", "alpha", "off"]
    assert gateway.send("small", providers=["nobody"]).json()["error_code"] == "UNKNOWN_PROVIDER"
    assert gateway.send("small").headers["ratelimit"].startswith('"daily";r=2;')


@on_embedded
def test_anonymous_gives_every_request_to_one_client(
    start_gateway: StartGateway, own_backend: Backend, tmp_path: Path
) -> None:
    """With ``anonymous`` no key is needed, and the configured client pays."""
    config = write(
        tmp_path,
        'pipeline = ["anonymous", "idempotency", "validation", "provider_gate", "quota"]\n'
        '[stage.anonymous]\nclient = "small"\n',
    )
    gateway = start_gateway(GATEWAY_CONFIG=config)
    answer = gateway.http.post(SEND, json={"to": NUMBER, "text": TEXT})
    assert answer.status_code == 202
    assert answer.headers["ratelimit"].startswith('"daily";r=2;')
    assert own_backend.take_all()[0]["client"] == "small"


OWN_STAGE = '''
"""An operator's own stage."""

from pipeline.codes import Code
from pipeline.context import Context
from pipeline.facts import Message
from pipeline.failures import Refused

BLOCKED = Code("RECIPIENT_BLOCKED", 403, "This recipient wants no messages.")


class Blocklist:
    needs = frozenset({Message})
    provides = frozenset()

    def __init__(self, app, numbers):
        self.app = app
        self.numbers = frozenset(numbers)

    async def __call__(self, scope, receive, send):
        if Context.of(scope)[Message].to in self.numbers:
            raise Refused(BLOCKED)
        await self.app(scope, receive, send)


class Broken(Blocklist):
    async def __call__(self, scope, receive, send):
        raise RuntimeError(f"a bug that quotes {Context.of(scope)[Message].text}")
'''


@on_embedded
def test_an_operators_own_stage_is_served_by_its_import_path(
    start_gateway: StartGateway, own_backend: Backend, tmp_path: Path
) -> None:
    """It takes its options from the file, refuses with a code of its own, and is measured like the rest."""
    (tmp_path / "acme_stages.py").write_text(OWN_STAGE)
    config = write(
        tmp_path,
        'pipeline = ["auth", "idempotency", "validation", "acme_stages:Blocklist", "quota"]\n'
        '[stage."acme_stages:Blocklist"]\nnumbers = ["+4915112345678"]\n',
    )
    root = str(Path(__file__).parents[2])
    gateway = start_gateway(GATEWAY_CONFIG=config, PYTHONPATH=f"{root}:{tmp_path}")
    blocked = gateway.send(to="+4915112345678")
    assert (blocked.status_code, blocked.json()["error_code"]) == (403, "RECIPIENT_BLOCKED")
    assert gateway.send().status_code == 202
    assert len(own_backend.take_all()) == 1
    assert (
        'sms_stage_refusals_total{code="RECIPIENT_BLOCKED",stage="acme_stages:Blocklist"} 1.0'
        in gateway.http.get("/metrics").text
    )


def test_a_bug_is_a_500_that_tells_the_client_nothing_and_the_log_where(
    start_gateway: StartGateway, own_backend: Backend, tmp_path: Path
) -> None:
    """INTERNAL_ERROR in the one form, quota given back; the log has the places, not the words, which quote the text."""
    (tmp_path / "acme_stages.py").write_text(OWN_STAGE)
    config = write(
        tmp_path,
        'pipeline = ["auth", "idempotency", "validation", "quota", "acme_stages:Broken"]\n'
        '[stage."acme_stages:Broken"]\nnumbers = []\n',
    )
    root = str(Path(__file__).parents[2])
    gateway = start_gateway(GATEWAY_CONFIG=config, PYTHONPATH=f"{root}:{tmp_path}")
    for key in (None, uuid.uuid4().hex):
        answer = gateway.send("small", key)
        assert (answer.status_code, answer.json()["error_code"]) == (500, "INTERNAL_ERROR")
        assert answer.json()["details"] is None
        assert answer.headers["ratelimit"].startswith('"daily";r=3;')
        assert "RuntimeError" not in answer.text
    line = next(line for line in gateway.log_lines() if line.get("error_code") == "INTERNAL_ERROR")
    assert line["level"] == "ERROR"
    assert "RuntimeError" in line["exception"]
    assert "acme_stages.py:" in line["exception"]
    assert TEXT not in gateway.log_text()
    assert own_backend.take_all() == []


@on_embedded
def test_a_key_that_is_configured_by_its_digest_is_a_key(start_gateway: StartGateway) -> None:
    """``sha256:<hex>`` in the configuration, the key itself in the request."""
    digest = hashlib.sha256(key_of("acme").encode()).hexdigest()
    gateway = start_gateway(CLIENT_CONFIG=json.dumps({f"sha256:{digest}": {"name": "acme"}}))
    assert gateway.send("acme").status_code == 202
    headers = {"API-Key": f"sha256:{digest}"}
    assert gateway.http.post(SEND, json={"to": NUMBER, "text": TEXT}, headers=headers).status_code == 401
