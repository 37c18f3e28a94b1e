"""Dial-backs over real connections on loopback: who is reached, who lies, and what is refused
(protocols/reach.md)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.libp2p import autonat, reaching
from swarmllm.adapters.libp2p.addresses import TcpAddress, parse_addr
from swarmllm.adapters.libp2p.autonat import AUTONAT, Answer, ask, remote_of
from swarmllm.core.peers.reachability import Reach
from tests.adapters.libp2p.support import ended, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import network_of, still_answers
from tests.contracts.network_contract import DEADLINE_S, connect


@pytest.fixture
def loopback_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "is_elsewhere", lambda host: True)


@pytest.mark.usefixtures("loopback_is_elsewhere")
def test_a_peer_that_gets_in_is_a_proof_and_one_alone_does_not_decide() -> None:
    async def main() -> None:
        async with members(2) as (node, other):
            await connect(other, node)
            reach = network_of(node).reach
            await until(lambda: reach.now.proofs == 1)
            assert reach.now.kind is Reach.UNKNOWN
            assert "another has to confirm" in reach.now.sentence(0.0)
            # Neither side took it for a connection to a peer.
            assert network_of(node).peers == (other.peer,)
            assert len(network_of(other)._links._by_conn) == 1

    trio.run(main)


@pytest.mark.usefixtures("loopback_is_elsewhere")
def test_a_peer_that_says_that_it_got_in_and_did_not_is_no_vote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = trio.Event()

    async def lie(self: Any, request: Any, conn: Any) -> Any:
        asked.set()
        return autonat._reply(Message.OK, "", bytes(request.dial.peer.addrs[0]))

    monkeypatch.setattr(autonat.DialBackService, "_replied", lie)

    async def main() -> None:
        async with members(2) as (node, other):
            await connect(other, node)
            await asked.wait()
            await trio.sleep(0.1)
            known = network_of(node).reach.now
            assert (known.tried, known.kind) == (0, Reach.UNKNOWN)

    trio.run(main)


def test_only_the_host_that_asks_is_dialled_and_only_the_peer_that_asks_is_reached() -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as stranger:
            conn = await stranger.dial(network_of(node))

            async def answer(*addrs: str) -> Answer:
                with trio.fail_after(DEADLINE_S):
                    return await ask(stranger.host, conn, [parse_addr(one) for one in addrs])

            assert await answer("/ip4/10.0.0.1/tcp/7339") == Answer(None)
            assert await answer("/ip4/127.0.0.1/tcp/22") == Answer(None)
            # The node itself listens there, and it is not the stranger.
            port = network_of(node)._listening[0].port
            assert await answer(f"/ip4/127.0.0.1/tcp/{port}") == Answer(False)

    trio.run(main)


def test_noise_on_the_protocol_of_dial_backs_ends_that_stream_and_nothing_else() -> None:
    async def main() -> None:
        async with members(2) as (node, other):
            await connect(other, node)
            async with raw_peer() as stranger:
                conn = await stranger.dial(network_of(node))
                other_id = Message()
                other_id.type = Message.DIAL
                other_id.dial.peer.id = b"somebody else"
                for data in (
                    b"\xff" * 64,
                    encode_varint_prefixed(bytes(4_096)),
                    encode_varint_prefixed(b"\x08\x63\xff\xff"),
                    encode_varint_prefixed(other_id.SerializeToString()),
                ):
                    stream = await stranger.open(conn, AUTONAT)
                    await stream.write(data)
                    with trio.fail_after(DEADLINE_S):
                        await ended(stream)
                await still_answers(node, other)

    trio.run(main)


@pytest.mark.parametrize(
    ("remote", "relayed", "seen"),
    [
        (("11.1.0.2", 7), False, ("11.1.0.2", 7)),
        (("::ffff:11.1.0.2", 7), False, ("11.1.0.2", 7)),
        (("fe80::1%eth0", 7), False, ("fe80::1", 7)),
        (("11.1.0.2", 7), True, None),
        (("relayed", 0), False, None),
        (None, False, None),
    ],
)
def test_the_other_end_of_a_relayed_connection_is_nobody_that_could_be_dialled(
    remote: tuple[str, int] | None, relayed: bool, seen: tuple[str, int] | None
) -> None:
    class Muxed:
        circuit = object() if relayed else None

        def get_remote_address(self) -> tuple[str, int] | None:
            return remote

    assert remote_of(Muxed()) == seen


def test_what_is_no_plain_tcp_address_with_a_number_is_left_out() -> None:
    from multiaddr import Multiaddr

    good = "/ip4/11.1.0.2/tcp/7339"
    odd = [b"", b"\xff\xff", Multiaddr("/dns4/a.example/tcp/7").to_bytes(), bytes(64)]
    found = autonat._addresses([*odd, Multiaddr(good).to_bytes()])
    assert TcpAddress("ip4", "11.1.0.2", 7339, None) in found
    assert all(one.packed or one.kind == "dns4" for one in found)
    assert len(autonat._addresses([Multiaddr(good).to_bytes()] * 100)) == autonat.ADDRS_MAX
