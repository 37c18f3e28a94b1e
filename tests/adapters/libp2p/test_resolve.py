"""Names are found as the system finds them."""

from __future__ import annotations

import pytest
import trio

from swarmllm.adapters.libp2p.addresses import TcpAddress
from swarmllm.adapters.libp2p.resolve import by_number


@pytest.mark.parametrize("kind", ["dns", "dns4"])
def test_a_name_of_the_hosts_file_is_found(kind: str) -> None:
    """DNS servers do not know it."""
    errors: dict[str, str] = {}
    numeric = TcpAddress("ip4", "192.0.2.1", 7, None)
    found = trio.run(by_number, [numeric, TcpAddress(kind, "localhost", 7, None)], errors)
    assert found[0] == numeric
    assert "127.0.0.1" in {addr.host for addr in found[1:]}
    assert {addr.kind for addr in found} <= {"ip4", "ip6"}
    assert errors == {}


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object) -> list[object]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    errors: dict[str, str] = {}
    assert trio.run(by_number, [TcpAddress("dns4", "nowhere.invalid", 7, None)], errors) == []
    assert "not found" in errors["/dns4/nowhere.invalid/tcp/7"]
