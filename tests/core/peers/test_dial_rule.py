"""Which strangers' addresses are dialled, and how often: nobody uses the swarm to knock on
doors."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.dial_rule import (
    ALL_BURST,
    ENDPOINT_BURST,
    HOST_BURST,
    HOSTS_MAX,
    REFILL_S,
    Knocks,
    Vantage,
    network,
    refusal,
)

HOME = Vantage((network("192.168.1.0/24"), network("fd12:3456:789a:1::/64")))


def said(host: str, vantage: Vantage = HOME, port: int = 7339) -> str:
    return refusal(ip_address(host).packed, port, vantage)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1", "192.168.1.77", "fd12:3456:789a:1::5", "::ffff:8.8.8.8"],
)
def test_a_global_address_and_one_of_our_own_network_are_dialled(host: str) -> None:  # CAP-18
    assert said(host) == ""


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.251",
            "ff02::fb",
        ),
        *(
            "255.255.255.255",
            "240.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "192.0.0.192",
            "192.0.2.1",
        ),
        *(
            "10.0.0.1",
            "172.17.0.1",
            "192.168.2.1",
            "100.64.0.1",
            "fd12:3456:789a:2::5",
            "fec0::1",
            "2001:db8::1",
            "2001::1",
        ),
        *(
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::c0a8:101",
        ),
        *(
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "2002:a9fe:a9fe::",
            "2606:4700::5efe:c0a8:101",
            "4000::1",
        ),
    ],
)
def test_no_other_is_in_whatever_form_it_is_written(host: str) -> None:  # CAP-18
    assert said(host)


@pytest.mark.parametrize(
    "vantage", [HOME, Vantage((network("0.0.0.0/0"), network("::/0"))), Vantage(is_loopback=True)]
)
def test_a_metadata_address_is_refused_wherever_we_are(vantage: Vantage) -> None:
    for host in (
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
    ):
        assert said(host, vantage)


@given(st.integers(0, 1023), st.sampled_from(["8.8.8.8", "192.168.1.7", "2606:4700::1"]))
def test_no_port_of_system_services_is_dialled(port: int, host: str) -> None:
    assert said(host, port=port)


def test_loopback_is_for_a_node_that_is_reached_by_loopback_alone() -> None:
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert said(host, Vantage(is_loopback=True)) == ""
    assert said("64:ff9b::7f00:1", Vantage(is_loopback=True)), (
        "what a translator calls loopback is not ours"
    )


@given(
    st.binary(min_size=4, max_size=4), st.sampled_from([HOME, Vantage(), Vantage(is_loopback=True)])
)
def test_a_mapped_address_is_judged_as_the_address_itself(packed: bytes, vantage: Vantage) -> None:
    mapped = bytes(10) + b"\xff\xff" + packed
    assert refusal(mapped, 7339, vantage) == refusal(packed, 7339, vantage)


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_what_is_dialled_is_nothing_special_by_the_library_either(packed: bytes) -> None:
    ip = ip_address(packed)
    if not refusal(packed, 7339, Vantage()) and not getattr(ip, "ipv4_mapped", None):
        assert not any((ip.is_loopback, ip.is_link_local, ip.is_multicast, ip.is_unspecified))


# --- how often ------------------------------------------------------------------------------------

ONE = ip_address("8.8.8.8").packed

Dials = st.lists(
    st.tuples(st.integers(0, 3), st.integers(2000, 2030), st.sampled_from([0.0, 0.1, 1.0, 10.0])),
    max_size=300,
)


@given(Dials)
def test_dials_that_lead_to_nobody_keep_to_the_bounds_of_endpoint_host_and_all(
    dials: list[tuple[int, int, float]],
) -> None:
    knocks, now = Knocks(), 0.0
    ends: dict[tuple[int, int], int] = {}
    hosts: dict[int, int] = {}
    for host, port, pause in dials:
        now += pause
        if knocks.take(bytes((8, 8, 8, host)), port, now):
            ends[host, port] = ends.get((host, port), 0) + 1
            hosts[host] = hosts.get(host, 0) + 1
    share = 1 + now / REFILL_S
    assert all(count <= ENDPOINT_BURST * share + 1e-6 for count in ends.values())
    assert all(count <= HOST_BURST * share + 1e-6 for count in hosts.values())
    assert sum(hosts.values()) <= ALL_BURST * share + 1e-6


def test_a_dial_that_reached_the_peer_costs_nothing() -> None:
    knocks = Knocks()
    for _ in range(1000):
        assert knocks.take(ONE, 7339, 0.0)
        knocks.give_back(ONE, 7339, 0.0)


def test_all_addresses_of_one_ipv6_network_are_one_host() -> None:
    knocks = Knocks()
    taken = sum(
        knocks.take(bytes((32, 1)) + bytes(6) + i.to_bytes(8, "big"), 2000 + i, 0.0)
        for i in range(100)
    )
    assert taken == HOST_BURST


@pytest.mark.parametrize(
    "form", ["::ffff:198.18.7.9", "64:ff9b::198.18.7.9", "2002:c612:0709:{}::1"]
)
def test_one_host_is_knocked_at_as_often_in_whatever_form_its_address_is_written(form: str) -> None:
    knocks = Knocks()
    plain = ip_address("198.18.7.9").packed
    assert sum(knocks.take(plain, 2000 + i, 0.0) for i in range(20)) == HOST_BURST
    for i in range(20):
        assert not knocks.take(ip_address(form.format(i)).packed, 3000 + i, 0.0)


@pytest.mark.parametrize("form", ["::ffff:198.18.{}.9", "64:ff9b::198.18.{}.9"])
def test_hosts_behind_one_prefix_of_translators_are_many(form: str) -> None:
    knocks = Knocks()
    assert all(
        knocks.take(ip_address(form.format(i)).packed, 2000, 0.0)
        for i in range(2 * int(HOST_BURST))
    )


def test_what_is_remembered_is_bounded() -> None:
    knocks = Knocks()
    for i in range(2 * HOSTS_MAX):
        knocks.take(i.to_bytes(4, "big"), 7339, float(i))
    assert len(knocks._left) <= HOSTS_MAX
