"""Laws of choosing: distinct, able, sticky, and not everybody's favourite at once."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.inputs import PeerConnected, PeerMoved
from swarmllm.core.peers.eviction import block_of
from swarmllm.core.peers.router import (
    HISTORY_MAX,
    MERIT_MAX_NATS,
    SUSPECT_MAX_S,
    Candidate,
    Router,
    format_trust,
)
from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.messages import NO_HALT_DIGEST, CapacityRecord, PeerId
from swarmllm.wire.ext import CHAT_DIGEST, addition

OWN = PeerId("own")


def candidate(
    name: str, *, rate: int = 160, missing: int = 1, member: bool = False, queue: int = 0
) -> Candidate:
    record = CapacityRecord(
        1, 1, "m", bytes(32), bytes(32), 1, 4096, rate, queue, 4, 4, (), (), NO_HALT_DIGEST
    )
    return Candidate(PeerId(name), record, missing, member)


Candidates = st.lists(
    st.builds(
        candidate,
        st.integers(0, 99).map(str),
        rate=st.integers(0, 5000),
        missing=st.integers(1, 500),
        member=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda c: c.peer,
)


def test_a_peer_is_at_its_relay_until_it_was_met_directly_and_then_at_home_for_good() -> None:
    router, peer = Router(OWN, random.Random(1)), PeerId("p")
    relay, home = block_of("8.8.8.8"), block_of("9.9.9.9")
    for event, block in (
        (PeerConnected(peer), None),
        (PeerConnected(peer, "8.8.8.8", is_relayed=True), relay),
        (PeerMoved(peer, "9.9.9.9"), home),
        (PeerConnected(peer, "8.8.8.8", is_relayed=True), home),
        (PeerConnected(peer, "8.8.8.8"), relay),  # There it is itself.
    ):
        router.handle(event, 0.0)
        assert router.histories()[peer].block == block
    assert not router.histories()[peer].is_relayed


@given(Candidates, st.integers(0, 8), st.integers(0, 99), st.sets(st.integers(0, 99).map(str)))
def test_picks_are_distinct_able_and_as_many_as_possible(
    found: list[Candidate], count: int, seed: int, resting: set[str]
) -> None:
    router = Router(OWN, random.Random(seed))
    for name in sorted(resting):
        router.missed(PeerId(name), 0.0)
    picked = router.pick(count, found, 0.5)
    able = {c.peer for c in found} - {PeerId(n) for n in resting}
    assert len(picked) == len(set(picked)) == min(count, len(able))
    assert set(picked) <= able


def test_own_expert_is_always_among_the_picked() -> None:
    router = Router(OWN, random.Random(1))
    found = [candidate(str(i), rate=10_000) for i in range(20)] + [candidate("own", rate=160)]
    assert all(OWN in router.pick(3, found, 0.0) for _ in range(50))


def test_members_are_kept_while_they_are_not_much_slower() -> None:
    router = Router(OWN, random.Random(1))
    members = [candidate(f"member{i}", missing=1, member=True) for i in range(3)]
    others = [candidate(f"other{i}", missing=200) for i in range(10)]
    for _ in range(50):
        assert set(router.pick(3, members + others, 0.0)) == {m.peer for m in members}


def test_a_member_that_became_slow_is_replaced() -> None:
    router = Router(OWN, random.Random(1))
    for _ in range(40):
        router.replied(PeerId("slow"), 2.0, 1, None, 0.0)
        router.replied(PeerId("good"), 0.05, 1, None, 0.0)
    picked = router.pick(1, [candidate("slow", member=True), candidate("good", missing=10)], 0.0)
    assert picked == [PeerId("good")]


def test_equal_experts_share_the_load() -> None:
    router = Router(OWN, random.Random(3))
    found = [candidate(f"e{i}") for i in range(10)]
    counts = Counter(p for _ in range(1000) for p in router.pick(1, found, 0.0))
    assert max(counts.values()) < 4 * 1000 / 10
    assert len(counts) >= 9  # Only the alphabetically last one loses every tie.


def test_liars_about_their_rate_are_found_out_by_round_trips() -> None:
    router = Router(OWN, random.Random(3))
    liars = [candidate(f"liar{i}", rate=2**31) for i in range(10)]
    honest = [candidate(f"honest{i}", rate=800) for i in range(40)]
    for c in (*liars, *honest):
        for _ in range(20):
            router.replied(c.peer, 0.5 if c in liars else 0.05, 1, c.record, 0.0)
    counts = Counter(p for _ in range(500) for p in router.pick(4, liars + honest, 1.0))
    share = sum(n for p, n in counts.items() if p.startswith("liar")) / sum(counts.values())
    assert share <= len(liars) / 50


def test_missed_deadlines_rest_a_peer_longer_each_time_and_an_answer_ends_it() -> None:
    router = Router(OWN, random.Random(0))
    peer, now, rests = PeerId("p"), 0.0, []
    for _ in range(12):
        router.missed(peer, now)
        rests.append(router.seen(peer, now).rests_until - now)
    assert rests == sorted(rests)
    assert rests[-1] == SUSPECT_MAX_S
    router.replied(peer, 0.1, 1, None, now)
    assert not router.rests(peer, now)


def test_history_is_bounded() -> None:
    router = Router(OWN, random.Random(0))
    for i in range(HISTORY_MAX + 50):
        router.seen(PeerId(str(i)), float(i))
    assert len(router.histories()) == HISTORY_MAX


def test_patience_grows_with_what_must_be_caught_up() -> None:
    router = Router(OWN, random.Random(0))
    router.replied(PeerId("p"), 0.05, 1, None, 0.0)
    assert router.patience_s(candidate("p", missing=1), 0.0) < router.patience_s(
        candidate("p", missing=1000), 0.0
    )


def of_model(name: str, model: int, **more: object) -> Candidate:
    found = candidate(name, **more)  # type: ignore[arg-type]
    return replace(found, record=replace(found.record, model_digest=bytes([model]) * 32))


def test_different_models_come_before_replicas() -> None:
    router = Router(OWN, random.Random(2))
    found = [of_model(f"a{i}", 1, rate=10_000) for i in range(6)] + [
        of_model("b", 2),
        of_model("c", 3),
    ]
    for _ in range(20):
        assert {p[0] for p in router.pick(3, found, 0.0)} == {"a", "b", "c"}


def test_a_fit_outweighs_a_short_delay_and_a_long_delay_outweighs_a_fit() -> None:
    router = Router(OWN, random.Random(2))
    near, far = of_model("near", 1), replace(of_model("far", 2), fit=1.0)
    for seconds, best in ((0.12, "far"), (2.0, "near")):
        for _ in range(40):
            router.replied(PeerId("far"), seconds, 1, None, 0.0)
            router.replied(PeerId("near"), 0.02, 1, None, 0.0)
        assert router.pick(1, [near, far], 0.0) == [PeerId(best)]


def test_how_fast_an_expert_catches_up_is_measured_and_no_longer_believed() -> None:
    """An expert that claims 160 tokens/s and took 3 s for a prompt of 101 tokens will take as long
    for the next one."""
    router = Router(OWN, random.Random(1))
    near, long = candidate("p", rate=2560), candidate("p", rate=2560, missing=101)
    assert router.catch_up_s(long, 0.0) < 0.5
    router.pinged(PeerId("p"), 0.1, 0.0)
    router.replied(PeerId("p"), 3.1, 101, near.record, 0.0)
    assert 2.5 < router.catch_up_s(long, 0.0) < 3.1
    assert router.expected_s(near, 1e6) < 0.2  # A round of one token has not become slower by it.
    assert router.patience_s(long, 0.0) > router.catch_up_s(long, 0.0)
    for _ in range(40):
        router.replied(PeerId("p"), 0.2, 1, near.record, 0.0)
        router.replied(PeerId("p"), 1.2, 101, near.record, 0.0)
    assert 0.9 < router.catch_up_s(long, 0.0) < 1.1


def test_no_claim_of_size_outweighs_what_was_measured() -> None:
    """A record may claim any size; whoever was seen to be worth less is still believed less than
    one that claims nothing special."""
    router = Router(OWN, random.Random(1))
    plain = candidate("any").record
    liar, honest = replace(plain, n_params=2**63 - 1), replace(plain, n_params=1_000_000_000)
    known = TrackRecord(hidden=20, merit=-MERIT_MAX_NATS)
    router.track_records.put(PeerId("liar"), liar.model_digest, known)
    assert router.prior(PeerId("liar"), liar) < router.prior(PeerId("honest"), honest)


def test_who_takes_an_honest_name_is_not_asked_in_place_of_those_who_have_it_by_right() -> None:
    """However quick it is; only where nobody else has the name, it is tried again."""
    router = Router(OWN, random.Random(1))
    honest, quick, refuted = (
        candidate(n, rate=r) for n, r in (("h", 10), ("q", 5000), ("r", 5000))
    )
    digest = honest.record.model_digest
    router.track_records.put(honest.peer, digest, TrackRecord(hidden=8, merit=-0.5))
    router.track_records.put(quick.peer, digest, TrackRecord(hidden=8, merit=-6.0))
    router.track_records.put(refuted.peer, digest, TrackRecord(is_refuted=True))
    assert router.pick(3, [honest, quick, refuted], 0.0) == [honest.peer]
    assert set(router.pick(3, [quick, refuted], 0.0)) == {quick.peer}
    assert router.pick(3, [refuted], 0.0) == [refuted.peer]


def test_a_replica_that_has_met_stranger_prompts_is_asked_and_one_that_was_audited_always() -> None:
    """Merit is of the prompts that each has met, and says little of whether two are one model."""
    router = Router(OWN, random.Random(1))
    near, quick, audited = (candidate(n, rate=r) for n, r in (("n", 10), ("q", 5000), ("a", 500)))
    digest = near.record.model_digest
    router.track_records.put(near.peer, digest, TrackRecord(hidden=8, merit=1.0))
    router.track_records.put(quick.peer, digest, TrackRecord(hidden=8, merit=-3.5))
    router.track_records.put(audited.peer, digest, TrackRecord(hidden=8, audits=1, merit=-6.0))
    assert set(router.pick(3, [near, quick, audited], 0.0)) == {near.peer, quick.peer, audited.peer}


Claims = st.builds(
    lambda params, domains: replace(candidate("any").record, n_params=params, domains=domains),
    st.integers(0, 2**63 - 1),
    st.sampled_from([(), ("code",), ("code", "prose", "law", "ops")]),
)


@given(Claims, Claims, st.sampled_from(["", "code", "law"]))
def test_all_that_records_claim_never_weighs_more_than_twice_as_much(
    one: CapacityRecord, other: CapacityRecord, domain: str
) -> None:
    router = Router(OWN, random.Random(1))
    assert (
        router.prior(PeerId("a"), one, domain)
        <= 2 * router.prior(PeerId("b"), other, domain) + 1e-9
    )


def test_the_suspect_is_the_one_suspected_longest_ago_and_never_one_that_is_full() -> None:
    router = Router(OWN, random.Random(1))
    found = [candidate(name) for name in ("full", "late", "later")]
    router.rest(PeerId("full"), 1.0, 0.0)
    router.missed(PeerId("late"), 1.0)
    router.missed(PeerId("later"), 2.0)
    router.missed(PeerId("later"), 2.0)
    assert router.pick(3, found, 0.5) == []
    assert router.suspect(found, 0.5) == [PeerId("late")]
    assert router.suspect(found[:1], 0.5) == []
    assert router.suspect(found[:1], 1.5) == [PeerId("full")]


def test_the_prior_rises_with_size_claimed_domain_and_merit() -> None:
    router = Router(OWN, random.Random(2))
    small, large = (
        replace(of_model("s", 1).record, n_params=n) for n in (500_000_000, 8_000_000_000)
    )
    plain = router.prior(PeerId("p"), small)
    assert router.prior(PeerId("p"), large) > plain
    assert router.prior(PeerId("p"), replace(small, domains=("code",)), "code") > plain
    assert router.prior(PeerId("p"), replace(small, domains=("code",)), "prose") == plain
    for merit, sign in ((5.0, 1), (-50.0, -1)):
        record = TrackRecord(hidden=8, merit=merit)
        router.track_records.put(PeerId(f"m{sign}"), small.model_digest, record)
        assert (router.prior(PeerId(f"m{sign}"), small) - plain) * sign > 0
    assert router.prior(PeerId("m-1"), small) >= plain * math.exp(-MERIT_MAX_NATS)


def test_merit_of_few_results_is_believed_little_and_a_failed_audit_is_the_least() -> None:
    router, record = Router(OWN, random.Random(2)), of_model("s", 1).record
    found = []
    for number, known in enumerate(
        (
            TrackRecord(is_refuted=True),
            TrackRecord(hidden=32, merit=-2.0),
            TrackRecord(hidden=1, merit=-2.0),
            TrackRecord(),
        )
    ):
        router.track_records.put(PeerId(f"p{number}"), record.model_digest, known)
        found.append(router.prior(PeerId(f"p{number}"), record))
    assert found == sorted(found)
    assert len(set(found)) == 4


def test_a_stranger_is_believed_as_much_as_those_that_are_known_on_average() -> None:
    """Whoever was tried was mostly found below the pool of all: to believe a stranger more would
    be a reason to change identities."""
    router = Router(OWN, random.Random(2))
    record = replace(of_model("s", 1).record, n_params=999_999_999)
    for number, merit in enumerate((-0.4, -0.8, -1.2)):
        known = TrackRecord(hidden=40, merit=merit)
        router.track_records.put(PeerId(f"p{number}"), record.model_digest, known)
    better, typical, worse = (router.prior(PeerId(f"p{i}"), record) for i in range(3))
    assert better > typical > worse
    assert router.prior(PeerId("stranger"), record) == pytest.approx(typical, rel=0.01)


def test_one_at_half_the_pace_must_be_worth_more_and_among_the_quick_it_hardly_matters() -> None:
    router = Router(OWN, random.Random(2))
    assert router.wait_nats(0.25) - router.wait_nats(0.12) > 0.5
    assert router.wait_nats(0.02) - router.wait_nats(0.01) < 0.1
    costs = [router.wait_nats(seconds / 50) for seconds in range(200)]
    assert costs == sorted(costs)


def test_another_chat_format_is_believed_less_and_never_refused() -> None:
    ours, theirs = b"ours ...", b"theirs.."
    record = replace(candidate("any").record, ext=addition(CHAT_DIGEST, theirs))
    assert 0.5 < format_trust(record, ours) < 1.0
    assert format_trust(record, theirs) == 1.0
    assert format_trust(record, b"") == 1.0  # Plain text has no format.
    assert format_trust(replace(record, ext=b""), ours) == 1.0  # It says nothing.
    assert format_trust(replace(record, ext=addition(CHAT_DIGEST, theirs)[:-1]), ours) == 1.0
