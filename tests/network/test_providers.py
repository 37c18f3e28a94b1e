"""The DHT's own list of providers keeps those who were there first (`core.sharing`)."""

from __future__ import annotations

from types import SimpleNamespace

from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p.directory import _Providers
from swarmllm.adapters.libp2p.links import libp2p_id
from swarmllm.core.sharing import PER_BLOCK_MAX

KEY = bytes(32)


def made_up(*hosts: str) -> list[PeerInfo]:
    return [PeerInfo(libp2p_id(ephemeral_key().peer), [Multiaddr(f"/ip4/{host}/tcp/7339")]) for host in hosts]


def store() -> _Providers:
    return _Providers(SimpleNamespace(get_id=lambda: libp2p_id(ephemeral_key().peer)))


def test_twenty_invented_providers_displace_none_of_those_that_are_there() -> None:
    providers, honest = store(), made_up(*(f"8.8.{i}.1" for i in range(BUCKET_SIZE - 1)))
    for one in (*honest, *made_up(*(f"9.9.{i}.1" for i in range(BUCKET_SIZE)))):
        providers.add_provider(KEY, one)
    assert [one.peer_id for one in providers.get_providers(KEY)] == [one.peer_id for one in honest]


def test_twenty_of_one_network_that_come_first_leave_room_for_others() -> None:
    providers, honest = store(), made_up(*(f"8.8.{i}.1" for i in range(8)))
    for one in (*made_up(*(f"9.9.9.{i}" for i in range(1, BUCKET_SIZE))), *honest):
        providers.add_provider(KEY, one)
    listed = {one.peer_id for one in providers.get_providers(KEY)}
    assert listed >= {one.peer_id for one in honest}
    assert len(listed) == PER_BLOCK_MAX + len(honest)
