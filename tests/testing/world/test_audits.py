"""Worlds in which hosts audit each other's experts: who lies is excluded, nobody else is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from swarmllm.core.trust.audits import TrustView
from swarmllm.core.trust.case import Verdict
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.messages import PeerId, Scores, SessionSigned
from swarmllm.testing.world.audit_laws import NobodyIsWronged, excluded
from swarmllm.testing.world.engine import VOCABULARY
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.roles import Answer, Behaviour, Spec
from swarmllm.testing.world.run import laws, run
from swarmllm.testing.world.world import World

ASKS = 20


def order(number: int) -> GenerateRequest:
    prompt = tuple((number * 7 + i * 3) % VOCABULARY for i in range(12))
    return GenerateRequest(
        prompt,
        k=3,
        max_tokens=16,
        vocab_size=VOCABULARY,
        sampling=Sampling(temperature=0.0, seed=number),
    )


def world_of(seed: int, *specs: Spec, asker: Spec | None = None) -> tuple[World, Host, list[Host]]:
    """A requester without a model, unless `asker` has one, and experts."""
    world = World(seed, audits=True, checkers=(NobodyIsWronged(),))
    requester = world.add(asker or Spec(model=None))
    experts = [world.add(spec) for spec in specs]
    world.run_for(30.0)
    return world, requester, experts


def ask(world: World, host: Host, count: int = ASKS) -> list[Answer]:
    answers = []
    for number in range(count):
        answer = world.ask(host, order(number))
        world.run_for(60.0, partial(_has_ended, answer))
        answers.append(answer)
        world.run_for(5.0)
    return answers


def _has_ended(answer: Answer) -> bool:
    return bool(answer.ends)


def view(host: Host) -> TrustView:
    return next(one for one in host.node.view(host.clock()).parts if isinstance(one, TrustView))


def names(host: Host, world: World) -> list[PeerId]:
    return excluded(host.reputation, world.now)


@pytest.mark.parametrize("seed", range(5))
def test_who_answers_with_another_model_is_excluded_by_two_that_have_it(seed: int) -> None:
    world, requester, experts = world_of(
        seed, Spec(model=1), Spec(model=1), Spec(model=9, claims=1)
    )
    ask(world, requester)
    assert names(requester, world) == [experts[2].peer]
    assert any(one.verdict is Verdict.DIFFERED and one.is_signed for one in view(requester).audits)


@pytest.mark.parametrize("seed", range(3))
def test_who_has_the_model_finds_out_alone(seed: int) -> None:
    world, requester, experts = world_of(seed, Spec(model=9, claims=1), asker=Spec(model=1))
    ask(world, requester)
    assert names(requester, world) == [experts[0].peer]


def test_one_against_one_is_a_dispute_and_nobody_is_excluded() -> None:
    world, requester, experts = world_of(3, Spec(model=1), Spec(model=9, claims=1))
    ask(world, requester)
    assert names(requester, world) == []
    found = view(requester)
    assert {one.verdict for one in found.audits} == {Verdict.DISPUTED}
    disputed = {key[0] for key, account, _ in found.accounts if account.disputed > 0}
    assert disputed == {one.peer for one in experts}


def test_an_expert_whose_model_nobody_else_has_is_asked_again_itself() -> None:
    world, requester, _ = world_of(4, Spec(model=1), Spec(model=2), Spec(model=3))
    ask(world, requester)
    found = view(requester)
    assert {one.verdict for one in found.audits} == {Verdict.REPEATED}
    assert all(account.valid == 0 for _, account, _ in found.accounts)
    assert names(requester, world) == []


def test_honest_replicas_are_audited_ever_more_rarely_and_for_a_bounded_share() -> None:
    world, requester, _ = world_of(5, Spec(model=1), Spec(model=1), Spec(model=1))
    ask(world, requester, 60)
    found = view(requester)
    assert {one.verdict for one in found.audits} == {Verdict.AGREED}
    assert all(one.is_signed for one in found.audits)
    half = found.audits[len(found.audits) // 2].at_s - found.audits[0].at_s
    assert half < (found.audits[-1].at_s - found.audits[0].at_s) / 2
    assert found.spent <= 4096 + 0.1 * found.earned


class Sometimes(Behaviour):
    """Answers some sessions with the lists of another model."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.sessions: dict[tuple[PeerId, int], int] = {}

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores) or not message.lists:
            return message
        number = self.sessions.setdefault((peer, message.session), len(self.sessions))
        if number % self.every:
            return message
        other = host.world.model(Spec(model=77))
        lists = tuple(other.list_after(bytes((i,)), 256, 0) for i in range(len(message.lists)))
        return Scores(
            *(message.session, message.round, message.epoch, lists, message.target_logprobs),
            *(message.queue_us, message.compute_us, message.ctl_digest),
        )


def test_who_cheats_in_one_session_of_five_is_found() -> None:
    world = World(6, audits=True, checkers=(NobodyIsWronged(),))
    requester = world.add(Spec(model=1, sessions_max=4))
    cheat = world.add(Spec(model=1), Sometimes(5))
    world.run_for(30.0)
    ask(world, requester, 100)
    assert names(requester, world) == [cheat.peer]


class Careful(Behaviour):
    """Honest for prompts, and another model behind them."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores) or not message.round:
            return message
        other = host.world.model(Spec(model=77))
        lists = tuple(other.list_after(bytes((i,)), 256, 0) for i in range(len(message.lists)))
        return replace(message, lists=lists)


def test_who_lies_behind_prompts_is_excluded_though_nobody_else_has_its_model() -> None:
    world = World(8, audits=True, checkers=(NobodyIsWronged(),))
    requester = world.add(Spec(model=None))
    world.add(Spec(model=1))
    world.add(Spec(model=2))
    careful = world.add(Spec(model=9), Careful())
    world.run_for(30.0)
    ask(world, requester, 6)
    assert names(requester, world) == [careful.peer]
    verdicts = {one.verdict for one in view(requester).audits}
    assert verdicts == {Verdict.REPEATED, Verdict.DIFFERED}, "the others have nobody else, either"


def test_in_a_world_with_faults_nobody_is_wronged_and_a_former_liar_may_be_excluded() -> None:
    assert run(109, audits=True).hosts == 11
    assert NobodyIsWronged.HONEST_STAYS in laws(audits=True)


class Unsigned(Behaviour):
    """Signs nothing that it is asked to."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        return (
            SessionSigned(message.session, b"") if isinstance(message, SessionSigned) else message
        )


def test_who_signs_nothing_is_audited_all_the_same() -> None:
    world = World(7, audits=True)
    requester = world.add(Spec(model=None))
    world.add(Spec(model=1))
    world.add(Spec(model=1))
    quiet = world.add(Spec(model=9, claims=1), Unsigned())
    world.run_for(30.0)
    ask(world, requester)
    assert names(requester, world) == [quiet.peer]


def test_what_was_found_outlives_a_crash() -> None:
    world, requester, experts = world_of(8, Spec(model=1), Spec(model=1), Spec(model=9, claims=1))
    ask(world, requester)
    world.run_for(120.0)
    world.crash(requester)
    world.start(requester)
    world.run_for(30.0)
    assert names(requester, world) == [experts[2].peer]
    answer = world.ask(requester, order(3))
    world.run_for(60.0)
    assert answer.end is not None
    assert answer.end.reason == "length"
    used = {use.peer for chosen in answer.chosen for use in chosen.experts}
    assert experts[2].peer not in used


@pytest.mark.parametrize("seed", range(6))
def test_audits_end_whoever_dies(seed: int) -> None:
    world, requester, experts = world_of(
        seed, Spec(model=1), Spec(model=1), Spec(model=1), Spec(model=9, claims=1)
    )
    for number in range(30):
        answer = world.ask(requester, order(number))
        world.run_for(world.rng.uniform(0.05, 3.0))
        victim = world.rng.choice(experts)
        world.crash(victim)
        world.run_for(world.rng.uniform(0.05, 20.0))
        world.start(victim)
        world.run_for(90.0)
        assert answer.ends
    assert names(requester, world) in ([], [experts[3].peer])


def test_a_world_with_audits_is_the_same_each_time() -> None:
    def found() -> tuple[Any, ...]:
        world, requester, _ = world_of(9, Spec(model=1), Spec(model=1), Spec(model=9, claims=1))
        ask(world, requester, 5)
        return tuple(view(requester).audits), world.event_queue.done

    assert found() == found()
