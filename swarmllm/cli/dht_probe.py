"""A DHT probe: a fresh peer that knows one address and asks who provides experts.

It has a key of its own that is kept nowhere, does not listen to the LAN, has no part in gossip, and
leaves at once.
"""

from __future__ import annotations

from typing import Final

import trio

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkOptions, open_network
from swarmllm.core.inputs import AddressesFound, PeerConnected

# Provider records spread in the background, a moment after a node has met its first peer.
ASK_EVERY_S: Final = 1.0


async def providers(
    address: str, swarm: str, key: bytes, wanted: set[str], timeout_s: float
) -> set[str]:
    """The peers that the DHT names as providers of `key`: at least `wanted`, or what was found when
    time is up."""
    found: set[str] = set()
    options = NetworkOptions(
        seed=ephemeral_key().seed,
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=(address,),
        lan=False,
        swarm=swarm,
    )
    async with open_network(options) as network:
        with trio.move_on_after(timeout_s):
            connected = trio.Event()
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    await connected.wait()
                    while True:
                        network.look_up(key)
                        await trio.sleep(ASK_EVERY_S)

                nursery.start_soon(ask)
                async for event in network.inputs:
                    match event:
                        case PeerConnected():
                            connected.set()
                        case AddressesFound(peer=peer, source="dht"):
                            found.add(peer)
                            if found >= wanted:
                                nursery.cancel_scope.cancel()
                        case _:
                            continue
    return found
