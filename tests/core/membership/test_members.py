"""A closed swarm lets in who was let in by somebody who may, as often as the inviter said, and for
as long.

Cites protocols/membership.md (MEM)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swarmllm.core.effects import Hangup, Penalise, RecordChecked, Save, SendFrame
from swarmllm.core.facts import HaltStateChanged
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import ChannelOpened, FrameReceived, RecordOffered
from swarmllm.core.membership.door import NO_PASS, SHOW_WITHIN_S
from swarmllm.core.membership.part import OWN_PASS, TICKETS
from swarmllm.core.membership.passes import LIFE_MS, judged
from swarmllm.messages.declare import MEMBER
from swarmllm.messages.goodbye import MEMBERS
from swarmllm.messages.membership import Admitted, Membership, NotAdmitted, Pass
from swarmllm.wire.codec import encode
from tests.core.halt.support import (
    STRANGER,
    Person,
    apply,
    linked,
    put,
    rotation,
    signed,
    verify,
)
from tests.core.membership.support import DAY_MS, NOW_MS, Peer, Swarm, founded_by, peer

ROOT = Person("founder")
STATE = founded_by(ROOT)


def membership(
    member: Person, *signers: Person, swarm: bytes = STATE.swarm, may: int = 0, ends_ms: int = 0
) -> bytes:
    record = Membership(swarm, member.public_key, may, 1, ends_ms or NOW_MS + DAY_MS)
    return signed(record, *(signers or (ROOT,)))


def member_of(name: str, own: bytes, delegation: bytes = b"") -> Peer:
    return peer(name, STATE, own_pass=encode(Pass(own, delegation)))


def both_in(swarm: Swarm, one: Peer, two: Peer) -> bool:
    return swarm.is_in(one, two) and swarm.is_in(two, one)


def test_a_friend_is_let_in_for_a_ticket_and_needs_none_the_next_time() -> None:  # MEM-5
    founder = peer("founder", STATE)
    friend = peer("friend", STATE, invited_by=founder)
    swarm = Swarm(founder, friend)
    swarm.invite(founder)
    swarm.link(founder, friend)
    assert both_in(swarm, founder, friend)
    again = peer("friend", STATE, own_pass=friend.disk[OWN_PASS])
    other = peer("founder", STATE, tickets=founder.disk[TICKETS])
    later = Swarm(other, again)
    later.link(other, again)
    assert both_in(later, other, again)
    assert not [one for one in again.done if isinstance(one, Save)]


def test_members_let_each_other_in_without_the_one_who_let_them_in() -> None:  # MEM-1
    ann, bob = (member_of(name, membership(Person(name), ROOT)) for name in ("ann", "bob"))
    swarm = Swarm(ann, bob)
    swarm.link(ann, bob)
    assert both_in(swarm, ann, bob)


def test_the_inviter_counts_before_it_answers() -> None:  # MEM-6
    founder = peer("founder", STATE)
    friend = peer("friend", STATE, invited_by=founder)
    swarm = Swarm(founder, friend)
    swarm.invite(founder)
    swarm.link(founder, friend)
    kinds = [
        "Admitted" if isinstance(one, SendFrame) and isinstance(one.message, Admitted) else "Save"
        for one in founder.done
        if isinstance(one, Save)
        or (isinstance(one, SendFrame) and isinstance(one.message, Admitted))
    ]
    assert kinds == ["Save", "Save", "Admitted"]  # The invite itself, the count, the answer.


def test_a_ticket_is_good_for_so_many_peers_and_for_the_same_one_again() -> None:  # MEM-6
    founder = peer("founder", STATE)
    first, second = (peer(name, STATE, invited_by=founder) for name in ("first", "second"))
    swarm = Swarm(founder, first, second)
    swarm.invite(founder)
    swarm.link(founder, first)
    swarm.link(founder, second)
    assert second.turned_away == ["the invite is used up; ask for another one"]
    assert not swarm.is_in(second, founder)
    lost = peer("first", STATE, invited_by=founder)  # Its answer was lost before it was kept.
    swarm.peers[lost.id] = lost
    swarm.link(founder, lost)
    assert both_in(swarm, founder, lost)


@pytest.mark.parametrize(
    ("uses", "ends_ms", "why"),
    [
        (0, 0, "the inviter does not know the ticket in the invite"),
        (1, NOW_MS, "the invite has run out"),
    ],
)
def test_a_ticket_that_is_not_good_is_told(uses: int, ends_ms: int, why: str) -> None:  # MEM-6
    founder = peer("founder", STATE)
    friend = peer("friend", STATE, invited_by=founder)
    swarm = Swarm(founder, friend)
    if uses:
        swarm.invite(founder, uses, ends_ms)
    swarm.link(founder, friend)
    assert friend.turned_away == [f"{why}; ask for another one"]


def test_whom_a_root_key_allowed_to_lets_others_in_for_as_long_as_it_may_itself() -> None:
    # MEM-1, MEM-2
    ends_ms = NOW_MS + 3 * DAY_MS
    ann = Person("ann")
    inviter = member_of("ann", membership(ann, ROOT, may=1, ends_ms=ends_ms))
    friend = peer("friend", STATE, invited_by=inviter)
    founder = peer("founder", STATE)
    swarm = Swarm(inviter, friend, founder)
    swarm.invite(inviter)
    swarm.link(inviter, friend)
    swarm.link(founder, friend)
    assert both_in(swarm, inviter, friend)
    assert both_in(swarm, founder, friend)
    assert friend.part.view(0.0).own_ends_ms == ends_ms
    assert not friend.part.view(0.0).may_invite


def test_a_plain_member_lets_nobody_in() -> None:  # MEM-2
    plain = member_of("ann", membership(Person("ann"), ROOT))
    friend = peer("friend", STATE, invited_by=plain)
    swarm = Swarm(plain, friend)
    swarm.invite(plain)
    swarm.link(plain, friend)
    assert friend.turned_away == [
        "the inviter may not let anybody in any more; ask for another one"
    ]


def test_who_shows_nothing_is_sent_away_in_time_without_a_strike() -> None:  # MEM-3, MEM-4
    founder, stranger = peer("founder", STATE), peer("stranger", founded_by(STRANGER))
    swarm = Swarm(founder)
    swarm.link(founder, stranger)
    assert founder.hung_up == {}
    swarm.wait(SHOW_WITHIN_S)
    (hangup,) = founder.told(Hangup)
    assert hangup == Hangup(stranger.id, NO_PASS, MEMBERS)
    assert not founder.told(Penalise)


def test_a_membership_ends_while_its_owner_is_connected() -> None:  # MEM-3
    founder = peer("founder", STATE)
    ann = member_of("ann", membership(Person("ann"), ROOT, ends_ms=NOW_MS + 60_000))
    swarm = Swarm(founder, ann)
    swarm.link(founder, ann)
    swarm.wait(59.0)
    assert founder.hung_up == {}
    swarm.wait(1.0)
    assert founder.hung_up == {ann.id: "its membership has run out"}
    assert not swarm.is_in(ann, founder)
    assert ann.part.view(swarm.now).fault == "its membership has run out"


def test_a_root_key_gives_itself_a_new_pass_before_the_old_one_ends() -> None:
    founder = peer("founder", STATE)
    ann = member_of("ann", membership(Person("ann"), ROOT, ends_ms=NOW_MS + 9 * LIFE_MS))
    swarm = Swarm(founder, ann)
    swarm.link(founder, ann)
    first = founder.part.view(swarm.now).own_ends_ms
    swarm.wait(LIFE_MS * 0.6 / 1000)
    assert founder.part.view(swarm.now).own_ends_ms > first
    assert founder.part.view(swarm.now).fault == ""


def test_a_pass_that_comes_before_the_charter_is_looked_at_when_that_has_come() -> None:  # MEM-3
    founder = peer("founder", STATE)
    ann = peer(
        "ann",
        HaltState(STATE.swarm),
        own_pass=encode(Pass(membership(Person("ann"), ROOT), b"")),
    )
    swarm = Swarm(founder, ann)
    swarm.link(founder, ann)
    assert not swarm.is_in(founder, ann)
    linked(ann.machine, founder.id, state=STATE, now=0.0)
    put(ann.machine, founder.id, STATE.charters[0].data, now=0.0)
    ann.part.handle(HaltStateChanged(), 0.0)
    swarm.settle()
    assert both_in(swarm, founder, ann)


def test_what_is_no_frame_of_this_protocol_is_a_breach() -> None:
    founder = peer("founder", STATE)
    founder.part.handle(ChannelOpened(founder.id, MEMBER), 0.0)
    told = founder.part.handle(FrameReceived(founder.id, b"junk", MEMBER), 0.0)
    assert [type(one) for one in told] == [Penalise]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:  # MEM-5
    founder, ann = peer("founder", STATE), member_of("ann", membership(Person("ann"), ROOT))
    swarm = Swarm(founder, ann)
    swarm.link(founder, ann)
    before = ann.part.view(0.0)
    for answer in (NotAdmitted(2), Admitted(membership(Person("ann"), ROOT, may=1), b"")):
        ann.part.handle(FrameReceived(founder.id, encode(answer), MEMBER), 0.0)
    swarm.settle()
    assert ann.part.view(0.0) == before
    assert ann.turned_away == []


ANN, BEN, EVE = Person("ann"), Person("ben"), Person("eve")
DELEGATED = membership(ANN, ROOT, may=1)


@pytest.mark.parametrize(
    ("own", "delegation", "why"),
    [
        (membership(BEN), b"", ""),
        (membership(BEN, ANN), DELEGATED, ""),
        (membership(EVE), b"", "another peer's"),
        (membership(BEN, swarm=bytes(32)), b"", "of another swarm"),
        (membership(BEN, ends_ms=NOW_MS), b"", "has run out"),
        (membership(BEN, EVE), b"", "has no part in signing"),
        (membership(BEN, ROOT, EVE), b"", "2 signatures"),
        (membership(BEN, ANN), membership(ANN, ROOT), "may let nobody in"),
        (membership(BEN, EVE), DELEGATED, "may let nobody in"),
        (membership(BEN, ANN), membership(ANN, EVE, may=1), "has no part in signing"),
        (membership(BEN, ANN), membership(ANN, ROOT, may=1, ends_ms=NOW_MS), "has run out"),
        (membership(BEN, ANN), membership(ANN, ROOT, may=1, swarm=bytes(32)), "another swarm"),
        (DELEGATED[:-1] + b"\1", b"", "another peer's"),
        (membership(BEN)[:-2] + b"\1\0", b"", "bad signature"),
        (b"junk", b"", "is not good"),
        (membership(BEN), b"junk", "is not good"),
    ],
)
def test_a_pass_is_good_if_a_root_key_signed_it_or_whom_one_allowed_to(  # MEM-1, MEM-2
    own: bytes, delegation: bytes, why: str
) -> None:
    roots = frozenset({ROOT.public_key})
    found = judged(Pass(own, delegation), BEN.public_key, STATE.swarm, roots, NOW_MS, verify)
    assert (why in found.fault) if why else found.fault == ""
    assert found.may_invite is False


def test_a_pass_ends_with_the_earlier_of_its_two_memberships() -> None:  # MEM-2
    roots = frozenset({ROOT.public_key})
    own = membership(BEN, ANN, ends_ms=NOW_MS + 9 * DAY_MS)
    found = judged(Pass(own, DELEGATED), BEN.public_key, STATE.swarm, roots, NOW_MS, verify)
    assert found.ends_ms == NOW_MS + DAY_MS


def test_a_charter_that_takes_out_a_root_key_ends_what_it_signed() -> None:  # MEM-1
    own, roots = membership(BEN), frozenset({ANN.public_key})
    found = judged(Pass(own, b""), BEN.public_key, STATE.swarm, roots, NOW_MS, verify)
    assert "has no part in signing" in found.fault


def test_a_charter_that_takes_out_a_root_key_ends_it_for_those_who_are_in() -> None:  # MEM-3
    """A pass once seen counts over connections, and was looked at once: who was let in by a key
    that the swarm has taken out stayed until its membership ran out, up to a year."""
    ann = member_of("ann", membership(Person("ann"), ROOT))
    ben = member_of("ben", membership(Person("ben"), ROOT, ends_ms=NOW_MS + 2 * DAY_MS))
    founder = peer("founder", STATE)
    swarm = Swarm(ann, ben, founder)
    swarm.link(ann, ben)
    swarm.link(founder, ben)
    assert both_in(swarm, ann, ben)
    second = signed(rotation(STATE, root=(ANN.public_key,)), ROOT, ANN)
    after = apply(STATE, second)
    assert after.charter is not None
    assert after.charter.root == (ANN.public_key,)
    for one in (ann, founder):
        linked(one.machine, ben.id, state=after, now=0.0)
        put(one.machine, ben.id, second, now=0.0)
        one.part.handle(HaltStateChanged(), 0.0)
    swarm.settle()
    assert "has no part in signing" in ann.hung_up[ben.id]
    assert not swarm.is_in(ben, ann)
    assert "has no part in signing" in founder.part.view(swarm.now).fault


def test_records_by_gossip_from_who_is_not_let_in_are_not_passed_on() -> None:  # MEM-4
    founder, ann = peer("founder", STATE), member_of("ann", membership(Person("ann"), ROOT))
    swarm = Swarm(founder, ann)
    offer = RecordOffered(7, b"record", ann.id, "gov")
    checked = founder.part.screened(offer, 0.0)
    assert isinstance(checked, RecordChecked)
    assert (checked.check, checked.passes) == (7, False)
    halt = replace(offer, channel="halt")
    assert founder.part.screened(halt, 0.0) == halt
    swarm.link(founder, ann)
    assert founder.part.screened(offer, 0.0) == offer
