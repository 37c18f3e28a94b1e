"""What a change of network ends, and what it leaves alone."""

from __future__ import annotations

import pytest
import trio

from swarmllm.adapters.libp2p import roaming
from swarmllm.adapters.libp2p.links import open_links
from swarmllm.adapters.libp2p.roaming import InterfaceWatch, drop_stranded, local_host
from swarmllm.core.inputs import AddressesChanged, PeerLost
from tests.adapters.libp2p.support import members, until
from tests.adapters.libp2p.test_hostile import network_of, still_answers
from tests.contracts.network_contract import connect


def test_a_connection_ends_whose_own_address_is_gone_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with members(2) as (node, other):
            await connect(other, node)
            links = network_of(node)._links
            assert [local_host(link.conn.muxed_conn) for link in open_links(links)] == ["127.0.0.1"]
            assert drop_stranded(links) == 0
            await still_answers(node, other)
            monkeypatch.setattr(roaming, "all_ips", lambda: frozenset({"192.168.1.10"}))
            assert drop_stranded(links) == 1
            lost = await node.hears(PeerLost)
            assert "127.0.0.1 no more" in lost.reason

    trio.run(main)


def test_an_alarm_has_everybody_dialled_again_and_harms_nobody_who_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring, alarmed = trio.Event(), set[InterfaceWatch]()

    async def change(self: InterfaceWatch) -> str:
        await ring.wait()
        if self in alarmed:
            await trio.sleep_forever()
        alarmed.add(self)
        return "the addresses or routes of this machine have changed"

    monkeypatch.setattr(InterfaceWatch, "change", change)

    async def main() -> None:
        async with members(2) as (node, other):
            await connect(other, node)
            before = node.count(AddressesChanged)
            ring.set()
            await until(lambda: node.count(AddressesChanged) > before)
            await still_answers(node, other)
            assert node.count(PeerLost) == 0

    trio.run(main)


def test_a_clock_that_jumped_and_addresses_that_are_others_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roaming, "LOOK_EVERY_S", 0.01)
    times = iter([0.0, 0.01, 0.01, 100.0])

    async def main() -> None:
        watch = InterfaceWatch(lambda: next(times, 100.0))
        moved = InterfaceWatch(lambda: 0.0)
        try:
            assert "asleep" in await watch.change()
            monkeypatch.setattr(roaming, "stand", lambda: (frozenset({"192.168.7.2"}), None, None))
            assert "addresses" in await moved.change()
        finally:
            watch.close()
            moved.close()

    trio.run(main)
