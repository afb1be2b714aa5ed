"""What is broken on purpose: where, how, and which faults and which complaint should bring it to light."""

from __future__ import annotations

from typing import NamedTuple


class Breakage(NamedTuple):
    """In ``file``, ``sound`` becomes ``broken``; a round of ``setup`` with ``faults`` complains of ``caught_by``."""

    name: str
    file: str
    sound: str
    broken: str
    caught_by: str
    faults: tuple[str, ...]
    setup: str = "plain"


BREAKAGES = (
    # 202 means stored.
    Breakage(
        "a 202 leaves before the confirm",
        "pipeline/publish.py",
        "            await self.outbox.publish(envelope)\n",
        "            __import__('asyncio').ensure_future(self.outbox.publish(envelope))\n",
        "accepted, and not on the queue",
        ("leg-to-rabbitmq-refused",),
    ),
    Breakage(
        "messages are published without `mandatory`",
        "gateway/rabbitmq/outbox.py",
        "mandatory=True",
        "mandatory=False",
        "accepted, and not on the queue",
        ("queue-unbound",),
    ),
    Breakage(
        "messages are not persistent",
        "gateway/rabbitmq/outbox.py",
        "app_id, mandatory=True)",
        "app_id, persistent=False, mandatory=True)",
        "an envelope's properties",
        ("leg-to-rabbitmq-cut",),
    ),
    Breakage(
        "what RabbitMQ refuses is taken for confirmed",
        "gateway/rabbitmq/channel.py",
        '            raise Rejected("RabbitMQ refused the message: the queue is full, or has failed") from error\n',
        "            return\n",
        "accepted, and not on the queue",
        ("queue-full-until-its-limit-is-lifted",),
    ),
    Breakage(
        "the embedded outbox does not wait for the commit",
        "gateway/embedded/outbox.py",
        "            await self.database.run(partial(_insert, row=row), self._confirm_seconds)\n",
        "            __import__('asyncio').ensure_future(self.database.run(partial(_insert, row=row), 5.0))\n",
        "accepted, and not on the queue",
        ("file-locked", "gateways-killed-together"),
        "embedded",
    ),
    Breakage(
        "the spool forgets before the confirm",
        "gateway/embedded/moving/mover.py",
        "            if failure is None:\n",
        "            if failure is None or True:\n",
        "accepted, and not on the queue",
        ("rabbitmq-restarted",),
        "spool",
    ),
    # A retry never sends twice.
    Breakage(
        "tracking ids under a key are drawn at random",
        "pipeline/facts.py",
        "    return uuid_of(digest[:32], 8)\n",
        "    return uuid_of(__import__('secrets').token_hex(16), 8)\n",
        "tracking id",
        ("gateway-killed-at-confirm",),
    ),
    Breakage(
        "a claim's lease is ignored",
        "gateway/redis/begin.lua",
        "left > 0 and left <= tonumber(lease_ms) then",
        "left < 0 then",
        "times on the queue",
        ("rabbitmq-paused", "one-key-500-times"),
    ),
    Breakage(
        "an embedded claim is given away although it has its answer",
        "gateway/embedded/claims.py",
        "    if packed is not None:\n",
        "    if False:\n",
        "messages counted, expected",
        ("clients-that-hang-up",),
        "embedded",
    ),
    Breakage(
        "an accepted answer is not kept",
        "pipeline/stages/idempotency.py",
        "        if answer.status == 202:\n",
        "        if answer.status == 202:\n            pass\n        elif answer.status == 202:\n",
        "times on the queue",
        ("leg-to-rabbitmq-cut",),
    ),
    Breakage(
        "steps of a claim need no token",
        "gateway/redis/record.lua",
        "  return redis.call('HGET', record, 't') == token\n",
        "  return true\n",
        "messages counted, expected",
        ("gateway-paused-at-begin-past-its-lease",),
    ),
    Breakage(
        "the fingerprint is of the raw bytes",
        "pipeline/payload.py",
        "canonical = self.raw if self.problem else _canonical(self)",
        "canonical = self.raw",
        "IDEMPOTENCY_KEY_REUSED",
        ("leg-to-redis-cut",),
    ),
    Breakage(
        "a key is shared by all clients",
        "gateway/redis/keys.py",
        '    return _under("claim", client) + ',
        '    return _under("claim", "everybody") + ',
        "IDEMPOTENCY_KEY_REUSED",
        ("leg-to-rabbitmq-cut",),
    ),
    Breakage(
        "the claim of an unknown outcome is released",
        "pipeline/stages/idempotency.py",
        '            await self._settle(context, "suspend", claim)\n',
        '            await self._settle(context, "release", claim)\n',
        "messages counted, expected",
        ("gateway-killed-at-arm", "rabbitmq-paused", "rabbitmq-killed"),
    ),
    # What was not accepted costs nothing, and what is uncertain is said to be.
    Breakage(
        "an unknown outcome is answered as a refusal",
        "pipeline/publish.py",
        "            raise OutcomeUnknown from error\n",
        "            context.may_be_published = False\n"
        "            raise Refused(codes.SERVICE_UNAVAILABLE, retry_after=1) from error\n",
        "refused, and on the queue",
        ("rabbitmq-paused", "rabbitmq-killed", "leg-to-rabbitmq-cut"),
    ),
    Breakage(
        "one in twenty is refused after its confirm",
        "pipeline/publish.py",
        "        context.is_published = True\n",
        "        if __import__('random').random() < 0.05:\n"
        "            context.may_be_published = False\n"
        "            raise Refused(codes.SERVICE_UNAVAILABLE, retry_after=1)\n"
        "        context.is_published = True\n",
        "refused, and on the queue",
        ("leg-to-redis-cut",),
    ),
    Breakage(
        "an armed claim is not noted as such",
        "gateway/redis/take_with_claim.lua",
        "redis.call('HSET', record, 'a', 1, 'd', day)",
        "redis.call('HSET', record, 'd', day)",
        "on the queue, and called refused in the end",
        ("provider-switched-off",),
    ),
    Breakage(
        "a gate before the claim does not wait for it",
        "pipeline/stages/provider_gate.py",
        "                if not self.defers:\n",
        "                if True:\n",
        "on the queue, and called refused in the end",
        ("provider-switched-off",),
        "order",
    ),
    Breakage(
        "a resumed claim is charged once more",
        "gateway/redis/take_with_claim.lua",
        "if charged then",
        "if false then",
        "messages counted, expected",
        ("gateway-killed-at-confirm", "gateway-killed-at-arm"),
    ),
    Breakage(
        "what was taken without a claim is not given back",
        "pipeline/stages/quota.py",
        "            if may_be_taken and not context.may_be_published:\n",
        "            if False:\n",
        "messages counted, expected",
        ("leg-to-rabbitmq-refused",),
    ),
    Breakage(
        "what was taken without a claim is given back twice",
        "gateway/redis/give_back.lua",
        "  uncount(note)\n",
        "  uncount(note)\n  uncount(note)\n",
        "messages counted, expected",
        ("leg-to-rabbitmq-refused",),
    ),
    Breakage(
        "what was taken under a claim is not given back",
        "gateway/redis/release.lua",
        "  uncount(day)\n",
        "  local nothing = day\n",
        "messages counted, expected",
        ("leg-to-rabbitmq-refused",),
    ),
    Breakage(
        "what could not be given back at once is not tried again",
        "gateway/retries.py",
        "            self._retry_later(step)\n",
        "            pass\n",
        "messages counted, expected",
        ("leg-to-redis-stalled", "redis-paused", "redis-restarted"),
    ),
    Breakage(
        "a quota is not looked at",
        "gateway/redis/take_without_claim.lua",
        "used(day) >= tonumber(limit) then",
        "used(day) < 0 then",
        "of a quota of",
        ("leg-to-rabbitmq-cut", "gateway-killed", "quota-lowered"),
    ),
    Breakage(
        "days are the machine's, not the clock's",
        "pipeline/stages/quota.py",
        "        day = now.date()\n",
        "        day = datetime(2026, 1, 1).date()\n",
        " on 20",
        ("clock-set-forward",),
    ),
    Breakage(
        "what is of the moment is replayed",
        "pipeline/codes.py",
        '    "The gateway cannot take messages at present. Nothing was sent; try again later.",\n',
        '    "The gateway cannot take messages now. Try again later.",\n    is_verdict=True,\n',
        "a replay of what is of the moment",
        ("leg-to-rabbitmq-refused",),
    ),
    Breakage(
        "texts are printed",
        "pipeline/publish.py",
        "        claim = context.get(Claim)\n",
        "        print(envelope.message.text, flush=True)\n        claim = context.get(Claim)\n",
        "a text stands in the log",
        ("leg-to-redis-cut",),
    ),
)
