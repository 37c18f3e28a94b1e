"""UPnP port mapping by miniupnpc, in a process of its own: `python -m swarmllm.adapters.upnp`.

miniupnpc is C, waits where nobody can wake it, and reads XML from whatever on the local network
says that it is a router, as long as more of it comes. So it gets a process: one order in its
arguments, one line of JSON as the answer, an alarm that ends it whatever it is doing, and a bound
on its memory. A mapping always has a lease, so that none
stays when a machine dies.

    map PORT LEASE_S OWN_IP [URL]    look for a router (or ask the one at URL), forward PORT
    unmap PORT OWN_IP [URL]          forward it no more
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

LIFE_S: Final = 10  # For all of it; most answer within two.
# Python and the library take 40 MB of address space; what a router says of itself has some kB.
MEMORY_MAX: Final = 128 << 20
SEARCH_MS: Final = 1_500
TRIES: Final = 3  # Ports: the one that we listen on, and two above it.
DESCRIPTION: Final = "swarmllm"
TEXT_MAX: Final = 200


def select(router: Any, url: str) -> None:
    """Exception (miniupnpc's) if there is none."""
    if url:
        router.selectigd(url)
    else:
        router.discoverdelay = SEARCH_MS
        router.discover()
        router.selectigd()


def mapped(router: Any, port: int, lease_s: int) -> dict[str, object]:
    outside = router.externalipaddress()
    fault = "the router gave no port"
    for wanted in range(port, port + TRIES):
        try:
            if router.addportmapping(wanted, "TCP", router.lanaddr, port, DESCRIPTION, "", lease_s):
                return {"host": str(outside), "port": wanted}
        except Exception as error:  # noqa: BLE001  miniupnpc raises its plain Exception, whatever the router said.
            fault = str(error)
    return {"error": fault[:TEXT_MAX]}


def bound_memory(bytes_max: int) -> None:
    """Of this process. A system that knows no such bound has the alarm alone."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (bytes_max, bytes_max))


def main(arguments: Sequence[str]) -> int:
    signal.alarm(LIFE_S)
    import miniupnpc

    bound_memory(MEMORY_MAX)

    told: dict[str, object]
    try:
        match list(arguments):
            case ["map", port, lease_s, own, *url]:
                router = miniupnpc.UPnP(multicastif=own)
                select(router, "".join(url))
                told = mapped(router, int(port), int(lease_s))
            case ["unmap", port, own, *url]:
                router = miniupnpc.UPnP(multicastif=own)
                select(router, "".join(url))
                told = {"removed": bool(router.deleteportmapping(int(port), "TCP"))}
            case _:
                told = {"error": "map PORT LEASE_S OWN_IP [URL], or unmap PORT OWN_IP [URL]"}
    except Exception as error:  # noqa: BLE001  As above; this process ends with the answer.
        told = {"error": str(error)[:TEXT_MAX]}
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
