"""A home's router that forwards ports on request: `python -m tests.reach.router INSIDE OUTSIDE`
speaks PCP on the private network, and does with nft what it grants."""

from __future__ import annotations

import subprocess
import sys

import trio

from swarmllm.wire.pcp import ROUTER_PORT
from tests.adapters.routers import UdpRouter


async def main(inside: str, outside: str) -> None:
    router = UdpRouter(host=outside)
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind((inside, ROUTER_PORT))

    def grant(reply: bytes, asker: str) -> bytes:
        nft("flush chain ip nat in")
        for port, lifetime in router.mapped.items():
            if lifetime:
                nft(f"add rule ip nat in iifname wan tcp dport {port} dnat to {asker}")
        return reply

    router.grant = grant
    nft("insert rule ip guard pass ct status dnat accept")
    print("up", flush=True)
    await router.serve(sock)


def nft(words: str) -> None:
    subprocess.run(["nft", *words.split()], check=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
