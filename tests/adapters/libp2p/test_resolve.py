"""Names are found as the system finds them."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.libp2p import resolve
from swarmllm.adapters.libp2p.addresses import TcpAddress
from swarmllm.adapters.libp2p.resolve import by_number
from swarmllm.messages import PeerId


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


PEER = PeerId("12D3KooWQXkUpqZ7eNsyWgkYFdhRPY8AQQYFB61PMM7A3c34iEwL")
OTHER = PeerId("12D3KooWS8mR9tE5JvpkZy5bLwWVubBnwz4XnFNiMSHGbXWCo6NN")
NAMED = TcpAddress("dnsaddr", "swarm.example", 0, None)


def looked_up(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> tuple[list[str], str]:
    """The addresses of PEER, and why there are none."""

    async def answer(name: str) -> list[str]:
        assert name == "_dnsaddr.swarm.example"
        return texts

    monkeypatch.setattr(resolve, "_texts", answer)
    errors: dict[str, str] = {}
    found = trio.run(by_number, [NAMED], errors, PEER)
    return [str(addr) for addr in found], errors.get("/dnsaddr/swarm.example", "")


def test_a_name_at_which_dns_has_whole_addresses_gives_those_of_the_peer_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [
        f"dnsaddr=/ip4/11.1.0.2/tcp/7339/p2p/{PEER}",
        f"dnsaddr=/ip6/2a0e:1::2/tcp/7339/p2p/{PEER}",
        f"dnsaddr=/ip4/11.2.0.2/tcp/7339/p2p/{OTHER}",
        f"dnsaddr=/dnsaddr/again.example/p2p/{PEER}",
        "v=spf1 -all",
        "dnsaddr=noise",
    ]
    found, why = looked_up(monkeypatch, texts)
    assert found == ["/ip4/11.1.0.2/tcp/7339", "/ip6/2a0e:1::2/tcp/7339"]
    assert why == ""


def test_a_name_with_nothing_of_that_peer_or_with_very_much_says_so_or_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, why = looked_up(monkeypatch, [f"dnsaddr=/ip4/11.2.0.2/tcp/7339/p2p/{OTHER}"])
    assert found == []
    assert str(PEER) in why
    found, _ = looked_up(
        monkeypatch, [f"dnsaddr=/ip4/11.1.0.2/tcp/{port}" for port in range(2_000, 4_000)]
    )
    assert len(found) == resolve.RESULTS_MAX


@given(st.lists(st.text(max_size=80), max_size=10))
def test_whatever_texts_dns_has_no_exception_comes_of_them(texts: list[str]) -> None:
    for text in [*texts, *(f"dnsaddr=/{text}" for text in texts)]:
        assert all(addr.port for addr in resolve._told([text], PEER))


def test_dns_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(name: str) -> list[str]:
        raise ValueError("no such name")

    monkeypatch.setattr(resolve, "_texts", fail)
    errors: dict[str, str] = {}
    assert trio.run(by_number, [NAMED], errors, PEER) == []
    assert errors == {"/dnsaddr/swarm.example": "DNS has no addresses there (no such name)"}
