"""Reachability, step by step, with peers that lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.reachability import (
    BLOCKS_MAX,
    PROOFS_MIN,
    VOTE_S,
    PortMapping,
    Reach,
    Reachability,
    Verdicts,
    block_of,
)
from swarmllm.messages import PeerId

AT = "/ip4/11.1.0.5/tcp/7339"
AT6 = "/ip6/2a0e:1::5/tcp/7339"


def vote(verdicts: Verdicts, block: int, told: str, now: float = 0.0, family: str = "ip4") -> None:
    """`told`: "in" (it came in), "out" (it did not, and says so), "lie" (it says that it did)."""
    verdicts.tried(
        family,
        PeerId(f"peer{block}"),
        bytes([11, block]),
        at=AT if family == "ip4" else AT6,
        claimed=told != "out",
        proved=told == "in",
        now=now,
    )


def node(*, is_inside: bool = False, has_ip4: bool = True) -> Verdicts:
    verdicts = Verdicts(7339)
    verdicts.stands(is_inside=is_inside, has_ip4=has_ip4, now=0.0)
    return verdicts


def test_two_proofs_from_different_blocks_make_a_node_public_and_one_does_not() -> None:
    verdicts = node()
    vote(verdicts, 1, "in")
    vote(verdicts, 1, "in")
    assert verdicts.now(0.0).kind is Reach.UNKNOWN
    assert "another has to confirm" in verdicts.now(0.0).sentence(0.0)
    vote(verdicts, 2, "in")
    known = verdicts.now(0.0)
    assert (known.kind, known.addrs, known.needs_relay) == (Reach.PUBLIC, (AT,), False)
    assert known.sentence(0.0) == f"public: peers elsewhere reached it at {AT}"


def test_one_liar_beside_honest_peers_has_us_announce_nobody_elses_address() -> None:
    """It says that it sees us at somebody else's address, and connects to our own: a proof."""
    verdicts = node()
    for block in (1, 2):
        vote(verdicts, block, "in")
    third = "/ip4/66.6.6.6/tcp/7339"
    lie = PeerId("liar"), bytes([66, 6])
    verdicts.tried("ip4", *lie, at=third, claimed=True, proved=True, now=0.0)
    assert verdicts.now(0.0).addrs == (AT,)
    vote(verdicts, 2, "out")
    assert verdicts.now(0.0).addrs == (AT,)
    vote(verdicts, 1, "out")
    assert (verdicts.now(0.0).kind, verdicts.now(0.0).addrs) == (Reach.UNKNOWN, ())


def test_any_number_of_liars_who_say_that_they_came_in_changes_nothing() -> None:
    verdicts = node(is_inside=True)
    for block in range(200):
        vote(verdicts, block, "lie")
    assert verdicts.now(0.0).kind is Reach.UNKNOWN
    vote(verdicts, 201, "out")
    assert verdicts.now(0.0).kind is Reach.NAT


@given(liars=st.lists(st.integers(10, 250), max_size=20))
def test_liars_who_say_that_they_did_not_come_in_do_not_outvote_two_who_did(
    liars: list[int],
) -> None:
    verdicts = node(is_inside=True)
    vote(verdicts, 1, "in")
    vote(verdicts, 2, "in")
    for block in liars:
        vote(verdicts, block, "out")
    assert verdicts.now(1.0).kind is Reach.PUBLIC


def test_one_peer_alone_says_nat_only_where_this_machines_own_addresses_say_so_too() -> None:
    outside, inside = node(), node(is_inside=True)
    vote(outside, 1, "out")
    vote(inside, 1, "out")
    assert outside.now(0.0).kind is Reach.UNKNOWN
    assert inside.now(0.0).kind is Reach.NAT
    vote(outside, 2, "out")
    assert outside.now(0.0).kind is Reach.NAT
    assert "forward TCP port 7339" in outside.now(0.0).sentence(0.0)
    assert outside.now(0.0).needs_relay


def test_what_is_known_changes_with_two_and_stays_with_one() -> None:
    verdicts = node()
    vote(verdicts, 1, "in", 0.0)
    vote(verdicts, 2, "in", 0.0)
    vote(verdicts, 2, "out", 10.0)  # One fails now.
    assert verdicts.now(10.0).kind is Reach.PUBLIC
    vote(verdicts, 1, "out", 20.0)
    assert verdicts.now(20.0).kind is Reach.NAT
    vote(verdicts, 1, "in", 30.0)
    assert verdicts.now(30.0).kind is Reach.NAT
    vote(verdicts, 2, "in", 40.0)
    assert verdicts.now(40.0).kind is Reach.PUBLIC


def test_votes_grow_old_and_a_move_forgets_them() -> None:
    verdicts = node()
    vote(verdicts, 1, "in", 0.0)
    vote(verdicts, 2, "in", 0.0)
    assert verdicts.now(VOTE_S - 1).kind is Reach.PUBLIC
    assert verdicts.now(VOTE_S).kind is Reach.UNKNOWN
    vote(verdicts, 1, "in", VOTE_S)
    vote(verdicts, 2, "in", VOTE_S)
    assert verdicts.now(VOTE_S).kind is Reach.PUBLIC
    assert verdicts.now(VOTE_S).is_settled
    verdicts.moved(VOTE_S)
    assert not verdicts.now(VOTE_S).is_settled
    assert verdicts.now(VOTE_S) == Reachability(port=7339)


def test_our_outside_address_is_what_more_than_half_of_the_blocks_see() -> None:
    verdicts = node()
    verdicts.saw("ip4", PeerId("a"), b"\1", "11.1.0.5", 0.0)
    assert verdicts.outside("ip4", 0.0) == ""  # One peer never decides.
    verdicts.saw("ip4", PeerId("b"), b"\1", "66.6.6.6", 0.0)  # The same block: in its place.
    verdicts.saw("ip4", PeerId("c"), b"\2", "11.1.0.5", 0.0)
    assert verdicts.outside("ip4", 0.0) == ""
    verdicts.saw("ip4", PeerId("d"), b"\3", "11.1.0.5", 0.0)
    assert verdicts.outside("ip4", 0.0) == "11.1.0.5"
    assert verdicts.outside("ip6", 0.0) == ""
    assert verdicts.outside("ip4", VOTE_S) == ""


def test_a_mapped_port_counts_once_peers_have_come_in_there() -> None:
    verdicts = node(is_inside=True)
    verdicts.mapped(PortMapping("UPnP", AT, 7_200.0), "", 0.0)
    assert verdicts.now(0.0).kind is Reach.UNKNOWN
    vote(verdicts, 1, "in")
    vote(verdicts, 2, "in")
    known = verdicts.now(0.0)
    assert (known.kind, known.needs_relay) == (Reach.MAPPED, False)
    assert "mapped by the router (UPnP)" in known.sentence(0.0)
    vote(verdicts, 2, "out")
    assert verdicts.now(1.0).kind is Reach.MAPPED
    verdicts.mapped(None, "the router answers no more", 2.0)
    assert verdicts.now(2.0).kind is Reach.PUBLIC  # Until peers say otherwise.
    vote(verdicts, 1, "out")
    assert verdicts.now(3.0).kind is Reach.NAT
    assert "the router answers no more" in verdicts.now(3.0).sentence(3.0)


def test_a_node_on_ipv6_only_is_public_there_and_still_needs_a_relay_for_the_others() -> None:
    verdicts = node(has_ip4=False)
    vote(verdicts, 1, "in", family="ip6")
    vote(verdicts, 2, "in", family="ip6")
    known = verdicts.now(0.0)
    assert (known.kind, known.needs_relay, known.addrs) == (Reach.PUBLIC, True, (AT6,))
    assert "over IPv6 only" in known.sentence(0.0)


def test_a_node_behind_a_nat_says_through_how_many_relays_it_is_reached() -> None:
    verdicts = node(is_inside=True)
    vote(verdicts, 1, "out")
    verdicts.relayed(2)
    assert verdicts.now(0.0).sentence(0.0) == (
        "behind a NAT, reached through 2 relays; forward TCP port 7339 to this machine at the"
        " router to improve it"
    )


@pytest.mark.parametrize(
    ("peers", "said"), [(0, "no peer is connected yet"), (3, "no peer elsewhere has tried yet")]
)
def test_what_is_not_known_says_why(peers: int, said: str) -> None:
    verdicts = node()
    verdicts.connected(peers)
    assert verdicts.now(0.0).sentence(0.0) == f"unknown: {said}"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.sampled_from(["in", "out", "lie"]),
            st.floats(0, 4 * VOTE_S),
            st.sampled_from(["ip4", "ip6"]),
        ),
        max_size=200,
    )
)
def test_public_always_rests_on_proofs_and_what_is_kept_is_bounded(
    votes: list[tuple[int, str, float, str]],
) -> None:
    verdicts, proofs = node(), 0
    for block, told, at, family in sorted(votes, key=lambda one: one[2]):
        vote(verdicts, block, told, at, family)
        proofs += told == "in"
        known = verdicts.now(at)
        assert known.tried <= 2 * BLOCKS_MAX
        if Reach.PUBLIC in (known.ip4, known.ip6):
            assert proofs >= PROOFS_MIN
            assert known.addrs


def test_a_block_is_what_one_party_has_as_a_rule() -> None:
    assert block_of(bytes([11, 1, 0, 5])) == block_of(bytes([11, 1, 9, 9]))
    assert block_of(bytes([11, 1, 0, 5])) != block_of(bytes([11, 2, 0, 5]))
    assert len(block_of(bytes(16))) == 4
