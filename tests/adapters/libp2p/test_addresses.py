"""Which addresses are listened on and told to others, and which of those that others tell are
believed."""

from __future__ import annotations

import ipaddress
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import addresses, open_network
from swarmllm.adapters.libp2p.addresses import (
    TcpAddress,
    bind,
    bind_all,
    bound_addr,
    parse_addr,
    reachable,
)
from swarmllm.adapters.libp2p.lan import read_service
from swarmllm.errors import LocalError, RemoteError
from tests.adapters.libp2p.support import members, options
from tests.contracts.network_contract import connect

PEER = "12D3KooWQXkUpqZ7eNsyWgkYFdhRPY8AQQYFB61PMM7A3c34iEwL"


def interfaces(monkeypatch: pytest.MonkeyPatch, *adapters: tuple[str, str]) -> None:
    """The machine has these (name, address) and routes through the first."""
    found = [SimpleNamespace(nice_name=name, ips=[SimpleNamespace(ip=ip)]) for name, ip in adapters]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: found)
    monkeypatch.setattr(addresses, "_routed_ip", lambda version: adapters[0][1])


def wildcard(port: int = 7339) -> TcpAddress:
    return TcpAddress("ip4", "0.0.0.0", port, None)


def hosts(found: tuple[TcpAddress, ...]) -> list[str]:
    return [addr.host for addr in found]


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.7/tcp/7339",
        "/ip6/2001:db8::1/tcp/1",
        "/dns4/example.org/tcp/7339",
        f"/ip4/192.0.2.7/tcp/7339/p2p/{PEER}",
    ],
)
def test_an_address_is_read_and_spelled_the_same(text: str) -> None:
    addr = parse_addr(text)
    assert f"{addr}/p2p/{addr.peer}" == text if addr.peer else str(addr) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.7:7339",
        "/ip4/192.0.2.7/udp/7339",
        "/ip4/192.0.2.7/tcp/70000",
        "/ip4/192.0.2.7/tcp/-1",
        "/ip4/300.0.2.7/tcp/1",
        "/ip4/192.0.2.7/tcp/7339/ws",
        "/ip4/192.0.2.7/tcp/7339/p2p/Qm",
        "/ip4/192.0.2.7/tcp/7339/p2p-circuit/p2p",
        "/dns4//tcp/1",
        "/ip4/1.2.3.4/tcp/" + "1" * 500,
    ],
)
def test_anything_but_plain_tcp_is_a_remote_error(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_addr(text)


@given(
    st.text(max_size=80) | st.from_regex(r"/ip[46]/[0-9a-f.:]{0,20}/tcp/[0-9]{0,6}", fullmatch=True)
)
def test_any_text_is_an_address_or_a_remote_error(text: str) -> None:
    try:
        addr = parse_addr(text)
    except RemoteError:
        return
    assert parse_addr(str(addr)) == TcpAddress(addr.kind, addr.host, addr.port, None)


def test_a_wildcard_becomes_the_interfaces_likeliest_first_without_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interfaces(
        monkeypatch,
        ("wlan0", "192.168.1.20"),
        ("lo", "127.0.0.1"),
        ("docker0", "172.17.0.1"),
        ("eth0", "10.0.0.5"),
        ("eth1", "169.254.3.3"),
    )
    assert hosts(reachable([wildcard()])) == ["192.168.1.20", "10.0.0.5", "172.17.0.1"]


def test_loopback_is_told_only_when_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces(monkeypatch, ("lo", "127.0.0.1"))
    assert hosts(reachable([wildcard()])) == ["127.0.0.1"]
    loopback, outside = (
        TcpAddress("ip4", "127.0.0.1", 1, None),
        TcpAddress("ip4", "192.0.2.7", 1, None),
    )
    assert reachable([loopback]) == (loopback,)
    assert reachable([loopback, outside]) == (outside,)


def test_the_interfaces_of_this_machine_are_addresses_that_others_may_reach() -> None:
    for text in addresses.interface_ips():
        ip = ipaddress.ip_address(text)
        assert not ip.is_loopback
        assert not ip.is_link_local


def test_a_taken_port_is_named_or_the_next_free_one_used() -> None:
    with bind(TcpAddress("ip4", "127.0.0.1", 0, None), False) as first:
        taken = bound_addr(first)
        with pytest.raises(LocalError, match=f"port {taken.port} is taken on 127.0.0.1"):
            bind(taken, False)
        with bind(taken, True) as second:
            assert bound_addr(second).port > taken.port


def test_a_port_is_not_shared_with_a_listener_that_would_share_it() -> None:
    """Fault 8."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LocalError, match="taken"):
            bind(TcpAddress("ip4", "127.0.0.1", other.getsockname()[1], None), False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listen": ("nonsense",)}, "the listen address 'nonsense'"),
        ({"listen": ("/dns4/example.org/tcp/1",)}, "cannot listen on the name"),
        ({"listen": ("/ip4/192.0.2.77/tcp/0",)}, "cannot listen on /ip4/192.0.2.77/tcp/0"),
        ({"announce": ("/ip4/1.2.3.4/udp/1",)}, "the announce address"),
        ({"bootstrap": ("/ip4/192.0.2.7/tcp/7339",)}, "names no peer"),
    ],
)
def test_bad_options_are_one_clear_sentence(changes: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with open_network(options(ephemeral_key(), **changes)):
            pass

    with pytest.raises(LocalError, match=words.replace("(", r"\(")):
        trio.run(main)


def test_announced_addresses_replace_the_real_ones() -> None:
    async def main() -> tuple[str, ...]:
        key = ephemeral_key()
        proxy = "/ip4/127.0.0.1/tcp/4242"
        async with open_network(options(key, announce=(proxy,))) as network:
            assert network.addrs == (f"{proxy}/p2p/{key.peer}",)
            assert [str(addr) for addr in network._host.get_addrs()] == list(network.addrs)
            return network.addrs

    trio.run(main)


TAG = "ab" * 32


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {b"swarm": b"another", b"dnsaddr": f"/ip4/192.0.2.7/tcp/1/p2p/{PEER}".encode()},
        {b"swarm": TAG.encode()},
        {b"swarm": TAG.encode(), b"dnsaddr": None},
        {b"swarm": TAG.encode(), b"dnsaddr": b"\xff\xfe"},
        {b"swarm": TAG.encode(), b"dnsaddr": b"/ip4/192.0.2.7/tcp/1"},
        {
            b"swarm": TAG.encode(),
            b"dnsaddr": f"/ip4/192.0.2.7/tcp/1/p2p/{PEER}".encode(),
            b"dnsaddr1": f"/ip4/192.0.2.7/tcp/1/p2p/{ephemeral_key().peer}".encode(),
        },
    ],
)
def test_a_service_record_of_others_or_of_nobody_is_no_peer(properties: dict[bytes, Any]) -> None:
    assert read_service(properties, TAG) is None


def test_a_service_record_gives_at_most_eight_addresses_of_one_peer() -> None:
    many: dict[bytes, Any] = {b"swarm": TAG.encode()}
    many |= {
        f"dnsaddr{n}".encode(): f"/ip4/192.0.2.{n}/tcp/1/p2p/{PEER}".encode() for n in range(100)
    }
    found = read_service(many, TAG)
    assert found is not None
    assert found[0] == PEER
    assert len(found[1]) == 8


def test_what_the_body_raises_leaves_the_network_as_it_is() -> None:
    async def main() -> None:
        async with open_network(options(ephemeral_key())):
            raise LocalError("mine")

    with pytest.raises(LocalError, match="mine"):
        trio.run(main)


def test_every_interface_is_that_of_both_families_on_one_port() -> None:
    every = [parse_addr("/ip4/0.0.0.0/tcp/0"), parse_addr("/ip6/::/tcp/0")]
    sockets = bind_all(every, port_auto=False)
    try:
        port = bound_addr(sockets[0]).port
        assert [str(bound_addr(sock)) for sock in sockets] == [
            f"/ip4/0.0.0.0/tcp/{port}",
            f"/ip6/::/tcp/{port}",
        ]
    finally:
        for sock in sockets:
            sock.close()


def test_peers_meet_over_ipv6() -> None:
    async def main() -> None:
        async with members(2, listen=("/ip6/::1/tcp/0",)) as (node, other):
            assert node.network.addrs[0].startswith("/ip6/::1/tcp/")
            await connect(other, node)

    trio.run(main)


def test_where_ipv6_cannot_be_had_ipv4_alone_is_listened_on() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        every = [parse_addr(f"/ip4/0.0.0.0/tcp/{port}"), parse_addr(f"/ip6/::/tcp/{port}")]
        sockets = bind_all(every, port_auto=False)
        for sock in sockets:
            sock.close()
        assert len(sockets) == 1


def test_a_port_that_is_taken_leaves_no_socket_of_the_others_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = parse_addr(f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}")
        with pytest.raises(LocalError, match="taken"):
            bind_all([parse_addr("/ip4/127.0.0.1/tcp/0"), at], port_auto=False)
