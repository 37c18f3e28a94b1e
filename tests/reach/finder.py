"""A network with LAN discovery alone, in a process of its own: `python -m tests.reach.finder ADDR`
prints the peers that it finds, until its input closes."""

from __future__ import annotations

import sys

import trio

from swarmllm.core.inputs import AddressesFound
from tests.adapters.libp2p.support import member


async def main(listen: str) -> None:
    async with member(listen=(listen,), lan=True, dht=False, swarm="finders") as found:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave, nursery.cancel_scope)
            print(found.peer, flush=True)
            async for event in found.network.inputs:
                if isinstance(event, AddressesFound):
                    print(event.peer, flush=True)


async def _leave(scope: trio.CancelScope) -> None:
    await trio.to_thread.run_sync(sys.stdin.read)
    scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
