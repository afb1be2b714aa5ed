"""One key, one message: over real sockets, with the retries that senders make."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.gateways import NUMBER, SEND, TEXT, Backend, Gateway, key_of

ALL_IN = '{"alpha": {}, "beta": {}}'
ALL_OUT = '{"alpha": {"is_active": false}, "beta": {"is_operational": false}}'


def test_a_retry_gets_the_first_answer_byte_for_byte(gateway: Gateway, backend: Backend) -> None:
    """Status, body and content type are the first one's; only the replay says that it is one."""
    key = uuid.uuid4().hex
    first, second = gateway.send(key=key), gateway.send(key=key)
    assert first.status_code == second.status_code == 202
    assert (first.content, first.headers["content-type"]) == (second.content, second.headers["content-type"])
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert "ratelimit" not in second.headers
    assert len(backend.take_all()) == 1


def test_fifty_simultaneous_requests_with_one_key_give_one_message(
    gateway: Gateway, backend: Backend
) -> None:
    """All of them are accepted or told to wait, with one tracking_id; the queue has one message, the quota one less."""
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: gateway.send_until_served("keyed", key), range(50)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    codes = {answer.json()["error_code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"IDEMPOTENCY_IN_PROGRESS"}
    assert len({answer.json()["tracking_id"] for answer in answers}) == 1
    assert len([answer for answer in answers if "ratelimit" in answer.headers]) == 1
    assert len(backend.take_all()) == 1
    assert gateway.send("keyed").headers["ratelimit"].startswith('"daily";r=3;')


def test_five_hundred_at_once_against_ninety_nine_left_accept_exactly_ninety_nine(
    gateway: Gateway, backend: Backend
) -> None:
    """The quota is exact under simultaneous requests."""
    with ThreadPoolExecutor(50) as pool:
        crowd = pool.map(lambda _: gateway.send_until_served("crowd"), range(500))
        answers = [answer.status_code for answer in crowd]
    assert (answers.count(202), answers.count(429)) == (99, 401)
    assert len(backend.take_all()) == 99


def test_a_bare_key_and_its_quoted_form_are_the_same_key(gateway: Gateway, backend: Backend) -> None:
    """``abc`` and ``"abc"`` mean the same, escapes included."""
    key = uuid.uuid4().hex
    assert gateway.send(key=f'{key}"\\').json() == gateway.send(key=f'"{key}\\"\\\\"').json()
    assert len(backend.take_all()) == 1


def test_the_longest_key_is_a_key(gateway: Gateway) -> None:
    """255 characters, bare or quoted."""
    key = uuid.uuid4().hex.ljust(255, "k")
    assert gateway.send(key=key).json() == gateway.send(key=f'"{key}"').json()


def test_one_key_of_two_clients_is_two_keys(gateway: Gateway, backend: Backend) -> None:
    """Keys are each client's own."""
    key = uuid.uuid4().hex
    ids = {gateway.send(client, key).json()["tracking_id"] for client in ("acme", "other")}
    assert len(ids) == 2
    assert len(backend.take_all()) == 2


def test_a_rotated_api_key_finds_the_old_ones_answers(gateway: Gateway, backend: Backend) -> None:
    """Two API keys with one client name share one idempotency space."""
    key = uuid.uuid4().hex
    first, second = gateway.send("acme", key), gateway.send("acme-rotated", key)
    assert second.headers["idempotent-replayed"] == "true"
    assert first.content == second.content
    assert len(backend.take_all()) == 1


def test_the_order_of_members_and_white_space_do_not_matter(gateway: Gateway, backend: Backend) -> None:
    """The fingerprint is over the canonical body."""
    headers = {
        "API-Key": key_of("acme"),
        "Content-Type": "application/json",
        "Idempotency-Key": uuid.uuid4().hex,
    }
    bodies = (b'{"to":"+989121234567","text":"x"}', b'{ "text" : "\\u0078",\n "to": "+989121234567" }')
    first, second = (gateway.http.post(SEND, content=body, headers=headers) for body in bodies)
    assert second.headers["idempotent-replayed"] == "true"
    assert len(backend.take_all()) == 1
    assert first.content == second.content


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"text": ""}, "INVALID_PAYLOAD"),
        ({"providers": ["nobody"]}, "UNKNOWN_PROVIDER"),
    ],
)
def test_a_verdict_on_the_payload_is_replayed(gateway: Gateway, body: dict[str, Any], code: str) -> None:
    """Refusals that answer this payload are kept, timestamp and all."""
    key = uuid.uuid4().hex
    first, second = gateway.send(key=key, **body), gateway.send(key=key, **body)
    assert first.json()["error_code"] == code
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"


def test_a_refusal_of_the_moment_is_not_replayed(
    start_gateway: Callable[..., Gateway], own_backend: Backend
) -> None:
    """After 429 the same request under the same key succeeds once there is quota: with one message in the end."""
    strict = start_gateway(CLIENT_CONFIG='{"sender-0123456789-key": {"name": "sender", "daily_quota": 0}}')
    headers = {"API-Key": "sender-0123456789-key", "Idempotency-Key": uuid.uuid4().hex}
    body = {"to": NUMBER, "text": TEXT}
    refused = strict.http.post(SEND, json=body, headers=headers)
    assert refused.status_code == 429
    strict.stop()
    generous = start_gateway(CLIENT_CONFIG='{"sender-0123456789-key": {"name": "sender", "daily_quota": 1}}')
    accepted = generous.http.post(SEND, json=body, headers=headers)
    assert accepted.status_code == 202
    assert "idempotent-replayed" not in accepted.headers
    assert accepted.headers["ratelimit"].startswith('"daily";r=0;')
    assert [envelope["tracking_id"] for envelope in own_backend.take_all()] == [
        accepted.json()["tracking_id"]
    ]


@pytest.mark.parametrize(
    ("providers", "code"),
    [(["alpha"], "PROVIDER_DISABLED"), (["alpha", "beta"], "ALL_PROVIDERS_DISABLED")],
)
def test_a_provider_that_comes_back_revives_its_refusals(
    start_gateway: Callable[..., Gateway], own_backend: Backend, providers: list[str], code: str
) -> None:
    """In an outage senders retry under the same keys: once a provider is back they are accepted."""
    key = uuid.uuid4().hex
    out = start_gateway(PROVIDERS_CONFIG=ALL_OUT)
    refused = [out.send(key=key, providers=providers) for _ in range(2)]
    assert [answer.json()["error_code"] for answer in refused] == [code, code]
    assert not any("idempotent-replayed" in answer.headers for answer in refused)
    out.stop()
    accepted = start_gateway(PROVIDERS_CONFIG=ALL_IN).send(key=key, providers=providers)
    assert accepted.status_code == 202
    assert [envelope["tracking_id"] for envelope in own_backend.take_all()] == [
        accepted.json()["tracking_id"]
    ]


@pytest.mark.parametrize("gone", ['{"beta": {}}', '{"alpha": {"is_active": false}, "beta": {}}'])
def test_what_was_accepted_is_not_refused_later_where_the_gate_comes_first(
    start_gateway: Callable[..., Gateway], own_backend: Backend, gone: str
) -> None:
    """A provider that is taken out between two attempts cannot make a stored message look refused."""
    order = "auth,validation,provider_gate,idempotency,quota"
    key = uuid.uuid4().hex
    before = start_gateway(PROVIDERS_CONFIG=ALL_IN, PIPELINE=order)
    first = before.send(key=key, providers=["alpha"])
    before.kill()
    after = start_gateway(PROVIDERS_CONFIG=gone, PIPELINE=order)
    again = after.send(key=key, providers=["alpha"])
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert after.send(key=uuid.uuid4().hex, providers=["alpha"]).status_code in {409, 422}
    assert after.send(providers=["alpha"]).status_code in {409, 422}
    assert len(own_backend.take_all()) == 1


def test_a_corrected_message_under_an_old_key_is_told_what_became_of_the_first(gateway: Gateway) -> None:
    """Whether the first was accepted decides what its sender does next."""
    for first, expected in (({}, "accepted"), ({"text": ""}, "refused")):
        key = uuid.uuid4().hex
        gateway.send(key=key, **first)
        corrected = gateway.send(key=key, text="corrected")
        assert corrected.status_code == 422
        assert corrected.json()["details"] == {"first": expected}


def test_answers_survive_a_kill_of_the_gateway(
    start_gateway: Callable[..., Gateway], own_backend: Backend
) -> None:
    """What was answered before SIGKILL is replayed after the restart, and stands on the queue once."""
    first = start_gateway()
    key = uuid.uuid4().hex
    answer = first.send(key=key)
    first.kill()
    replay = start_gateway().send(key=key)
    assert replay.headers["idempotent-replayed"] == "true"
    assert replay.content == answer.content
    assert len(own_backend.take_all()) == 1
