"""One node's network as a process in the laboratory, and the figures of hole punching between two
homes: `python -m tests.reach.punching CALLER HIDDEN [TIMES]`.

The process (`python -m tests.reach.punching node ...`) is told nothing but addresses and writes
JSON lines: it has no model, so that a figure is one of the network alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkOptions, NetworkTiming, open_network
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.core.inputs import AddressesChanged, DialFailed, PeerConnected, PeerLost, PingMeasured
from swarmllm.messages import PeerId
from tests.reach.lab import PORT, Lab, built

LISTEN: Final = f"/ip4/0.0.0.0/tcp/{PORT}"
PING_S: Final = 0.2
PINGS: Final = 8


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def node(role: str, relay: str, target: str, addrs: tuple[str, ...]) -> None:
    """`relay`, `hidden` (reached through the relay at this address), `caller` (dials `target`)."""
    options = NetworkOptions(
        seed=ephemeral_key().seed,
        listen=(LISTEN,),
        lan=False,
        dht=False,
        swarm="lab",
        relay=role == "relay",
        behind_nat=role == "hidden",
        bootstrap=(relay,) if relay else (),
        timing=NetworkTiming(ping_every_s=PING_S),
    )
    async with open_network(options) as network, trio.open_nursery() as nursery:
        say(peer=network.peer, addrs=network.addrs)
        nursery.start_soon(watch, network)
        if target:
            network.dial(PeerId(target), addrs)
        began = time.monotonic()
        async for happened in network.inputs:
            after_s = round(time.monotonic() - began, 3)
            match happened:
                case AddressesChanged(addrs=found):
                    say(peer=network.peer, addrs=found)
                case PeerConnected(peer=peer) if peer == target:
                    say(connected=peer, after_s=after_s)
                case PeerLost(peer=peer) | DialFailed(peer=peer) if peer == target:
                    say(lost=peer, why=happened.reason, after_s=after_s)
                case PingMeasured(peer=peer, rtt_s=rtt_s) if peer == target:
                    say(rtt_ms=rtt_s * 1e3, circuits=network.relays.circuits)


async def watch(network: Libp2pNetwork) -> None:
    """Say how the punching went, whenever it has gone on, and for how long it was tried."""
    before: dict[str, int] = {}
    began = 0.0
    while True:
        now = dict(network.traffic.punching)
        if now != before:
            began = time.monotonic() if not before.get("tried") else began
            say(punching=now, tried_s=round(time.monotonic() - began, 2))
            before = now
        await trio.sleep(0.05)


@contextmanager
def process(lab: Lab, host: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*("ip", "netns", "exec", lab.space(host)), sys.executable, "-m"]
    started = subprocess.Popen(
        [*command, "tests.reach.punching", "node", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def lines(running: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert running.stdout is not None
    yield from map(json.loads, running.stdout)


def measured(lab: Lab, caller: str, hidden: str) -> dict[str, Any]:
    """Once: how long until the two are connected, whether and how soon directly, and round trips
    before and after."""
    with process(lab, "relay", "relay") as relay:
        at = next(lines(relay))["addrs"][0]
        with process(lab, hidden, "hidden", at) as sheltered:
            news = lines(sheltered)
            there = next(one for one in news if "/p2p-circuit" in str(one.get("addrs")))
            with process(lab, caller, "caller", at, there["peer"], *there["addrs"]) as asking:
                heard = lines(asking)
                first = next(one for one in heard if "connected" in one or "lost" in one)
                outcome = next(one for one in news if ended(one.get("punching", {})))
                is_direct = bool(outcome["punching"]["punched"])
                through, direct = round_trips(heard, is_direct)
                return {
                    "caller": caller,
                    "hidden": hidden,
                    "connected_s": first["after_s"],
                    "direct": is_direct,
                    "tried_s": outcome["tried_s"],
                    "relayed_rtt_ms": through,
                    "direct_rtt_ms": direct,
                }


def ended(figures: dict[str, int]) -> bool:
    return bool(figures.get("punched") or figures.get("no_hole"))


def round_trips(heard: Iterator[dict[str, Any]], is_direct: bool) -> tuple[float, float | None]:
    """The shortest of some through the relay, and of some without it, in milliseconds."""
    through: list[float] = []
    direct: list[float] = []
    for one in heard:
        if "rtt_ms" in one:
            (through if one["circuits"] else direct).append(one["rtt_ms"])
        if len(direct) >= PINGS or (not is_direct and len(through) >= PINGS):
            break
    return round(min(through, default=0.0), 2), round(min(direct), 2) if direct else None


def main() -> None:
    if sys.argv[1] == "node":
        role, relay, target, *addrs = (*sys.argv[2:], "", "", "")[: max(3, len(sys.argv) - 2)]
        trio.run(node, role, relay, target, tuple(addrs))
        return
    caller, hidden, *rest = sys.argv[1:]
    for _ in range(int(rest[0]) if rest else 1):
        # A new one each time: two ports that were connected are not again for a minute.
        with built("relay", caller, hidden) as lab:
            say(**measured(lab, caller, hidden))


if __name__ == "__main__":
    main()
