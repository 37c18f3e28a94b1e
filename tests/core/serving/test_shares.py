"""Laws of sharing one engine: the owner's half stands, strangers count by peer, and nothing is kept
for who is not there."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.serving.shares import (
    ACCOUNTS_MAX,
    PREFILL_BURST_S,
    PREFILL_SHARE,
    Turns,
    fits,
    gives_way,
    owners_places,
)

OWNER = "me"
PEERS = [OWNER, "a", "b", "c", "d"]


@given(st.integers(1, 20), st.lists(st.sampled_from(PEERS), max_size=200))
def test_who_waits_has_his_share_of_the_places_and_no_two_take_a_place_from_each_other_in_turns(
    places: int, comers: list[str]
) -> None:
    held: Counter[str] = Counter()
    for comer in comers:
        if held.total() < places:
            held[comer] += 1
            continue
        going = gives_way(held, comer, OWNER, places)
        if going is None:
            if comer == OWNER:
                assert held[OWNER] >= owners_places(places)
            else:
                assert held[OWNER] <= owners_places(places)
                assert all(held[peer] <= held[comer] + 1 for peer in held if peer != OWNER)
            continue
        assert going != comer
        assert held[going] > 0
        held[going] -= 1
        held[comer] += 1
        assert gives_way(held, going, OWNER, places) != comer


def test_a_thousand_strangers_leave_the_owner_its_half() -> None:
    held = Counter({f"stranger {n}": 1 for n in range(16)})
    for n in range(8):
        going = gives_way(held, OWNER, OWNER, 16)
        assert going is not None
        held.subtract([going])
        held.update([OWNER])
        assert gives_way(held, f"another {n}", OWNER, 16) is None
    assert gives_way(held, OWNER, OWNER, 16) is None


@given(st.integers(1, 600), st.lists(st.integers(0, 12), max_size=1500))
def test_a_queue_is_bounded_and_each_greedy_peer_leaves_half_of_what_it_finds(
    room: int, comers: list[int]
) -> None:
    held: Counter[int] = Counter()
    for comer in comers:
        if fits(held[comer], held.total(), room):
            held[comer] += 1
    assert room - held.total() >= room >> sum(count > 0 for count in held.values())


def test_one_peer_takes_half_of_a_queue_at_most() -> None:
    held = 0
    while fits(held, held, 512):
        held += 1
    assert held == 256


Step = tuple[frozenset[str], frozenset[str], float]
STEPS = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from(PEERS)),
        st.frozensets(st.sampled_from(PEERS)),
        st.floats(0.001, 3),
    ),
    max_size=100,
)


def step(
    turns: Turns, decodes: frozenset[str], prompts: frozenset[str], seconds: float, now: float
) -> tuple[set[str], bool]:
    """One step as an engine takes it: all that decode, or the first of the prompts."""
    is_prompt = turns.is_prompt_next(decodes, prompts, now)
    peers = (
        {min(prompts, key=lambda peer: (turns.rank(peer, now), peer))}
        if is_prompt
        else set(decodes)
    )
    turns.worked(peers, decodes | prompts, is_prompt, seconds, now + seconds)
    return peers, is_prompt


@given(STEPS)
def test_an_owner_that_waits_is_in_every_other_step_at_least_and_in_every_step_of_its_own_kind(
    steps: list[Step],
) -> None:
    turns, now, was_left_out = Turns(OWNER), 0.0, False
    for decodes, prompts, seconds in steps:
        if not decodes | prompts:
            continue
        peers, is_prompt = step(turns, decodes, prompts, seconds, now)
        now += seconds
        assert peers
        if OWNER in (prompts if is_prompt else decodes):
            assert OWNER in peers
        is_left_out = OWNER in decodes | prompts and OWNER not in peers
        assert not (is_left_out and was_left_out)
        was_left_out = is_left_out


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=100))
def test_an_owner_that_always_waits_has_half_of_the_time_but_for_one_step(
    lengths: list[float],
) -> None:
    turns, now, own, others = Turns(OWNER), 0.0, 0.0, 0.0
    for seconds in lengths:
        peers, _ = step(turns, frozenset({OWNER}), frozenset({"a", "b"}), seconds, now)
        now += seconds
        own, others = (own + seconds, others) if OWNER in peers else (own, others + seconds)
        assert others <= own + max(lengths)


@given(st.lists(st.floats(0.01, 0.2), min_size=1, max_size=300), st.floats(0.01, 0.1))
def test_prompts_of_one_peer_take_no_more_than_their_budget_from_others_and_are_never_kept_out(
    lengths: list[float], decode_s: float
) -> None:
    turns, now, prompt_s, last = Turns(OWNER), 0.0, 0.0, 0.0
    for seconds in lengths:
        waits_prompt = turns.is_prompt_next(["b"], ["a"], now)
        length = seconds if waits_prompt else decode_s
        step(turns, frozenset({"b"}), frozenset({"a"}), length, now)
        now += length
        if waits_prompt:
            prompt_s, last = prompt_s + seconds, now
        assert prompt_s <= PREFILL_BURST_S + PREFILL_SHARE * now + 0.2
        assert now - last <= 2 * PREFILL_BURST_S / PREFILL_SHARE + 0.2


def test_whoever_worked_alone_is_behind_newcomers_but_not_for_long() -> None:
    turns, now = Turns(OWNER), 0.0
    for _ in range(600):
        step(turns, frozenset(), frozenset({"a"}), 0.1, now)
        now += 0.1
    served: Counter[str] = Counter()
    for _ in range(60):
        peers, _ = step(turns, frozenset(), frozenset({"a", "b"}), 0.1, now)
        served.update(peers)
        now += 0.1
    assert served["a"] >= 18


def test_budgets_of_any_number_of_identities_take_bounded_memory() -> None:
    turns = Turns(OWNER)
    for n in range(2 * ACCOUNTS_MAX):
        turns.worked({f"peer {n}"}, set(), True, 0.1, float(n))
    assert len(turns._left) == ACCOUNTS_MAX
