"""What peers say of where they see this node is a stranger's word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from swarmllm.adapters.libp2p import reaching
from swarmllm.adapters.libp2p.addresses import TcpAddress
from swarmllm.adapters.libp2p.autonat import Answer
from swarmllm.adapters.libp2p.reaching import Reaching
from swarmllm.messages import PeerId

OURS, PRIVATE, OTHER = "11.1.0.5", "192.168.1.7", "66.6.6.6"


@pytest.mark.parametrize(
    ("own", "seen", "asks"),
    [
        ((OURS,), OURS, True),
        ((OURS, PRIVATE), OTHER, False),
        ((PRIVATE,), OTHER, True),  # Behind a NAT, which has an address of its own.
    ],
)
def test_a_machine_that_has_global_addresses_is_nowhere_else(
    own: tuple[str, ...], seen: str, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def observed(*_: object) -> str:
        return seen

    async def ask(_host: object, _conn: object, addrs: list[TcpAddress]) -> Answer:
        asked.extend(addrs)
        return Answer(None)

    monkeypatch.setattr(reaching, "observed_by", observed)
    monkeypatch.setattr(reaching, "ask", ask)
    addrs = [TcpAddress("ip4", host, 7339, None) for host in own]
    nobody: Any = None
    links: Any = SimpleNamespace(ready_peers=())

    async def main() -> None:
        found = Reaching(nobody, links, lambda: addrs, lambda _: None)
        await found._ask(PeerId("one"), nobody, b"1", "11.9.9.9")

    trio.run(main)
    assert asked == ([TcpAddress("ip4", seen, 7339, None)] if asks else [])
