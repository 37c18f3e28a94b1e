"""Dial-backs are of no use for knocking on doors."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.dial_back import (
    ALL_BURST,
    AT_ONCE_MAX,
    BLOCK_BURST,
    HOST_GAP_S,
    PORTS_MAX,
    REFILL_S,
    DialBacks,
)
from swarmllm.core.peers.dial_rule import Vantage

STANDS = Vantage(((ip_address("192.168.1.10").packed, 24),))
ASKER = ip_address("11.3.0.2").packed
PORT = 7339


@given(
    seen=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    named=st.lists(
        st.tuples(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65_535))
    ),
    same=st.lists(st.integers(0, 65_535), max_size=6),
)
def test_only_the_host_that_asks_is_dialled_and_no_port_of_system_services(
    seen: object, named: list[tuple[object, int]], same: list[int]
) -> None:
    host = ip_address(str(seen))
    targets = [(ip_address(str(one)).packed, port) for one, port in named]
    ports, why = DialBacks().begin(
        host.packed, [*targets, *((host.packed, port) for port in same)], STANDS, 0.0
    )
    assert bool(ports) != bool(why)
    assert len(ports) <= PORTS_MAX
    assert all(port >= 1024 for port in ports)
    assert set(ports) <= {port for packed, port in targets if packed == host.packed} | set(same)
    if host.is_private or host.is_loopback or host.is_link_local or host.is_multicast:
        assert ports == []


def test_a_private_host_is_not_dialled_back_even_on_a_network_of_ours() -> None:
    near = ip_address("192.168.1.20").packed
    ports, why = DialBacks().begin(near, [(near, PORT)], STANDS, 0.0)
    assert ports == []
    assert "private" in why


def test_one_host_is_dialled_back_once_in_a_while() -> None:
    rule = DialBacks()
    for now, expected in ((0.0, True), (1.0, False), (HOST_GAP_S, True)):
        ports, why = rule.begin(ASKER, [(ASKER, PORT)], STANDS, now)
        assert bool(ports) is expected
        if ports:
            rule.end()
        else:
            assert why == "asked too often"


def test_a_block_and_all_together_are_bounded() -> None:
    rule, block, all_ = DialBacks(), 0, 0
    for number in range(100):
        one = bytes([11, 3, 0, number])
        if rule.begin(one, [(one, PORT)], STANDS, 0.0)[0]:
            rule.end()
            block += 1
    for number in range(200):
        one = bytes([12, number, 0, 1])
        if rule.begin(one, [(one, PORT)], STANDS, 0.0)[0]:
            rule.end()
            all_ += 1
    assert (block, block + all_) == (BLOCK_BURST, ALL_BURST)
    late = bytes([13, 1, 0, 1])
    assert rule.begin(late, [(late, PORT)], STANDS, 0.0)[0] == []
    assert rule.begin(late, [(late, PORT)], STANDS, REFILL_S)[0] == [PORT]


def test_few_are_dialled_at_once() -> None:
    rule = DialBacks()
    hosts = [bytes([20 + number, 1, 0, 1]) for number in range(AT_ONCE_MAX + 1)]
    begun = [bool(rule.begin(host, [(host, PORT)], STANDS, 0.0)[0]) for host in hosts]
    assert begun == [True] * AT_ONCE_MAX + [False]
    rule.end()
    assert rule.begin(hosts[-1], [(hosts[-1], PORT)], STANDS, 0.0)[0] == [PORT]
