"""The gossip validator: what is heard, what is passed on, and who gets a strike (protocols/capacity.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from swarmllm.core.events import (
    DialFailed,
    Heard,
    PeerConnected,
    Publish,
)
from swarmllm.runtime.queues import HEARD_MAX
from swarmllm.wire.envelope import seal
from tests.runtime.little_swarm import key
from tests.runtime.puppet import RECORD, STRANGER, Puppet, driving, run


def test_a_signed_record_is_heard_and_passed_on() -> None:
    async def body() -> None:
        machine = Puppet()
        author = key(5)
        async with driving(machine) as (driver, network):
            assert driver.hear(STRANGER, seal(RECORD, author.public_key, author.sign))
            await machine.has(Heard)
            assert network.penalised == []
        assert [e for _, e in machine.inputs if isinstance(e, Heard)] == [Heard(author.peer, RECORD)]

    run(body)


@pytest.mark.parametrize("bad", ["forged", "junk", "empty", "oversize"])
def test_a_bad_record_costs_its_forwarder_a_strike_and_goes_no_further(bad: str) -> None:
    async def body() -> None:
        machine = Puppet()
        author = key(5)
        sealed = seal(RECORD, author.public_key, author.sign)
        data = {
            "forged": seal(RECORD, author.public_key, key(6).sign),
            "junk": b"\xff" * 40,
            "empty": b"",
            "oversize": sealed + bytes(600),
        }[bad]
        async with driving(machine) as (driver, network):
            await trio.testing.wait_all_tasks_blocked()
            assert not driver.hear(STRANGER, data)
            await trio.testing.wait_all_tasks_blocked()
            assert [peer for peer, _ in network.penalised] == [STRANGER]
            assert driver.records_refused == 1
        assert machine.count(Heard) == 0

    run(body)


def sealed_by(number: int, **changes: int) -> bytes:
    author = key(number)
    return seal(replace(RECORD, **changes), author.public_key, author.sign)  # type: ignore[arg-type]


def test_an_old_record_goes_no_further_and_costs_nobody_a_strike() -> None:
    """CAP-3."""

    async def body() -> None:
        machine = Puppet()
        async with driving(machine) as (driver, network):
            await trio.testing.wait_all_tasks_blocked()
            assert driver.hear(STRANGER, sealed_by(5, boot=2, seq=5))
            assert not driver.hear(STRANGER, sealed_by(5, boot=2, seq=4))
            assert not driver.hear(STRANGER, sealed_by(5, boot=1, seq=9))
            assert driver.hear(STRANGER, sealed_by(5, boot=3, seq=0))
            assert network.penalised == []

    run(body)


def test_an_author_who_speaks_too_often_is_not_passed_on_until_he_waits() -> None:
    """CAP-4."""

    async def body() -> None:
        machine = Puppet()
        async with driving(machine) as (driver, network):
            await trio.testing.wait_all_tasks_blocked()
            assert [driver.hear(STRANGER, sealed_by(5, seq=i)) for i in range(2, 10)] == [True] * 5 + [False] * 3
            assert driver.hear(STRANGER, sealed_by(6, seq=2))
            await trio.sleep(1.01)
            assert driver.hear(STRANGER, sealed_by(5, seq=10))
            assert network.penalised == []

    run(body)


def test_a_flood_of_records_is_shed_and_counted_and_leaves_room_for_the_rest() -> None:
    async def body() -> None:
        machine = Puppet()
        async with driving(machine) as (driver, _):
            await trio.testing.wait_all_tasks_blocked()
            passed = [driver.hear(STRANGER, sealed_by(100 + i)) for i in range(HEARD_MAX + 50)]
            assert sum(passed) == HEARD_MAX
            assert driver.records_dropped == 50
            await driver.feed(PeerConnected(STRANGER))
            await machine.has(PeerConnected)
            assert machine.count(Heard) == HEARD_MAX
            assert driver.hear(STRANGER, sealed_by(5))

    run(body)


def test_what_is_published_verifies_elsewhere() -> None:
    async def body() -> None:
        published: list[bytes] = []
        machine = Puppet(lambda e: [Publish(RECORD)] if isinstance(e, DialFailed) else [])
        async with driving(machine) as (driver, network):
            network.publish = published.append  # type: ignore[assignment, method-assign]
            await driver.feed(DialFailed(STRANGER, ""))
            await machine.has(DialFailed)
            await trio.testing.wait_all_tasks_blocked()
        other = Puppet()
        async with driving(other) as (driver, _):
            assert driver.hear(STRANGER, published[0])
            await other.has(Heard)
        assert [e for _, e in other.inputs if isinstance(e, Heard)] == [Heard(key(1).peer, RECORD)]

    run(body)
