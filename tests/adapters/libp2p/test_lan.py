"""Nodes on one machine find each other without being told anything, and two swarms in one place do
not mix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import trio
from zeroconf import Zeroconf
from zeroconf._cache import DNSCache
from zeroconf._dns import DNSPointer
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p.lan import UNASKED_MAX, Lan
from swarmllm.core.inputs import AddressesFound
from tests.adapters.libp2p.support import members
from tests.contracts.network_contract import Member


async def finds(member: Member, other: Member) -> None:
    found = await member.hears(AddressesFound, lambda one: one.peer == other.peer)
    assert found == AddressesFound(
        other.peer, tuple(addr.partition("/p2p/")[0] for addr in other.network.addrs), "lan"
    )


def test_four_nodes_on_loopback_find_each_other_and_not_the_neighbours() -> None:
    async def main() -> None:
        async with (
            members(4, lan=True, swarm="one") as ours,
            members(2, lan=True, swarm="two") as theirs,
        ):
            async with trio.open_nursery() as nursery:
                for group in (ours, theirs):
                    for member in group:
                        for other in group:
                            if other is not member:
                                nursery.start_soon(finds, member, other)
            for group in (ours, theirs):
                known = {member.peer for member in group}
                told = {
                    one.peer
                    for member in group
                    for one in member.told
                    if isinstance(one, AddressesFound)
                }
                assert told == known
            assert [member.network.lan_error for member in (*ours, *theirs)] == [""] * 6  # type: ignore[attr-defined]

    trio.run(main)


_SWARM = hashlib.sha256(b"swarmllm/lan/1" + bytes(1) + b"flooded").hexdigest()[:6]
TYPE = f"_swarmllm-{_SWARM}._udp.local."


def announce(zeroconf: Zeroconf, names: Sequence[str]) -> None:
    """Names alone, as somebody sends them who wants all others to ask."""
    out = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    for name in names:
        out.add_answer_at_time(DNSPointer(TYPE, _TYPE_PTR, _CLASS_IN, 4500, f"{name}.{TYPE}"), 0)
    zeroconf.send(out)


def test_nodes_find_each_other_under_a_flood_of_made_up_names() -> None:
    made_up = [ephemeral_key().peer for _ in range(300)]

    async def main() -> None:
        flooder = await trio.to_thread.run_sync(lambda: Zeroconf(interfaces=["127.0.0.1"]))
        try:
            async with (
                members(1, lan=True, swarm="flooded") as (first,),
                trio.open_nursery() as nursery,
            ):

                async def flood() -> None:
                    for at in range(0, len(made_up), 20):
                        announce(flooder, made_up[at : at + 20])
                        await trio.sleep(0.1)  # The flood has a rate; that is what is tested.

                await flood()
                nursery.start_soon(flood)
                async with members(1, lan=True, swarm="flooded") as (second,):
                    await finds(first, second)
                    await finds(second, first)
                nursery.cancel_scope.cancel()
        finally:
            await trio.to_thread.run_sync(flooder.close)

    trio.run(main)


class Silent:
    """A network on which nobody says more than names."""

    def __init__(self) -> None:
        self.asked = 0
        self.cache = DNSCache()

    def get_service_info(self, *_: Any, **__: Any) -> None:
        self.asked += 1


def test_a_name_without_details_is_kept_for_later_and_nothing_waits_for_it() -> None:
    lan, silent = Lan(ephemeral_key().peer, "flooded", lambda *_: None), Silent()
    listener = lan._listener()
    for _ in range(3 * UNASKED_MAX):
        listener.add_service(silent, TYPE, f"{ephemeral_key().peer}.{TYPE}")  # type: ignore[arg-type]
    for junk in ("", "x", "\u202e", "a" * 60):
        listener.add_service(silent, TYPE, f"{junk}.{TYPE}")  # type: ignore[arg-type]
    assert silent.asked == 0
    assert len(lan._unasked) == UNASKED_MAX
    assert all(len(name) == 52 + len(TYPE) + 1 for name in lan._unasked)
