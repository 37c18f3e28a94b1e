"""Laws of what passes and what is final: nobody is out of an answer for what passes, and what is
final is said at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding import notices as telling
from swarmllm.core.decoding import standing
from swarmllm.core.decoding.patience import EXPERT_WAIT_S
from swarmllm.core.decoding.standing import FINAL, PEERS_MAX, REST_MAX_S, REST_MIN_S, Standing
from swarmllm.core.events import Noticed
from swarmllm.core.inputs import EngineLost, EngineReady
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_SESSION,
    REFUSED_VOCABULARY,
    Busy,
    CapacityRecord,
    Need,
    PeerId,
    Refused,
    Score,
)
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop

PROMPT = (3, 1, 4, 1, 5)
TOKENS = 12
UNKNOWN = 77
PASSING = (REFUSED_SESSION, REFUSED_ENGINE, UNKNOWN)


def order(k: int = 1, **more: object) -> GenerateRequest:
    found = {"k": k, "max_tokens": TOKENS, "sampling": Sampling(temperature=0.0), "vocab_size": 512}
    return GenerateRequest(PROMPT, **(found | more))  # type: ignore[arg-type]


def settled(seeds: list[int | None]) -> Tabletop:
    table = Tabletop(seeds)
    table.run_until(4.0)
    return table


def model_of(table: Tabletop, number: int) -> ScriptedModel:
    found = table.seats[table.peers[number]].model
    assert found is not None
    return found


def refusing(
    table: Tabletop, number: int, reply: int | Callable[[Score], object], since: float, until: float
) -> list[float]:
    """Expert `number` gives this reply (a Refused code, or a whole reply) instead of its answer for
    a while; when it was asked then."""
    model, asked = model_of(table, number), []
    real = model.score

    def score(key: object, request: Score) -> object:
        if not since <= table.now < until:
            return real(key, request)  # type: ignore[arg-type]
        asked.append(table.now)
        model.forget()
        if isinstance(reply, int):
            return Refused(request.session, request.round, reply)
        return reply(request)

    model.score = score  # type: ignore[method-assign, assignment]
    return asked


def alone() -> list[int]:
    table = settled([7])
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"
    return table.tokens(table.peers[0])


# --- whole nodes: what passes ---------------------------------------------------------------------


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("since", [0.0, 0.1])
def test_an_answer_resumes_as_soon_as_its_only_expert_is_back(code: int, since: float) -> None:
    table = settled([None, 7])
    begun = table.now
    asked = refusing(table, 1, code, begun + since, begun + 1.0)
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert asked
    assert (end.reason, table.tokens(table.peers[0])) == ("length", alone())
    assert table.now < begun + 1.0 + REST_MAX_S + 1.0
    assert not table.seats[table.peers[0]].penalised


@pytest.mark.parametrize("code", PASSING)
def test_an_expert_that_was_down_for_a_moment_takes_part_again(code: int) -> None:
    table = settled([None, 7, 7])
    refusing(table, 1, code, table.now + 0.1, table.now + 0.4)
    table.ask(table.peers[0], order(k=2, max_tokens=400, extra=0))
    assert table.finish(table.peers[0]).reason == "length"
    parts = [{u.peer for u in chosen.experts} for chosen in table.chosen(table.peers[0])]
    assert any(table.peers[1] not in part for part in parts)
    assert table.peers[1] in parts[-1]


def test_an_expert_that_is_down_is_not_asked_in_a_tight_loop() -> None:
    table = settled([None, 7])
    asked = refusing(table, 1, REFUSED_ENGINE, table.now + 0.1, table.now + 20.0)
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"
    assert len(asked) <= 3 + 20.0 / REST_MAX_S


@pytest.mark.parametrize("down_s", [1.0, 12.0, 40.0])
def test_an_engine_that_says_that_it_is_down_and_comes_back_costs_no_answer(down_s: float) -> None:
    """The record says 0 of 0 meanwhile, so there is nobody to ask; a large model takes its time to
    load."""
    table = settled([None, 7])
    expert, begun = table.peers[1], table.now
    refusing(table, 1, REFUSED_ENGINE, begun + 0.1, begun + 0.1 + down_s)
    table.at(begun + 0.1, lambda: table.feed(expert, EngineLost("it died")))
    model = model_of(table, 1)
    table.at(begun + 0.1 + down_s, lambda: table.feed(expert, EngineReady(model.card, model.load)))
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert (end.reason, table.tokens(table.peers[0])) == ("length", alone())
    assert table.now < begun + 0.1 + down_s + 8.0  # A record takes its time to come.


@pytest.mark.parametrize("down_s", [1.0, 12.0])
def test_our_own_engine_may_die_and_come_back_within_an_answer(down_s: float) -> None:
    table = settled([7])
    own, begun = table.peers[0], table.now
    refusing(table, 0, REFUSED_ENGINE, begun + 0.03, begun + 0.03 + down_s)
    table.at(begun + 0.03, lambda: table.feed(own, EngineLost("it died")))
    model = model_of(table, 0)
    table.at(begun + 0.03 + down_s, lambda: table.feed(own, EngineReady(model.card, model.load)))
    table.ask(own, order())
    assert table.finish(own).reason == "length"
    assert table.tokens(own) == alone()
    assert table.now < begun + 0.03 + down_s + REST_MAX_S + 1.0


def test_an_expert_that_forgets_again_and_again_is_not_a_liar() -> None:
    table = settled([None, 7])
    begun = table.now
    asked = refusing(table, 1, lambda r: Need(r.session, r.round, 0), begun, begun + 2.0)
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"
    assert not table.seats[table.peers[0]].penalised
    assert len(asked) < 60


def test_who_was_silent_is_asked_where_nobody_else_is_left() -> None:
    """It was suspended, missed deadline upon deadline, and is well again: our suspicion is not its
    state."""
    table = settled([None, 7])
    router = table.seats[table.peers[0]].node._router
    for _ in range(8):
        router.missed(table.peers[1], table.now)
    assert router.rests(table.peers[1], table.now + 50)
    begun = table.now
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"
    assert table.now < begun + 2.0


def test_who_says_that_it_has_no_room_is_left_alone_and_waited_for() -> None:
    table = settled([None, 7])
    begun = table.now
    asked = refusing(table, 1, lambda r: Busy(r.session, r.round, 15_000), begun, begun + 0.5)
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"
    assert len(asked) == 1
    assert table.now >= begun + 15.0


# --- whole nodes: what is final -------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(FINAL))
def test_what_is_final_ends_an_answer_at_once_with_its_reason(code: int) -> None:
    table = settled([None, 7])
    begun = table.now
    refusing(table, 1, code, begun + 0.1, begun + 1000.0)
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert end.reason == "error"
    assert end.tokens > 0
    assert FINAL[code] in end.error
    assert table.now < begun + 1.0


def test_before_the_first_token_others_are_looked_for_and_no_longer() -> None:
    table = settled([None, 7])
    begun = table.now
    refusing(table, 1, REFUSED_CONTEXT, begun, begun + 1000.0)
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert FINAL[REFUSED_CONTEXT] in end.error
    assert table.now <= begun + EXPERT_WAIT_S + 0.5


def test_a_text_that_outgrows_every_context_ends_at_once_with_that_reason() -> None:
    table = settled([None, 7])
    model = model_of(table, 1)
    model.card = replace(model.card, context_max=len(PROMPT) + 4)
    table.feed(table.peers[1], EngineReady(model.card, model.load))
    table.run_until(table.now + 10.0)
    begun = table.now
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert (end.reason, end.tokens) == ("error", 5)
    assert "context" in end.error
    assert table.now < begun + 1.0


def test_an_expert_that_offers_another_model_later_is_asked_for_that_one() -> None:
    table = settled([None, 7])
    begun, expert = table.now, table.peers[1]
    refusing(table, 1, REFUSED_MODEL, begun, begun + 3.0)
    other = ScriptedModel("other", 8)
    table.at(begun + 3.0, lambda: table.feed(expert, EngineReady(other.card, other.load)))
    table.at(begun + 3.0, lambda: setattr(table.seats[expert], "model", other))
    table.ask(table.peers[0], order())
    assert table.finish(table.peers[0]).reason == "length"


# --- whole nodes: nobody waits without a word -----------------------------------------------------


def test_silence_is_broken_with_the_reason() -> None:
    for how, expected in (
        ("frozen", "not answered yet"),
        ("down", "its engine is down, or paused"),
        ("none", "no expert for this vocabulary is known"),
    ):
        table = settled([None] if how == "none" else [None, 7])
        begun = table.now
        if how == "frozen":
            table.seats[table.peers[1]].frozen = True
        elif how == "down":
            refusing(table, 1, REFUSED_ENGINE, begun, begun + 30.0)
        table.ask(table.peers[0], order())
        table.run_until(begun + telling.SAY_S + 0.1)
        said = [e.text for e in table.seats[table.peers[0]].events if isinstance(e, Noticed)]
        assert len(said) == 1, said
        assert expected in said[0]
        assert "waiting for up to" in said[0]


def test_an_answer_that_fails_says_what_its_experts_said() -> None:
    table = settled([None, 7])
    refusing(table, 1, REFUSED_ENGINE, table.now, table.now + 1000.0)
    table.ask(table.peers[0], order())
    end = table.finish(table.peers[0])
    assert end.reason == "error"
    assert "none of 1 expert answered within 60 s: its engine is down, or paused" in end.error


# --- the machine alone ----------------------------------------------------------------------------

RECORD = CapacityRecord(
    1, 1, "m", bytes(32), bytes(32), 1, 4096, 160, 0, 4, 4, (), (), NO_HALT_DIGEST
)
Codes = st.integers(1, 255)
Peers = st.integers(0, 4).map(lambda i: PeerId(f"p{i}"))


@given(
    st.lists(st.tuples(Peers, Codes | st.sampled_from(["waits", "answers", "breaks"])), max_size=60)
)
def test_only_what_is_final_puts_an_expert_out(events: list[tuple[PeerId, int | str]]) -> None:
    found = Standing()
    out: set[PeerId] = set()
    for peer, event in events:
        if isinstance(event, int):
            rest_s = found.refused(peer, RECORD, event)
            assert (rest_s == 0.0) == (event in FINAL)
            assert rest_s <= REST_MAX_S
            out |= {peer} if event in FINAL else set()
        elif event == "waits":
            found.waits(peer, standing.BUSY)
        elif event == "answers":
            found.answered(peer)
        else:
            found.excluded(peer, standing.BROKE)
            out.add(peer)
        for other in map(PeerId, ("p0", "p1", "p2", "p3", "p4")):
            assert found.may_ask(other, RECORD) == (other not in out)
    if found.is_hopeless:
        assert out


@given(st.integers(1, 40))
def test_rests_grow_to_their_bound_and_an_answer_ends_the_row(count: int) -> None:
    found, peer = Standing(), PeerId("p")
    rests = [found.refused(peer, RECORD, REFUSED_ENGINE) for _ in range(count)]
    assert rests == sorted(rests)
    assert rests[0] == REST_MIN_S
    assert max(rests) <= REST_MAX_S
    found.answered(peer)
    assert found.reasons == []
    assert found.refused(peer, RECORD, REFUSED_ENGINE) == REST_MIN_S


@pytest.mark.parametrize("code", sorted(FINAL))
def test_what_is_final_is_so_for_what_was_offered(code: int) -> None:
    found, peer = Standing(), PeerId("p")
    found.refused(peer, RECORD, code)
    for other in (
        replace(RECORD, model_digest=bytes([1]) * 32),
        replace(RECORD, vocab_fingerprint=bytes([1]) * 32),
        replace(RECORD, context_max=8192),
    ):
        assert found.may_ask(peer, other)
    assert not found.may_ask(peer, replace(RECORD, seq=9, rate=1))
    found.excluded(peer, standing.BROKE)
    assert not found.may_ask(peer, replace(RECORD, context_max=8192))


def test_what_is_kept_is_bounded() -> None:
    found = Standing()
    for i in range(PEERS_MAX + 50):
        found.refused(PeerId(str(i)), RECORD, REFUSED_VOCABULARY)
        found.refused(PeerId(str(i)), RECORD, REFUSED_SESSION)
    assert max(len(found._out), len(found._row), len(found._why)) == PEERS_MAX
