"""The DHT's own list of providers keeps those who were there first
(`core.peers.provider_shares`)."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.envelope import seal_record
from libp2p.peer.peer_record import PeerRecord
from libp2p.peer.peerinfo import PeerInfo
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.libp2p.address_book import ADDRS_MAX
from swarmllm.adapters.libp2p.dht_pace import ANSWERS_BURST, ANSWERS_PER_S, Pace
from swarmllm.adapters.libp2p.directory import _CONNECTION, ANSWERED_MAX, _Providers
from swarmllm.adapters.libp2p.links import libp2p_id
from swarmllm.adapters.libp2p.patches import DHT_MESSAGE_MAX
from swarmllm.core.peers.provider_shares import PER_BLOCK_MAX
from swarmllm.messages import ExpertRecord
from swarmllm.wire.envelope import seal
from tests.adapters.libp2p.support import RawPeer, members, raw_peer
from tests.adapters.libp2p.test_hostile import network_of
from tests.contracts.network_contract import DEADLINE_S

KEY = bytes(32)
KAD = "/swarmllm/test/kad/2"
ELSEWHERE = "/ip4/8.8.8.8/tcp/7339"
"""What a node announces that is not reached by loopback alone."""


def made_up(*hosts: str) -> list[tuple[Any, str]]:
    return [(libp2p_id(ephemeral_key().peer), host) for host in hosts]


def store() -> _Providers:
    return _Providers(
        SimpleNamespace(get_id=lambda: libp2p_id(ephemeral_key().peer)), None, lambda: False
    )


def told(
    providers: _Providers, peer_id: Any, host: str, claimed: str = ELSEWHERE, by: Any = None
) -> None:
    """That `peer_id` provides the key, on a connection from `host`."""
    _CONNECTION.set(
        SimpleNamespace(peer_id=by or peer_id, get_remote_address=lambda: (host, 40_000))
    )
    providers.add_provider(KEY, PeerInfo(peer_id, [Multiaddr(claimed)]))
    _CONNECTION.set(None)


def listed(providers: _Providers) -> list[Any]:
    return [one.peer_id for one in providers.get_providers(KEY)]


def test_twenty_invented_providers_displace_none_of_those_that_are_there() -> None:
    providers, honest = store(), made_up(*(f"8.{i}.8.1" for i in range(BUCKET_SIZE - 1)))
    for one in (*honest, *made_up(*(f"9.{i}.9.1" for i in range(BUCKET_SIZE)))):
        told(providers, *one)
    assert listed(providers) == [peer for peer, _ in honest]


def test_twenty_of_one_network_that_come_first_leave_room_for_others() -> None:
    providers, honest = store(), made_up(*(f"8.{i}.8.1" for i in range(8)))
    for one in (*made_up(*(f"9.9.9.{i}" for i in range(1, BUCKET_SIZE))), *honest):
        told(providers, *one)
    assert set(listed(providers)) >= {peer for peer, _ in honest}
    assert len(listed(providers)) == PER_BLOCK_MAX + len(honest)


def test_what_a_provider_writes_about_itself_gives_it_no_larger_share() -> None:
    providers = store()
    for i, (peer, host) in enumerate(made_up(*["9.9.9.9"] * 12)):
        told(
            providers,
            peer,
            host,
            ("/ip4/127.0.0.1/tcp/7339", f"/ip4/8.{i}.8.1/tcp/7339", "/dns/a/tcp/7339")[i % 3],
        )
    assert len(listed(providers)) == PER_BLOCK_MAX


def test_whoever_renews_from_elsewhere_frees_no_place_in_the_block_that_it_came_from() -> None:
    providers, first = store(), made_up(*["9.9.9.9"] * PER_BLOCK_MAX)
    for peer, _ in first:
        told(providers, peer, "9.9.9.9")
        told(providers, peer, "7.7.7.7")
    for peer, host in made_up(*["9.9.9.9"] * 4):
        told(providers, peer, host)
    assert listed(providers) == [peer for peer, _ in first]


def test_hearsay_about_who_provides_is_not_kept() -> None:
    providers, ((peer, host), (other, _)) = store(), made_up("8.8.8.8", "9.9.9.9")
    told(providers, peer, host, by=other)
    providers.add_provider(KEY, PeerInfo(peer, [Multiaddr(ELSEWHERE)]))  # From nobody's connection.
    assert listed(providers) == []


# --- over the wire --------------------------------------------------------------------------------


async def asked(raw: RawPeer, conn: Any, message: Message) -> Message:
    stream = await raw.open(conn, KAD)
    body = message.SerializeToString()
    await stream.write(encode_varint_prefixed(body))
    answer = Message()
    with trio.fail_after(DEADLINE_S):
        answer.ParseFromString(await read_varint_prefixed_bytes(stream))
    await stream.reset()
    return answer


def providing(raw: RawPeer, *addrs: str) -> Message:
    message = Message(type=Message.MessageType.ADD_PROVIDER, key=KEY)
    message.providerPeers.add(
        id=libp2p_id(raw.peer).to_bytes(), addrs=[Multiaddr(addr).to_bytes() for addr in addrs]
    )
    return message


def test_invented_identities_of_one_machine_take_one_share_whatever_addresses_they_write() -> None:
    async def main() -> None:
        async with members(1, announce=(ELSEWHERE,), listen=("/ip4/127.0.0.1/tcp/0",)) as (node,):
            network = network_of(node)
            addr = str(network._listening[0])
            for i in range(PER_BLOCK_MAX + 3):
                async with raw_peer() as raw:
                    conn = await raw.switch.dial_addr(Multiaddr(addr), libp2p_id(node.peer))
                    claimed = (
                        "/ip4/127.0.0.1/tcp/7339",
                        f"/ip4/9.{i}.9.9/tcp/7339",
                        f"/ip6/2002:909:909:{i}::1/tcp/7339",
                    )
                    await asked(raw, conn, providing(raw, claimed[i % 3]))
            assert network._directory is not None
            assert len(network._directory.dht.provider_store.get_providers(KEY)) == PER_BLOCK_MAX

    trio.run(main)


LONG = ["/ip4/9.9.9.9/tcp/7339"] + [
    f"/dns/{'.'.join(['a' * 50] * 4)}{i}/tcp/7339" for i in range(250)
]
"""Some 50 kB."""


@pytest.mark.parametrize(
    "addrs",
    [[f"/ip4/9.{i // 250}.{i % 250}.9/tcp/7339" for i in range(5_000)], LONG],
    ids=["many", "long"],
)
def test_no_peer_makes_the_answer_about_all_of_them_too_long_to_read(addrs: list[str]) -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as hog, raw_peer() as raw:
            conn = await hog.dial(network_of(node))
            await asked(hog, conn, providing(hog, *addrs))
            # Its signed record says the same, in the DHT's answers about whoever is near.
            record = PeerRecord(libp2p_id(hog.peer), [Multiaddr(addr) for addr in addrs], 1)
            signed = seal_record(
                record, hog.switch.peerstore.privkey(libp2p_id(hog.peer))
            ).marshal_envelope()
            ask = Message(type=Message.MessageType.GET_PROVIDERS, key=KEY)
            find = Message(
                type=Message.MessageType.FIND_NODE,
                key=libp2p_id(hog.peer).to_bytes(),
                senderRecord=signed,
            )
            await asked(hog, conn, find)
            conn = await raw.dial(network_of(node))
            answer = await asked(raw, conn, ask)
            assert [len(one.addrs) for one in answer.providerPeers] in ([ADDRS_MAX], [1])
            assert answer.ByteSize() < DHT_MESSAGE_MAX // 40

    trio.run(main)


def test_one_peer_with_silent_streams_does_not_keep_the_dht_from_others() -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as hog, raw_peer() as raw:
            conn = await hog.dial(network_of(node))
            for _ in range(ANSWERED_MAX):  # Each is a call that never comes.
                await hog.open(conn, KAD)
            assert network_of(node)._directory is not None
            conn = await raw.dial(network_of(node))
            for _ in range(ANSWERED_MAX):
                answer = await asked(
                    raw, conn, Message(type=Message.MessageType.GET_PROVIDERS, key=KEY)
                )
                assert answer.key == KEY

    trio.run(main)


def putting(key: KeyFile) -> Message:
    record = ExpertRecord(1, "demo", bytes(32), KEY, 1, (ELSEWHERE,))
    name = f"/swarmllm/{key.peer}".encode()
    message = Message(type=Message.MessageType.PUT_VALUE, key=name)
    message.record.key, message.record.value = name, seal(record, key.public_key, key.sign)
    return message


def test_a_peer_puts_its_own_value_and_nobody_else_s_and_one_machine_has_one_share() -> None:
    async def main() -> None:
        async with members(1, announce=(ELSEWHERE,)) as (node,):
            network = network_of(node)
            assert network._directory is not None
            store = network._directory.dht.value_store
            addr = Multiaddr(str(network._listening[0]))
            for _ in range(PER_BLOCK_MAX + 3):
                key = ephemeral_key()
                async with raw_peer(key=key) as raw:
                    conn = await raw.switch.dial_addr(addr, libp2p_id(node.peer))
                    with suppress(BaseLibp2pError):
                        await asked(raw, conn, putting(ephemeral_key()))
                    with suppress(BaseLibp2pError):
                        await asked(raw, conn, putting(key))
            assert len(store.store) == PER_BLOCK_MAX

    trio.run(main)


def test_whoever_asks_without_end_waits_and_others_do_not() -> None:
    class Conn:
        """Of one peer."""

    pace, hog, other = Pace(), Conn(), Conn()
    waits = [pace.wait_s(hog, 0.0) for _ in range(1_000)]
    assert waits[: int(ANSWERS_BURST)] == [0.0] * int(ANSWERS_BURST)
    assert waits[-1] == pytest.approx((1_000 - ANSWERS_BURST) / ANSWERS_PER_S)
    assert pace.wait_s(other, 0.0) == 0.0


def test_a_flood_of_questions_on_one_stream_is_answered_at_the_pace_of_one_connection() -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as hog:
            stream = await hog.open(await hog.dial(network_of(node)), KAD)
            ask = Message(type=Message.MessageType.PING).SerializeToString()
            await stream.write(encode_varint_prefixed(ask) * 200)
            began, answers = trio.current_time(), 0
            with trio.move_on_after(0.5):
                while answers < 200:
                    await read_varint_prefixed_bytes(stream)
                    answers += 1
            assert 1 <= answers <= ANSWERS_BURST + 2 + ANSWERS_PER_S * (trio.current_time() - began)

    trio.run(main)
