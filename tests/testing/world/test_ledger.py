"""In a world every host enters what steered it, the kill switch waits for no ledger, and what was
lost by a kill or a full disk is entered at the next start."""

from __future__ import annotations

from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.testing.world.disk import STEP_S
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.world import World


def entries(host: Host, kind: LedgerKind) -> list[bytes]:
    leaves = [read_leaf(data) for data in host.disk.ledger.leaves]
    return [leaf.payload for leaf in leaves if leaf.kind == kind]


def test_a_halt_and_a_resume_are_in_every_ledger_once() -> None:
    world = World(seed=1)
    hosts = [world.add() for _ in range(8)]
    world.run_for(30)
    halt = world.founders.halt()
    world.publish(hosts[0], halt)
    world.run_for(20)
    assert all(host.is_halted for host in hosts)
    for host in hosts:
        assert entries(host, LedgerKind.HALT) == [halt]
        assert len(entries(host, LedgerKind.HALTED)) == 1
        assert world.founders.charter in entries(host, LedgerKind.CHARTER)
    world.publish(hosts[3], world.founders.resume())
    world.run_for(20)
    for host in hosts:
        assert len(entries(host, LedgerKind.RESUME)) == 1
        assert len(entries(host, LedgerKind.RESUMED)) == 1


def test_killed_before_it_was_written_it_is_entered_at_the_next_start_and_not_twice() -> None:
    world = World(seed=2)
    hosts = [world.add() for _ in range(4)]
    world.run_for(30)
    halt = world.founders.halt()
    world.publish(hosts[0], halt)
    world.run_for(STEP_S / 2)
    assert hosts[0].is_halted
    assert entries(hosts[0], LedgerKind.HALT) == []
    world.run_for(3 * STEP_S)
    for host in hosts:
        world.crash(host)
    for host in hosts:
        world.start(host)
    world.run_for(20)
    assert [entries(host, LedgerKind.HALT) for host in hosts] == [[halt]] * 4


def test_a_full_disk_stops_no_halt_and_it_is_entered_when_there_is_room() -> None:
    world = World(seed=3)
    host, other = world.add(), world.add()
    world.run_for(30)
    host.disk.full = True
    halt = world.founders.halt()
    world.publish(host, halt)
    world.run_for(10)
    assert host.is_halted
    assert other.is_halted
    assert entries(host, LedgerKind.HALT) == []
    host.disk.clear(world.now)
    world.run_for(10)
    assert entries(host, LedgerKind.HALT) == [halt]
