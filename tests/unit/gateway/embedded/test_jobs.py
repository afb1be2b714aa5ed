"""The queue between the event loop and the writing thread: each job is taken or withdrawn, and only one of the two."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time

import pytest

from gateway.embedded import jobs as module
from gateway.embedded.failures import NotDone
from gateway.embedded.jobs import Job, Jobs


def job(*, withdrawable: bool = True, future: asyncio.Future[object] | None = None) -> Job:
    def nothing(cursor: sqlite3.Cursor) -> None: ...

    return Job(nothing, future, withdrawable=withdrawable)


@pytest.fixture
def jobs() -> Jobs:
    """An open one."""
    found = Jobs()
    found.open()
    return found


def test_all_that_wait_are_taken_together_in_their_order(jobs: Jobs) -> None:
    put = [job() for _ in range(3)]
    for one in put:
        jobs.put(one)
    assert len(jobs) == 3
    assert jobs.take() == put
    assert (len(jobs), jobs.take()) == (0, [])


def test_what_was_withdrawn_is_not_taken_and_what_was_taken_is_not_withdrawn(jobs: Jobs) -> None:
    """Nor is what is to be done in any case."""
    gone, taken, lasting = job(), job(), job(withdrawable=False)
    for one in (gone, taken, lasting):
        jobs.put(one)
    assert jobs.withdraw(gone)
    assert not jobs.withdraw(gone)
    assert not jobs.withdraw(lasting)
    assert jobs.take() == [taken, lasting]
    assert not jobs.withdraw(taken)


async def test_what_is_put_back_comes_first_and_one_by_one(jobs: Jobs) -> None:
    """But for those that nobody wants any more."""
    given_up = asyncio.get_running_loop().create_future()
    given_up.cancel()
    first, second, unwanted, later = job(), job(), job(future=given_up), job()
    jobs.put(later)
    jobs.put_back([first, unwanted, second])
    assert [jobs.take() for _ in range(3)] == [[first], [second], [later]]
    jobs.put_back([first])
    jobs.put(later)
    assert jobs.take_all() == [first, later]


def test_a_closed_one_takes_no_more_and_gives_what_it_has_some_time(jobs: Jobs) -> None:
    with pytest.raises(NotDone, match="not open"):
        Jobs().put(job())
    jobs.put(job())
    jobs.close(0.05)
    with pytest.raises(NotDone, match="not open"):
        jobs.put(job())
    assert jobs.wait(10)
    given_up = [jobs.is_given_up]
    time.sleep(0.06)
    given_up.append(jobs.is_given_up)
    assert given_up == [False, True]
    jobs.take_all()
    assert not jobs.wait(10)


def test_it_does_not_grow_without_bound(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    jobs.put(job())
    jobs.put(job())
    with pytest.raises(NotDone, match="too much"):
        jobs.put(job())


@pytest.mark.parametrize("what", ["put", "close"])
def test_who_waits_for_jobs_is_woken(jobs: Jobs, what: str) -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(jobs.wait(60)))
    thread.start()
    while not jobs._is_idle:
        time.sleep(0.001)
    if what == "put":
        jobs.put(job())
    else:
        jobs.close(60)
    thread.join(10)
    assert found == [what == "put"]


def test_waiting_ends_after_its_time(jobs: Jobs) -> None:
    started = time.monotonic()
    assert jobs.wait(0.05)
    assert 0.04 < time.monotonic() - started < 10


async def test_a_job_tells_who_waits_once(jobs: Jobs) -> None:
    """Its result, or its error; and nobody who has gone."""
    loop = asyncio.get_running_loop()
    good, bad, gone = (job(future=loop.create_future()) for _ in range(3))
    good.result, bad.error = 42, NotDone("no")
    assert gone.future is not None
    gone.future.cancel()
    for one in (good, good, bad, gone, job()):
        one.resolve()
    assert good.future is not None
    assert bad.future is not None
    assert await good.future == 42
    with pytest.raises(NotDone, match="no"):
        await bad.future
