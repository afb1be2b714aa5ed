"""Clients hang up, drip, send too much, and send one key many times at once."""

from __future__ import annotations

import asyncio
import random

from tests.faults import processes
from tests.faults.answers import STATUS
from tests.faults.driver import Driver
from tests.faults.injections.deck import CLIENTS, fault
from tests.faults.ledger import Attempt, End
from tests.faults.load import KEY_TAIL, METERED, PATIENCE_SECONDS
from tests.faults.world import World

_GIB = 1024**3
_MORE_MEMORY_KIB = 64 * 1024
_ONE_KEY_TIMES = 500
_HANG_UPS = 40


@fault(CLIENTS)
def clients_that_hang_up(world: World) -> None:
    attempts = world.driver.do(_hang_up(world.driver, world.random))
    ends = {attempt.end for attempt in attempts}
    world.check({End.ABANDONED, End.CUT_SHORT} <= ends, "nobody hung up, or always at the same moment")


async def _hang_up(driver: Driver, choose: random.Random) -> list[Attempt]:
    attempts = []
    for _ in range(_HANG_UPS):
        message = driver.compose(valid=True)
        sender = choose.choice(driver.senders)
        headers = driver.headers_of(message)
        attempt = await sender.send_and_leave(headers, message.body, whole=choose.random() < 0.6)
        attempts.append(attempt)
        driver.note(message, attempt)
        driver.settle_later(message)
        await asyncio.sleep(choose.uniform(0, 0.05))
    return attempts


@fault(CLIENTS)
def clients_that_drip(world: World) -> None:
    attempts = world.driver.do(_drip(world.driver))
    world.violations += [
        f"a body that dripped was answered {attempt.code or attempt.end}"
        for attempt in attempts
        if attempt.code != "REQUEST_TIMEOUT"
    ]
    world.check(any(a.ended - a.began > 5 for a in attempts), "every body arrived at once")


async def _drip(driver: Driver) -> list[Attempt]:
    messages = [driver.compose(keyed=keyed, valid=True) for keyed in (True, False) for _ in range(5)]
    attempts = await asyncio.gather(
        *(
            driver.senders[position % len(driver.senders)].send_slowly(
                driver.headers_of(message), message.body, PATIENCE_SECONDS
            )
            for position, message in enumerate(messages)
        )
    )
    for message, attempt in zip(messages, attempts, strict=True):
        driver.note(message, attempt)
        driver.settle_later(message)
    return attempts


@fault(CLIENTS)
def clients_that_send_too_much(world: World) -> None:
    headers = {"API-Key": METERED + KEY_TAIL}
    most_written = 0
    for sender in world.driver.senders:
        pids = processes.workers_of(world.gateways[sender.gateway])
        before = sum(map(processes.memory_kib, pids))
        for chunked in (True, False):
            answer, written = world.driver.do(sender.flood(headers, _GIB, chunked=chunked))
            most_written = max(most_written, written)
            if answer is not None and answer.status != STATUS["PAYLOAD_TOO_LARGE"]:
                world.violations.append(f"a body of 1 GiB was answered {answer.status} {answer.code}")
            if written == _GIB:
                world.violations.append("a body of 1 GiB was read to its end")
        grown = sum(map(processes.memory_kib, pids)) - before
        if grown > _MORE_MEMORY_KIB:
            world.violations.append(f"a body of 1 GiB cost {grown} KiB of memory")
    world.check(most_written > 16 * 1024, "nobody sent more than is allowed")


@fault(CLIENTS)
def one_key_500_times(world: World) -> None:
    async def send() -> None:
        message = world.driver.compose(keyed=True, valid=True)
        await world.driver.send_in_parallel(message, _ONE_KEY_TIMES)
        answered = [attempt for attempt in message.attempts if attempt.answer is not None]
        times = sum(attempt.is_accepted and attempt.may_have_published for attempt in answered)
        if times > 1:
            world.violations.append(f"one key was accepted {times} times, and not replayed")
        world.check(len(answered) > _ONE_KEY_TIMES // 2, "most requests were not answered")

    world.driver.do(send())
