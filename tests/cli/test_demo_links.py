"""The distances of `swarmllm demo --agent`: each address leads to the node, and is its own way
long."""

from __future__ import annotations

import re

import pytest
import trio

from swarmllm.cli.demo_links import distances
from swarmllm.errors import LocalError
from tests.clock import under_mock_clock

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


@under_mock_clock(idle_s=0.05)
async def test_each_address_leads_to_the_same_node_its_own_way_away() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        port = listeners[0].socket.getsockname()[1]
        took = []
        async with distances(f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}", (0.03, 0.06), 0.0) as found:
            for address in found:
                way = re.fullmatch(rf"/ip4/127\.0\.0\.1/tcp/(\d+)/p2p/{PEER}", address)
                assert way is not None
                assert int(way[1]) != port
                async with await trio.open_tcp_stream("127.0.0.1", int(way[1])) as stream:
                    sent_at = trio.current_time()
                    await stream.send_all(b"ping")
                    assert await stream.receive_some(4) == b"ping"
                    took.append(trio.current_time() - sent_at)
        assert took == pytest.approx([0.06, 0.12], abs=1e-9)
        nursery.cancel_scope.cancel()


def test_no_line_leads_to_another_machine() -> None:
    async def body() -> None:
        async with distances("/ip4/192.0.2.1/tcp/7339", (0.03,), 0.0):
            pass

    with pytest.raises(LocalError, match=r"192\.0\.2\.1"):
        trio.run(body)
