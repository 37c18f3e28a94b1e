"""Nodes on one machine find each other without being told anything, and two swarms in one place do not mix."""

from __future__ import annotations

import trio

from swarmllm.core.inputs import AddressesFound
from tests.contracts.network_contract import Member
from tests.network.support import members


async def finds(member: Member, other: Member) -> None:
    found = await member.hears(AddressesFound, lambda one: one.peer == other.peer)
    assert found == AddressesFound(other.peer, tuple(addr.partition("/p2p/")[0] for addr in other.network.addrs), "lan")


def test_four_nodes_on_loopback_find_each_other_and_not_the_neighbours() -> None:
    async def main() -> None:
        async with members(4, lan=True, swarm="one") as ours, members(2, lan=True, swarm="two") as theirs:
            async with trio.open_nursery() as nursery:
                for group in (ours, theirs):
                    for member in group:
                        for other in group:
                            if other is not member:
                                nursery.start_soon(finds, member, other)
            for group in (ours, theirs):
                known = {member.peer for member in group}
                told = {one.peer for member in group for one in member.told if isinstance(one, AddressesFound)}
                assert told == known
            assert [member.network.lan_error for member in (*ours, *theirs)] == [""] * 6  # type: ignore[attr-defined]

    trio.run(main)
