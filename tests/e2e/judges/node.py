"""A node for judges and clients: a server of the real API over a swarm of one obedient expert.

python -m tests.e2e.judges.node FOLDER [PORT]     writes its address, and serves until it is ended

FOLDER is its data folder: `swarmllm run TOOL --data-dir FOLDER` finds it there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.runtime.local_api.server import serve
from swarmllm.runtime.service.service import Service
from swarmllm.testing.memory_network import MemorySwarm
from tests.e2e.judges.obedient import TEMPLATE, ObedientModel, obliging
from tests.runtime.little_swarm import joined


async def main(folder: Path, port: int) -> None:
    async with MemorySwarm(delay_s=0.0) as wire:
        async with joined(
            *(wire, 1, ObedientModel(obliging), 0.0, frozenset({511})),
            chat_template=TEMPLATE,
            grammars=Grammars(),
        ) as member:
            await member.local.wait_ready(1, timeout_s=60)
            service = Service()
            service.open(member.local)
            options = Options("127.0.0.1", port, (), (), (), folder / TOKEN_FILE)
            async with serving(service, options) as url, trio.open_nursery() as nursery:
                service.http = url
                await nursery.start(
                    lambda task_status: serve(
                        service, folder, fallback=folder, task_status=task_status
                    )
                )
                print(url, flush=True)
                await trio.sleep_forever()


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    trio.run(main, Path(sys.argv[1]), int((sys.argv[2:] or ["0"])[0]))
