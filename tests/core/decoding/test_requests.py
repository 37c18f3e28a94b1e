"""Laws of an answer, on whole nodes under a virtual clock: it ends once, loses nothing, and is the
same text whoever dies."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.events import ExpertLost, Noticed
from swarmllm.core.inputs import Cancelled, Received
from swarmllm.core.values import GenerateRequest, Only, Sampling
from swarmllm.messages import NO_HALT_DIGEST, Busy, Need, PeerId, Refused, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop

GREEDY = Sampling(temperature=0.0)
PROMPT = (3, 1, 4, 1, 5)


def order(k: int = 3, tokens: int = 12, **more: object) -> GenerateRequest:
    return GenerateRequest(PROMPT, k=k, max_tokens=tokens, sampling=GREEDY, vocab_size=512, **more)  # type: ignore[arg-type]


def settled(seeds: list[int | None]) -> Tabletop:
    table = Tabletop(seeds)
    table.run_until(2.0)
    return table


def alone(tokens: int = 12) -> list[int]:
    table = settled([7])
    table.ask(table.peers[0], order(k=1, tokens=tokens))
    assert table.finish(table.peers[0]).reason == "length"
    return table.tokens(table.peers[0])


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_replicas_give_the_text_of_one_node_whatever_k_is(k: int) -> None:
    table = settled([7, 7, 7, 7])
    asker = table.peers[0]
    table.ask(asker, order(k=k))
    end = table.finish(asker)
    assert (end.reason, end.tokens) == ("length", 12)
    assert table.tokens(asker) == alone()
    assert all(e.k == k for e in table.chosen(asker))


Harm = st.tuples(st.integers(1, 3), st.sampled_from(["kill", "freeze"]), st.floats(0.0, 0.6))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.lists(Harm, max_size=3, unique_by=lambda h: h[0]), st.booleans())
def test_no_token_is_lost_or_doubled_whoever_dies(
    k: int, harm: list[tuple[int, str, float]], local: bool
) -> None:
    table = settled([7 if local else None, 7, 7, 7, 7])
    asker = table.peers[0]
    for victim, how, after in harm:
        action = table.kill if how == "kill" else table.freeze
        table.at(table.now + after, lambda a=action, v=victim: a(table.peers[v]))  # type: ignore[misc]
    table.ask(asker, order(k=k, tokens=24))
    end = table.finish(asker)
    assert (end.reason, end.tokens) == ("length", 24)
    assert table.tokens(asker) == alone(24)
    assert [e.index for e in table.chosen(asker)] == list(range(24))


def test_three_of_four_frozen_leaves_the_local_expert_and_a_notice() -> None:
    table = settled([7, 7, 7, 7])
    asker = table.peers[0]
    for victim in table.peers[1:]:
        table.at(table.now + 0.1, lambda v=victim: table.freeze(v))  # type: ignore[misc]
    table.ask(asker, order(k=3, tokens=40))
    end = table.finish(asker)
    assert end.reason == "length"
    assert end.local_only_tokens > 0
    texts = [e.text for e in table.seats[asker].events if isinstance(e, Noticed)]
    assert any("local expert alone" in text for text in texts), texts
    assert table.tokens(asker) == alone(40)


def test_everybody_gone_ends_with_one_clear_error() -> None:
    table = settled([None, 7, 7])
    asker = table.peers[0]
    for victim in table.peers[1:]:
        table.at(table.now + 0.05, lambda v=victim: table.kill(v))  # type: ignore[misc]
    table.ask(asker, order())
    end = table.finish(asker)
    assert end.reason == "error"
    assert "experts answered" in end.error or "reachable" in end.error


def test_no_expert_at_all_ends_within_the_wait() -> None:
    table = settled([None])
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0], within_s=11.0)
    assert end.reason == "error"
    assert "no expert for this vocabulary" in end.error


def test_more_experts_asked_for_than_there_are_is_said_once() -> None:
    table = settled([7, 7])
    table.ask(table.peers[0], order(k=5))
    assert table.finish(table.peers[0]).reason == "length"
    notices = [e for e in table.seats[table.peers[0]].events if isinstance(e, Noticed)]
    assert [n.text for n in notices] == [
        "only 2 experts are known; continuing with 2 (asked for 5)"
    ]


def test_at_most_one_question_per_expert_is_open() -> None:
    table = settled([7, 7, 7, 7])
    asker = table.peers[0]
    table.seats[table.peers[3]].service_s = 0.2  # Always late.
    table.ask(asker, order(k=2, tokens=30, extra=2))
    opened: dict[PeerId, int] = {}
    while not table.ends(asker):
        table.run_until(table.now + 0.004, done=lambda: bool(table.ends(asker)))
        for generation in table.seats[asker].node._requests.generations():
            for peer, member in generation.members:
                opened[peer] = max(opened.get(peer, 0), int(member.question is not None))
    assert len(table.tokens(asker)) == 30
    assert table.seats[table.peers[3]].node.view(table.now).rounds_served_open <= 1


def test_stop_token_ends_the_answer_with_eos() -> None:
    expected = alone()
    table = settled([7, 7])
    table.ask(table.peers[0], order(k=2, stop_tokens=frozenset({expected[4]})))
    end = table.finish(table.peers[0])
    assert (end.reason, table.tokens(table.peers[0])) == (
        "eos",
        expected[: expected.index(expected[4]) + 1],
    )


def test_cancel_ends_once_and_frees_every_cache() -> None:
    table = settled([7, 7, 7])
    asker = table.peers[0]
    table.ask(asker, order(tokens=1000))
    table.run_until(table.now + 0.3)
    table.feed(asker, Cancelled(1, "cancelled"))
    table.feed(asker, Cancelled(1, "cancelled"))
    table.run_until(table.now + 1.0)
    assert [e.reason for e in table.ends(asker)] == ["cancelled"]
    for seat in table.seats.values():
        assert seat.model is not None
        assert seat.model.load.sessions_free == seat.model.load.sessions_max


def test_evicted_cache_is_refilled_from_where_the_expert_stands() -> None:
    table = settled([None, 7])
    asker, expert = table.peers
    model = table.seats[expert].model
    assert model is not None
    table.ask(asker, order(k=1, tokens=20))
    table.at(table.now + 0.2, model._held.clear)
    assert table.finish(asker).reason == "length"
    assert table.tokens(asker) == alone(20)


def test_busy_expert_is_asked_again_and_not_at_once() -> None:
    table = settled([None, 7])
    asker, expert = table.peers
    model = table.seats[expert].model
    assert model is not None
    real, refusals = model.score, []

    def busy_for_a_while(key: object, request: object) -> object:
        if table.now < 3.0:
            refusals.append(table.now)
            return Busy(request.session, request.round, 0)  # type: ignore[attr-defined]
        return real(key, request)  # type: ignore[arg-type]

    model.score = busy_for_a_while  # type: ignore[method-assign, assignment]
    table.ask(asker, order(k=1))
    assert table.finish(asker).reason == "length"
    assert table.tokens(asker) == alone()
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(refusals))


def _lie(table: Tabletop, kind: str) -> None:
    """Make the first expert answer nonsense of one kind."""
    model = table.seats[table.peers[1]].model
    assert model is not None

    def lying(key: object, request: object) -> object:
        session, number = request.session, request.round  # type: ignore[attr-defined]
        if kind == "need":
            return Need(session, number, request.base + 1)  # type: ignore[attr-defined]
        if kind == "refused":
            return Refused(session, number, 1)
        lists = {"none": (), "two": (b"\x00", b"\x00"), "junk": (b"\xff" * 40,)}[kind]
        return Scores(session, number, 0, lists, bytes(8), 0, 0, NO_HALT_DIGEST)

    model.score = lying  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("kind", ["need", "refused", "none", "two", "junk"])
def test_an_expert_that_breaks_the_protocol_is_left_out(kind: str) -> None:
    table = settled([None, 7, 7, 7])
    asker = table.peers[0]
    _lie(table, kind)
    table.ask(asker, order(k=3))
    assert table.finish(asker).reason == "length"
    assert table.tokens(asker) == alone()
    used = {e.peer for token in table.chosen(asker) for e in token.experts}
    assert table.peers[1] not in used
    assert bool(table.seats[asker].penalised) == (kind != "refused")


def test_a_reply_nobody_asked_for_changes_nothing() -> None:
    table = settled([7, 7])
    asker, other = table.peers
    table.ask(asker, order(k=2, tokens=6))
    session = next(iter(table.seats[asker].node._requests._by_session))
    for number in (0, 5, 2**32 - 1):
        table.feed(asker, Received(PeerId("stranger"), Need(session, number, 0), 10))
        table.feed(
            asker,
            Received(
                other,
                Scores(session, number + 1 & 0xFFFFFFFF, 0, (), b"", 0, 0, NO_HALT_DIGEST),
                10,
            ),
        )
    assert table.finish(asker).reason == "length"
    assert table.tokens(asker) == alone(6)


def test_prompt_longer_than_a_frame_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmllm.core.decoding.members.TOKENS_MAX", 4)
    table = settled([None, 7, 7])
    table.ask(table.peers[0], order(k=2, speculation="off"))
    assert table.finish(table.peers[0]).reason == "length"
    assert table.tokens(table.peers[0]) == alone()


def test_a_silent_swarm_forgets_its_experts() -> None:
    table = settled([None, 7])
    asker, expert = table.peers
    table.freeze(expert)
    table.run_until(40.0)
    assert [e for e in table.seats[asker].events if isinstance(e, ExpertLost)]
    assert table.seats[asker].node.view(table.now).experts == ()


def test_same_seed_gives_the_same_run() -> None:
    def run() -> list[object]:
        table = Tabletop([1, 2, 3, 4], seed=9)
        table.run_until(2.0)
        table.ask(
            table.peers[0],
            GenerateRequest(PROMPT, k=2, max_tokens=10, sampling=Sampling(seed=5), vocab_size=512),
        )
        table.at(2.1, lambda: table.kill(table.peers[2]))
        table.finish(table.peers[0])
        return list(table.seats[table.peers[0]].events)

    assert run() == run()


def test_only_the_experts_that_a_request_names_are_asked() -> None:
    table = settled([7, 8, 8, 9])
    asker = table.peers[0]
    digest = ScriptedModel(seed=8).card.digest
    wanted = [(Only(digest), table.peers[1:3]), (Only(own=True), [asker])]
    for request, (only, expected) in enumerate(wanted, 1):
        table.ask(asker, order(k=3, only=only), request)
        assert table.finish(asker, request).reason == "length"
        asked = {use.peer for chosen in table.chosen(asker, request) for use in chosen.experts}
        assert asked == set(expected)
