"""On an overloaded machine answers come after we gave up waiting for them; such an answer, and one
to nothing, is ignored."""

from __future__ import annotations

from typing import Any, cast

import trio

from swarmllm.adapters.libp2p.lane import Commons
from swarmllm.adapters.libp2p.link import PINGS_MAX, Link, LinkEvents
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.messages import PeerId, Ping, Pong, StreamMessage


class Sent:
    """In place of a lane: what would go out on it."""

    def __init__(self) -> None:
        self.nonces: list[int] = []

    def put(self, message: StreamMessage) -> bool:
        assert isinstance(message, Ping)
        self.nonces.append(message.nonce)
        return True


def link_with(lane: Sent, measured: list[float]) -> Link:
    async def take(*_: Any) -> None:
        raise AssertionError("no message is expected here")

    def never(*_: Any) -> Any:
        raise AssertionError("nothing is broken, and nothing ends")

    events = LinkEvents(
        lambda _: None,
        lambda _link, _rtt: measured.append(_rtt),
        take,
        never,
        never,
        never,
        lambda _: None,
    )
    link = Link(
        None,
        PeerId("peer"),
        cast(Any, None),
        NetworkLimits(),
        NetworkTiming(),
        Commons(NetworkLimits()),
        events,
    )
    link._ask = cast(Any, lane)
    return link


def test_a_pong_that_comes_after_we_gave_up_is_ignored_and_so_is_one_to_no_ping() -> None:
    async def main() -> None:
        sent, measured = Sent(), list[float]()
        link = link_with(sent, measured)
        for _ in range(PINGS_MAX + 2):
            link.ping()
        # The first two were given up; all are answered in the end, one of them twice.
        for nonce in sent.nonces:
            await link._on_reply(Pong(nonce), 9)
        await link._on_reply(Pong(sent.nonces[0]), 9)
        assert len(measured) == PINGS_MAX
        for nonce in (0, sent.nonces[-1] + 1, 2**32 - 1):
            await link._on_reply(Pong(nonce), 9)
            await link._on_request(Pong(nonce), 9)
        assert len(measured) == PINGS_MAX
        assert not link.is_over

    trio.run(main)
