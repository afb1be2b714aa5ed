"""The store on Redis: the ports ``Claims`` and ``Quotas``, and the dependency ``store``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from gateway.dependency import CallWatcher, ConnectionWatcher, Result, Step
from gateway.redis import packing, scripts, urls
from gateway.redis.cluster import ClusterAddress, ClusterLink
from gateway.redis.keys import Keys
from gateway.redis.link import Link, NotSent
from gateway.redis.scripts import Script
from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Reservation, derive_tracking_id
from pipeline.ports import (
    Begun,
    ClaimLost,
    InProgress,
    OtherPayload,
    QuotaExceeded,
    Replay,
    StoreUnavailable,
)
from pipeline.timing.timeouts import within

# A day's counter is of use until the day is over, and while a request of that day may still give back.
_COUNTER_SECONDS = 2 * 86400
# What the record of a refusal takes besides the packed answer, about (docs/sizing.md).
_RECORD_BYTES = 200
# Longer than a give-back that the store fails is tried again (gateway.retries).
_RESERVATION_MS = 300_000


class RedisStore:
    """Claims and quotas on the Redis at ``url``: one server, a primary with Sentinels, or a Cluster.

    ``gateway.redis.urls`` lists the forms of URLs. Every step is one script and one round trip, and no step is sent
    twice unless a node of a Cluster answers that another node has to carry it out. Each takes at most
    ``call_seconds`` and raises ``StoreUnavailable`` when no reply came in that time, whatever the reason; the reason
    holds no secret. Claims are held for ``lease_seconds`` by the server's clock; answers are kept for
    ``idempotency_ttl_seconds``, and so are claims that nobody settles; but of refusals only ``max_refusal_bytes`` for
    each client in each period of so many seconds. ``on_connection`` is told when the connection is up, and when it is
    lost again; a Cluster is up when all of its primaries are.

    Raises ``ValueError`` for a URL that cannot be read and for a ``quota_prefix`` with a brace.
    """

    name = "store"

    def __init__(
        self,
        url: str,
        *,
        quota_prefix: str = "quota",
        idempotency_ttl_seconds: int = 86400,
        lease_seconds: float = 15.0,
        max_refusal_bytes: int = 1_048_576,
        call_seconds: float = 0.25,
        on_connection: ConnectionWatcher = lambda _: None,
        on_call: CallWatcher = lambda operation, seconds, has_failed: None,
    ) -> None:
        self._keys = Keys(quota_prefix)
        self._lease_ms = round(lease_seconds * 1000)
        self._keep_ms = idempotency_ttl_seconds * 1000
        self._max_refusal_bytes = max_refusal_bytes
        self._call_seconds = call_seconds
        self._on_call = on_call
        try:
            address = urls.parse(url)
        except ValueError as error:
            raise ValueError(f"the URL of Redis {error}") from None
        self._link: Link | ClusterLink
        if isinstance(address, ClusterAddress):
            self._link = ClusterLink(address, call_seconds, on_connection)
        else:
            self._link = Link(address, call_seconds, on_connection)

    async def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    async def ping(self) -> None:
        """Return when the server, or every primary of the cluster, has taken a write. Raises ``StoreUnavailable``."""
        try:
            await within(self._call_seconds, self._link.ping())
        except (TimeoutError, RedisError) as error:
            unavailable = self._unavailable(error)
        else:
            return
        raise unavailable

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    def begin(self, claim: Claim) -> Step[Begun | Replay | InProgress | OtherPayload]:
        """See ``Claims``. Begun twice with one token, it gives the same again."""
        arguments = (claim.fingerprint, claim.token, self._lease_ms, self._keep_ms)
        return self._call("begin", scripts.BEGIN, (self._record(claim),), arguments, partial(_begun, claim))

    def arm(self, claim: Claim) -> Step[None]:
        """See ``Claims``."""
        return self._call("arm", scripts.ARM, (self._record(claim),), (claim.token,), partial(_armed, claim))

    def complete(self, claim: Claim, answer: Answer) -> Step[None]:
        """See ``Claims``. A refusal gives back what is still charged under the claim."""
        packed = packing.pack(answer.pack(claim.tracking_id), claim.tracking_id)
        keys: tuple[bytes, ...] = (self._record(claim),)
        arguments: tuple[bytes | str | int, ...] = (claim.token, packed, self._keep_ms)
        if answer.status != 202:
            keys += (self._keys.counters(claim.client),)
            arguments += (len(packed) + _RECORD_BYTES, self._max_refusal_bytes)
        return self._call("complete", scripts.COMPLETE, keys, arguments, _held)

    def release(self, claim: Claim) -> Step[None]:
        """See ``Claims``."""
        keys = (self._record(claim), self._keys.counters(claim.client))
        return self._call("release", scripts.RELEASE, keys, (claim.token,), _held)

    def suspend(self, claim: Claim) -> Step[None]:
        """See ``Claims``."""
        return self._call("suspend", scripts.SUSPEND, (self._record(claim),), (claim.token,), _held)

    def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Step[Reservation | QuotaExceeded]:
        """See ``Quotas``. Taken twice with one token, it counts once."""
        limit = "" if client.daily_quota is None else client.daily_quota
        counters = self._keys.counters(client.name)
        read = partial(_taken, client, token, claim)
        if claim is None:
            return self._call(
                "take",
                scripts.TAKE_WITHOUT_CLAIM,
                (self._keys.reservation(client.name, token), counters),
                (day.isoformat(), limit, _COUNTER_SECONDS, _RESERVATION_MS),
                read,
            )
        return self._call(
            "take",
            scripts.TAKE_WITH_CLAIM,
            (self._record(claim), counters),
            (claim.token, day.isoformat(), limit, _COUNTER_SECONDS),
            read,
        )

    def give_back(self, reservation: Reservation) -> Step[None]:
        """See ``Quotas``."""
        keys = (
            self._keys.reservation(reservation.client, reservation.token),
            self._keys.counters(reservation.client),
        )
        return self._call("give_back", scripts.GIVE_BACK, keys, (_RESERVATION_MS,), _given_back)

    def _record(self, claim: Claim) -> bytes:
        return self._keys.claim(claim.client, claim.key)

    async def _call(
        self,
        operation: str,
        script: Script,
        keys: tuple[bytes, ...],
        arguments: tuple[bytes | str | int, ...],
        read: Callable[[Any], Result],
    ) -> Result:
        """What ``read`` makes of the script's reply. Raises ``StoreUnavailable``, and what ``read`` raises."""
        unavailable: StoreUnavailable | None = None
        began = time.perf_counter()
        try:
            try:
                reply = await self._link.execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                # A server that has restarted, or was told to forget its scripts, has done nothing yet.
                seconds_left = began + self._call_seconds - time.perf_counter()
                evaluated = self._link.execute("EVAL", script.source, len(keys), *keys, *arguments)
                reply = await within(seconds_left, evaluated)
            return read(reply)
        except (TimeoutError, RedisError) as error:
            unavailable = self._unavailable(error)
        except _Unexpected:
            # The reply is not repeated: it may hold anything.
            unavailable = StoreUnavailable(
                f"Redis at {self._link.address}: unexpected reply to the script '{script.name}': see whether something "
                "other than Redis answers there, or a proxy that changes replies or mixes up connections"
            )
        finally:
            self._on_call(operation, time.perf_counter() - began, unavailable is not None)
        # Not from within: what Redis said may hold a secret.
        raise unavailable

    def _unavailable(self, error: TimeoutError | RedisError) -> StoreUnavailable:
        reason = str(error)
        if isinstance(error, TimeoutError):
            waited = f"no answer within {self._call_seconds * 1000:g} ms"
            reason = f"{waited}: the server or the network is overloaded or hangs"
        # A full server refuses a script at its first write.
        may_be_done = not isinstance(error, (NotSent, OutOfMemoryError))
        return StoreUnavailable(f"Redis at {self._link.address}: {reason}", may_be_done=may_be_done)


class _Unexpected(Exception):
    """A reply that the script does not give."""


def _begun(claim: Claim, reply: Any) -> Begun | Replay | InProgress | OtherPayload:
    match reply:
        case [b"begun", 0 | 1 as armed]:
            return Begun(armed == 1)
        case [b"replay", bytes(packed)]:
            return Replay(_unpacked(packed, claim.tracking_id))
        case [b"in progress", int(milliseconds_left)]:
            return InProgress(milliseconds_left)
        case [b"other payload", bytes(fingerprint), bytes(packed)]:
            first = derive_tracking_id(claim.client, claim.key, fingerprint)
            return OtherPayload.after(_unpacked(packed, first))
        case [b"other payload", bytes(), None]:
            return OtherPayload.after(None)
    raise _Unexpected


def _unpacked(packed: bytes, tracking_id: str) -> Answer:
    return Answer.unpack(packing.unpack(packed, tracking_id), tracking_id)


def _taken(client: Client, token: str, claim: Claim | None, reply: Any) -> Reservation | QuotaExceeded:
    match reply:
        case [b"taken", int(used), bytes(charged)]:
            try:
                charged_day = date.fromisoformat(charged.decode())
            except ValueError:
                raise _Unexpected from None
            if claim is not None:
                claim.armed = True
            return Reservation(client.name, charged_day, client.daily_quota, used, token)
        case [b"exceeded", int(used)]:
            return QuotaExceeded(used)
        case [b"lost"]:
            raise ClaimLost
    raise _Unexpected


def _armed(claim: Claim, reply: Any) -> None:
    _held(reply)
    claim.armed = True


def _held(reply: Any) -> None:
    """The claim was still the caller's."""
    match reply:
        case 1:
            return
        case 0:
            raise ClaimLost
    raise _Unexpected


def _given_back(reply: Any) -> None:
    """Whether there was anything to give back is of no interest."""
