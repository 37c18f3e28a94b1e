"""Whatever strangers write into records, a node knocks on no door that could not be a peer's, and
on none again and again."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.core.inputs import DialFailed
from swarmllm.core.peers.dial_rule import ENDPOINT_BURST
from tests.adapters.libp2p.support import members, until
from tests.adapters.libp2p.test_hostile import network_of
from tests.contracts.network_contract import DEADLINE_S, Member, about

# What a node says that is reached from elsewhere: loopback is then no place of peers.
OUTSIDE = ("/ip4/203.0.113.9/tcp/7339",)


async def knocked(node: Member, addrs: list[str]) -> list[str]:
    """Each said to be another peer's; why each was not reached."""
    peers = [ephemeral_key().peer for _ in addrs]
    for peer, addr in zip(peers, addrs, strict=True):
        node.network.dial(peer, (addr,))
    return [(await node.hears(DialFailed, about(peer))).reason for peer in peers]


async def counting(work: Any) -> int:
    """How many connections a listener on loopback gets while `work(port)` runs."""
    count = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal count
        count += 1
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        with trio.fail_after(4 * DEADLINE_S):
            await work(listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()
    return count


def test_eighty_made_up_peers_at_one_address_are_a_few_dials() -> None:  # CAP-18
    async def main() -> None:
        async with members(1) as (node,):

            async def work(port: int) -> None:
                reasons = await knocked(node, [f"/ip4/127.0.0.1/tcp/{port}"] * 80)
                assert sum("too often" in reason for reason in reasons) >= 80 - ENDPOINT_BURST - 2

            assert 1 <= await counting(work) <= ENDPOINT_BURST + 2

    trio.run(main)


@pytest.mark.parametrize(
    "form",
    [
        "/ip4/127.0.0.1/tcp/{}",
        "/ip6/::ffff:127.0.0.1/tcp/{}",
        "/dns4/localhost/tcp/{}",
        "/dns/localhost/tcp/{}",
    ],
)
def test_a_node_that_others_reach_from_elsewhere_never_dials_itself_nor_looks_up_names(  # CAP-18
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def main() -> None:
        async with members(1, announce=OUTSIDE) as (node,):

            async def work(port: int) -> None:
                monkeypatch.setattr(
                    trio.socket, "getaddrinfo", lambda *args, **_: asked.append(args)
                )
                monkeypatch.setattr("socket.getaddrinfo", lambda *args, **_: asked.append(args))
                (reason,) = await knocked(node, [form.format(port)])
                assert "not dialled" in reason

            assert await counting(work) == 0

    trio.run(main)
    assert asked == []


def test_what_the_owner_named_is_dialled_wherever_it_is() -> None:
    async def main() -> None:
        async with members(1) as (other,):
            (addr,) = other.network.addrs
            async with members(1, announce=OUTSIDE, bootstrap=(addr,)) as (node,):
                await until(lambda: other.peer in network_of(node).peers)

    trio.run(main)


def test_a_name_of_an_invite_leads_to_no_door_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # INV-6
    """Whoever wrote the invite says in DNS what the name stands for."""
    peer = ephemeral_key().peer

    async def main() -> None:
        async def work(port: int) -> None:
            named = f"/dns4/swarm.example/tcp/{port}/p2p/{peer}"
            answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            async def resolved(*_: object, **__: object) -> object:
                return answers

            monkeypatch.setattr(trio.socket, "getaddrinfo", resolved)
            async with members(1, announce=OUTSIDE, bootstrap=(named,), invited=(named,)) as (
                node,
            ):
                await until(lambda: network_of(node).bootstrap[0].error)
                (status,) = network_of(node).bootstrap
                assert f"127.0.0.1/tcp/{port} is not dialled: a loopback address" in status.error

        assert await counting(work) == 0

    trio.run(main)
