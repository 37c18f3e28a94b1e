"""Distances between processes of one machine: for each expert of a demonstration an address of the
asking node that is as far away as a volunteer's line makes it.

Whoever dials such an address talks to the node through a proxy that delays what goes either way.
Experts are told this address and no other, so each is connected through it before anybody could
name it to the node.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from swarmllm.errors import LocalError
from swarmllm.testing.proxy import Link, open_proxy

_PORT: Final = re.compile(r"/ip4/127\.0\.0\.1/tcp/(\d+)(?=/|$)")


@asynccontextmanager
async def distances(
    address: str, delays_s: Sequence[float], jitter: float
) -> AsyncIterator[list[str]]:
    """An address for each of these one-way delays, all of which lead to `address`."""
    found = _PORT.match(address)
    if found is None:
        raise LocalError(f"{address} is no address of this machine; no line can lead to it")
    async with AsyncExitStack() as stack:
        through = []
        for number, delay_s in enumerate(delays_s):
            link = Link(delay_s, jitter)
            opening = open_proxy("127.0.0.1", int(found[1]), link, seed=number)
            proxy = await stack.enter_async_context(opening)
            through.append(_PORT.sub(f"/ip4/{proxy.host}/tcp/{proxy.port}", address))
        yield through
