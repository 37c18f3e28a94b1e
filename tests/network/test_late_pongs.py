"""On an overloaded machine answers come after we gave up waiting for them; only what was never asked for breaks the protocol."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from swarmllm.adapters.libp2p.link import PINGS_MAX, Link, LinkEvents
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId, Ping, Pong, StreamMessage


class Sent:
    """In place of a lane: what would go out on it."""

    def __init__(self) -> None:
        self.nonces: list[int] = []

    def put(self, message: StreamMessage) -> bool:
        assert isinstance(message, Ping)
        self.nonces.append(message.nonce)
        return True


def link_with(lane: Sent) -> Link:
    async def take(*_: Any) -> None:
        raise AssertionError("no message is expected here")

    events = LinkEvents(lambda _: None, lambda _link, _rtt: None, take, lambda _link, _why: None, lambda _: None)
    link = Link(None, PeerId("peer"), cast(Any, None), NetworkLimits(), NetworkTiming(), events)
    link._ask = cast(Any, lane)
    return link


def test_a_pong_that_comes_after_we_gave_up_is_no_strike_and_one_to_no_ping_is() -> None:
    async def main() -> None:
        sent = Sent()
        link = link_with(sent)
        for _ in range(PINGS_MAX + 2):
            link.ping()
        for nonce in sent.nonces:  # The first two were given up; all are answered in the end, one of them twice.
            await link._on_reply(Pong(nonce), 9)
        await link._on_reply(Pong(sent.nonces[0]), 9)
        for nonce in (0, sent.nonces[-1] + 1, 2**32 - 1):
            with pytest.raises(RemoteError):
                await link._on_reply(Pong(nonce), 9)

    trio.run(main)
