"""Relays: peers that nobody can dial are reached through others, end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.core.inputs import AddressesChanged, Received
from swarmllm.messages import Busy
from tests.adapters.libp2p.support import member
from tests.contracts.network_contract import (
    Member,
    about,
    connect,
    listening,
    opening,
)


@asynccontextmanager
async def behind_relays(count: int = 1, **relay: Any) -> AsyncIterator[tuple[Member, ...]]:
    """A caller, a node behind a NAT that has its reservations, and the relays."""
    async with AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(member(relay=True, **relay)) for _ in range(count)
        ]
        hidden = await stack.enter_async_context(
            member(
                listen=(),
                behind_nat=True,
                bootstrap=tuple(one.network.addrs[0] for one in relays),
            )
        )
        caller = await stack.enter_async_context(member())
        async with listening([caller, hidden, *relays]):
            await hidden.hears(AddressesChanged, lambda one: len(one.addrs) == count)
            yield caller, hidden, *relays


def figures_of(relay: Member) -> Mapping[str, int]:
    assert isinstance(relay.network, Libp2pNetwork)
    return relay.network.traffic.relay


def test_a_question_and_its_answer_go_through_a_relay() -> None:
    async def main() -> None:
        async with behind_relays() as (caller, hidden, relay):
            assert "/p2p-circuit/p2p/" in hidden.network.addrs[0]
            await connect(caller, hidden)
            caller.network.send(hidden.peer, opening(7))
            assert (await hidden.hears(Received, about(caller.peer))).message == opening(7)
            hidden.network.send(caller.peer, Busy(7, 0, 10))
            assert (await caller.hears(Received, about(hidden.peer))).message == Busy(7, 0, 10)
            figures = figures_of(relay)
            assert figures["circuits"] == figures["reservations"] == 1
            assert figures["carried_bytes"] > 1_000

    trio.run(main)
