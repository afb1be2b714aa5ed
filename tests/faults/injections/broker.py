"""RabbitMQ is killed, restarted, paused, full and blocked, and what it routes by is deleted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import aiormq

from tests.faults.injections.deck import BROKER, fault, has_servers
from tests.faults.ledger import Attempt, Kind
from tests.faults.world import World

_NOTICED_SECONDS = 10.0
_VHOST, _USER = '<<"/">>', '<<"guest">>'


@fault(BROKER, has_servers)
def rabbitmq_killed(world: World) -> None:
    server, pid = world.servers.broker, world.servers.broker.pid
    # Another fault may have had the queue declared anew just now.
    server.write_down_queues()
    with world.marked(Kind.BROKER):
        server.kill()
        server.start()
    world.check(server.pid != pid, "the process lives on")
    world.must_meet("no request met it", _is_troubled_in(world))


@fault(BROKER, has_servers)
def rabbitmq_restarted(world: World) -> None:
    server, pid = world.servers.broker, world.servers.broker.pid
    with world.marked(Kind.BROKER):
        server.stop()
        server.start()
    world.check(server.pid != pid, "the process lives on")
    world.must_meet("no request met it", _is_troubled_in(world))


@fault(BROKER, has_servers)
def rabbitmq_paused(world: World) -> None:
    # Longer than a confirm is waited for, every other time.
    seconds = world.random.choice((1.0, 7.0))
    with world.marked(Kind.BROKER), world.servers.broker.paused():
        time.sleep(seconds)
    world.check(world.servers.broker.is_running(), "it has ended")
    world.must_meet("no request waited for it", lambda attempt: attempt.ended - attempt.began > 0.5)


@fault(BROKER, has_servers)
def queue_full(world: World) -> None:
    """It fills up several times, each time until Server B comes and takes everything."""
    with world.marked(Kind.BROKER):
        _limit_queue(world, 20)
        for _ in range(3):
            world.sleep(0.2, 0.8)
            world.take_queue()
        world.driver.hold()
        world.take_queue()
        _lift_limit(world)
        world.driver.release()
    world.must_meet("no request was refused", _is_troubled_in(world))


@fault(BROKER, has_servers)
def queue_full_until_its_limit_is_lifted(world: World) -> None:
    """Nobody takes anything: an operator lifts the limit."""
    with world.marked(Kind.BROKER):
        _limit_queue(world, 1)
        world.sleep(0.3, 1.0)
        _lift_limit(world)
    world.must_meet("no request was refused", _is_troubled_in(world))


def _limit_queue(world: World, most: int) -> None:
    evaluate, name = world.servers.broker.evaluate, f'<<"{world.queue}">>'
    definition = f'<<"{{\\"max-length\\": {most}}}">>'
    pattern = f'<<"^{world.queue}$">>'
    evaluate(
        f'rabbit_policy:parse_set({_VHOST}, {name}, {pattern}, {definition}, <<"0">>, <<"queues">>, {_USER})'
    )
    in_force = (
        f"{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({_VHOST}, queue, {name})), "
        'proplists:is_defined(<<"max-length">>, rabbit_policy:effective_definition(Queue))'
    )
    world.check(_becomes(lambda: evaluate(in_force) == "true"), "the queue has no limit")


def _lift_limit(world: World) -> None:
    world.servers.broker.evaluate(f'rabbit_policy:delete({_VHOST}, <<"{world.queue}">>, {_USER})')


@fault(BROKER, has_servers)
def queue_deleted(world: World) -> None:
    """Server B has taken everything before, and no request is under way: what is accepted later must be there."""
    deleted: list[bool] = []

    async def delete(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.queue_delete(world.queue)
        deleted.append(True)

    world.driver.hold()
    world.take_queue()
    world.on_broker(delete)
    world.driver.release()
    world.check(deleted, "the queue was not deleted")


@fault(BROKER, has_servers)
def queue_unbound(world: World) -> None:
    async def unbind(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.queue_unbind(world.queue, world.queue, world.queue)

    with world.marked(Kind.BROKER):
        world.on_broker(unbind)
        time.sleep(0.3)
    world.must_meet("no request was refused", _is_troubled_in(world))
    world.check(True, "")


@fault(BROKER, has_servers)
def exchange_deleted(world: World) -> None:
    async def delete(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.exchange_delete(world.queue)

    with world.marked(Kind.BROKER):
        world.on_broker(delete)
        time.sleep(0.5)
    world.must_meet("no request met it", _is_troubled_in(world))


@fault(BROKER, has_servers)
def broker_alarm(world: World) -> None:
    evaluate = world.servers.broker.evaluate
    with world.marked(Kind.BROKER):
        evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
        try:
            world.check(_becomes(lambda: "block" in _readiness(world)), "no gateway says that it is blocked")
            time.sleep(world.random.choice((0.2, 6.0)))
        finally:
            evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
    world.must_meet("no request met it", _is_troubled_in(world))


@fault(BROKER, has_servers)
def connections_closed_by_the_broker(world: World) -> None:
    evaluate = world.servers.broker.evaluate
    connections = "[pid_to_list(Pid) || Pid <- rabbit_networking:local_connections()]"
    with world.marked(Kind.BROKER):
        found = evaluate(connections)
        evaluate(
            'rabbit_networking:close_connections(rabbit_networking:local_connections(), "an operator\'s reason")'
        )
        time.sleep(0.2)
        left = evaluate(connections)
    before, after = (set(re.findall(r"<[\d.]+>", pids)) for pids in (found, left))
    world.check(before and not before & after, "a connection lives on")


def _readiness(world: World) -> str:
    return " ".join(gateway.http.get("/readyz").text for gateway in world.gateways)


def _becomes(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _NOTICED_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _is_troubled_in(world: World) -> Callable[[Attempt], bool]:
    """Whether an attempt shows that RabbitMQ did not take its message; with a spool nothing does but the spool."""

    def meets(attempt: Attempt) -> bool:
        return attempt.code in ("SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN") or world.setup.has_spool

    return meets
