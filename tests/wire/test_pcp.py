"""The datagrams of port mapping: what RFC 6886 and 6887 show, and whatever a router may answer."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import RemoteError
from swarmllm.wire.pcp import (
    Mapped,
    NotSpoken,
    pcp_map_request,
    pmp_address_request,
    pmp_map_request,
    read_pcp_map,
    read_pmp_address,
    read_pmp_map,
)

NONCE = bytes(range(12))


def pcp_answer(result: int = 0, nonce: bytes = NONCE, port: int = 7339) -> bytes:
    head = bytes([2, 0x81, 0, result]) + (3_600).to_bytes(4, "big") + bytes(16)
    host = bytes(10) + b"\xff\xff" + bytes([11, 9, 0, 1])
    ports = port.to_bytes(2, "big") + (7340).to_bytes(2, "big")
    return head + nonce + bytes([6, 0, 0, 0]) + ports + host


def test_requests_are_those_of_the_rfcs() -> None:
    assert pmp_address_request() == bytes([0, 0])
    assert pmp_map_request(7339, 7340, 7200).hex() == "000200001cab1cac00001c20"
    request = pcp_map_request("192.168.1.10", NONCE, 7339, 7340, 7200)
    assert len(request) == 60
    assert request[:8].hex() == "0201000000001c20"
    assert request[8:24].hex() == "00000000000000000000ffffc0a8010a"
    assert request[24:36] == NONCE
    assert request[36:44].hex() == "060000001cab1cac"
    assert request[44:].hex() == "00000000000000000000ffff00000000"
    assert pcp_map_request("fd00::7", NONCE, 1, 1, 0)[44:] == bytes(16)


def test_good_answers_are_read() -> None:
    assert read_pmp_address(bytes.fromhex("00800000000000070b090001")) == "11.9.0.1"
    answer = bytes.fromhex("00820000000000071cab1cac00001c20")
    assert read_pmp_map(answer, 7339) == Mapped("", 7340, 7200)
    assert read_pcp_map(pcp_answer(), NONCE, 7339) == Mapped("11.9.0.1", 7340, 3600)
    assert read_pcp_map(pcp_answer() + bytes(8), NONCE, 7339).port == 7340  # Options follow.


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pcp_answer(result=2), "its owner does not allow it"),
        (pcp_answer(result=99), "code 99"),
        (pcp_answer(nonce=bytes(12)), "something else"),
        (pcp_answer(port=1), "something else"),
        (pcp_answer()[:59], "59 bytes where 60 are due"),
        (pcp_answer() + bytes(2_000), "2060 bytes"),
        (b"", "0 bytes"),
    ],
)
def test_an_answer_to_something_else_or_a_refusal_says_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(RemoteError, match=said):
        read_pcp_map(data, NONCE, 7339)


@pytest.mark.parametrize("data", [bytes.fromhex("0080000100000007"), pcp_answer(result=1)])
def test_a_router_that_speaks_another_version_is_asked_in_another_way(data: bytes) -> None:
    with pytest.raises(NotSpoken):
        read_pcp_map(data, NONCE, 7339)


def test_a_short_refusal_of_nat_pmp_says_why() -> None:
    with pytest.raises(RemoteError, match="no address of the internet itself"):
        read_pmp_map(bytes.fromhex("0082000300000007"), 7339)


@given(st.binary(max_size=1_200), st.integers(0, 65_535))
def test_whatever_comes_is_an_answer_or_a_remote_error(data: bytes, port: int) -> None:
    for head in (b"", b"\x00\x80", b"\x00\x82\x00\x00", b"\x02\x81\x00\x00"):
        with suppress(RemoteError):
            read_pmp_address(head + data)
        with suppress(RemoteError):
            assert read_pmp_map(head + data, port).port <= 65_535
        with suppress(RemoteError):
            read_pcp_map(head + data, NONCE, port)
