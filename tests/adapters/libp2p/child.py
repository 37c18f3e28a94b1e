"""A network in a process of its own, to be frozen and killed: dials the address given and answers
every request with Busy."""

from __future__ import annotations

import sys

import trio

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import open_network
from swarmllm.core.inputs import Received
from swarmllm.messages import Busy, Score
from tests.adapters.libp2p.support import options


async def main(addr: str) -> None:
    async with open_network(options(ephemeral_key(), bootstrap=(addr,))) as network:
        print(network.peer, flush=True)
        async for happened in network.inputs:
            if isinstance(happened, Received) and isinstance(happened.message, Score):
                network.send(
                    happened.peer, Busy(happened.message.session, happened.message.round, 0)
                )


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
