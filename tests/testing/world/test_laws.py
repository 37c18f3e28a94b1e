"""Every law bites: a host that breaks it, by sabotage, is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from swarmllm.core.capacity.table import RECORD_TTL_S
from swarmllm.core.decoding.requests import REQUESTS_MAX
from swarmllm.core.effects import Announce, Relay, RunScore, SendFrame, StartAgain, StopNow
from swarmllm.core.events import Ended, HaltHeard, TokenChosen
from swarmllm.core.halt.state import HaltState, with_halt, with_resume
from swarmllm.core.inputs import Persisted
from swarmllm.core.values import GenerateRequest, Sampling, SessionKey, Speculative
from swarmllm.messages import Ack, Close, Halt, Open, PeerId, Score
from swarmllm.testing.world import VOCABULARY, Answer, Broken, Checker, Host, LinkModel, Spec, World
from swarmllm.testing.world.halt_laws import (
    HOP_S,
    AcksAreTrue,
    AsksFirst,
    HaltedIsSilent,
    HaltsAreKept,
    HaltsArrive,
    OrdersAgree,
    OrdersAreGenuine,
    OrdersArePassedOn,
    OrdersAreWritten,
    StartsFromDisk,
)
from swarmllm.testing.world.laws import (
    LOOK_EVERY,
    AnswersEnd,
    Bounded,
    DraftsHold,
    NothingLingers,
    SoundPicks,
    TablesAgree,
    TextIsKept,
)
from swarmllm.wire import context
from swarmllm.wire.signed import open_record

SCORE = Score(1, 0, 0, 0, bytes(8), (1,), (0,), (), 256, 0, bytes(8))
RUN = RunScore(1, SessionKey(PeerId("n000001"), 1), SCORE)
ORDER = GenerateRequest(
    (1, 2, 3), k=1, max_tokens=4, vocab_size=VOCABULARY, sampling=Sampling(temperature=0.0)
)


def swarm(law: Checker, count: int = 3, seconds: float = 20.0) -> tuple[World, list[Host]]:
    world = World(5, link=LinkModel(0.01), checkers=[law])
    hosts = [world.add(Spec()) for _ in range(count)]
    world.run_for(seconds)
    return world, hosts


def state_of(host: Host) -> HaltState:
    assert host.halt_machine is not None
    return host.halt_machine.state


def sabotage(host: Host, state: HaltState) -> None:
    assert host.halt_machine is not None
    host.halt_machine._state = state


def halted(world: World, state: HaltState, seq: int = 1) -> HaltState:
    return with_halt(state, open_record(world.founders.halt(seq)))


def chosen(request: int, index: int, token: int = 1) -> TokenChosen:
    return TokenChosen(request, index, token, -1.0, index, 1, 0.1, (), 1.0)


# --- of the kill switch ---------------------------------------------------------------------------


@pytest.mark.parametrize("effects", [[RUN], [StopNow(("x",)), RUN]], ids=["halted", "halting"])
def test_a_halted_host_that_computes_is_found(effects: list[Any]) -> None:
    law = HaltedIsSilent()
    world, (host, *_) = swarm(law)
    host.effects.is_halted = len(effects) == 1
    with pytest.raises(Broken, match="silent"):
        law.decided(host, object(), effects)
    law.decided(host, object(), [StopNow(("x",)), Relay(world.founders.halt(), ())])


def test_a_halted_host_that_sends_or_says_a_token_is_found() -> None:
    law = HaltedIsSilent()
    _, (host, other, *_) = swarm(law)
    law.leaves(host, other.peer, SCORE)
    host.effects.is_halted = True
    law.leaves(host, other.peer, Close(1))
    with pytest.raises(Broken, match="silent"):
        law.leaves(host, other.peer, SCORE)
    with pytest.raises(Broken, match="silent"):
        law.token(host, Answer(1, host, ORDER, 0.0, host.life), chosen(1, 0))


def test_a_host_that_tells_before_it_stops_is_found() -> None:
    law = HaltedIsSilent()
    world, (host, *_) = swarm(law)
    effects: list[Any] = [Relay(world.founders.halt(), ()), StopNow(("x",))]
    law.decided(host, object(), effects)  # Of another order: this one does not stand.
    sabotage(host, halted(world, state_of(host)))
    with pytest.raises(Broken, match="before it stops"):
        law.decided(host, object(), effects)


def test_a_state_that_goes_back_within_a_life_is_found() -> None:
    law = HaltsAreKept()
    world, (host, *_) = swarm(law)
    before = state_of(host)
    world.publish(host, world.founders.halt())
    sabotage(host, before)
    with pytest.raises(Broken, match="forgot halt 1"):
        law.stepped(host, object())


def test_a_restart_that_forgets_is_found() -> None:
    law = HaltsAreKept()
    world, (host, *_) = swarm(law)
    old = host.disk.first
    world.publish(host, world.founders.halt())
    world.run_for(1.0)
    for other in world.hosts:
        world.crash(other)
    host.disk.first = host.disk.second = old  # Nobody harmed it: it must have been the node.
    with pytest.raises(Broken, match="did not load halt 1"):
        world.start(host)


def test_a_harmed_copy_is_made_up_for_and_two_are_not() -> None:
    law = HaltsAreKept()
    world, hosts = swarm(law)
    world.publish(hosts[0], world.founders.halt())
    world.run_for(1.0)
    for host, copies in zip(hosts, (("first",), ("second",), ("first", "second")), strict=True):
        world.crash(host)
        for copy in copies:
            host.disk.harm(copy, b"rubbish")
        world.start(host, introduced=0)
        assert host.is_halted
    assert state_of(hosts[2]).lost
    hosts[2].effects.is_halted = False
    sabotage(hosts[2], replace(state_of(hosts[2]), lost=False))
    law._last.pop(hosts[2].number)
    with pytest.raises(Broken, match="it does not know"):
        law.stepped(hosts[2], object())


def test_an_order_that_nobody_gave_is_found() -> None:
    law = OrdersAreGenuine()
    world, (host, other, *_) = swarm(law)
    world.publish(host, world.founders.halt(1))
    sabotage(other, halted(world, state_of(other), 2))
    with pytest.raises(Broken, match="halt 2"):
        law.stepped(other, object())


def test_a_lift_by_too_few_is_found() -> None:
    law = OrdersAreGenuine()
    world, (host, *_) = swarm(law)
    world.publish(host, world.founders.resume({0: 7}, signers=(0,)))
    sabotage(
        host, with_resume(state_of(host), open_record(world.founders.resume({0: 7}, signers=(0,))))
    )
    with pytest.raises(Broken, match="lift 7"):
        law.stepped(host, object())


def test_a_host_that_runs_although_it_is_halted_is_found() -> None:
    law = StartsFromDisk()
    world, (host, *_) = swarm(law)
    sabotage(host, halted(world, state_of(host)))
    with pytest.raises(Broken, match="it runs although"):
        law.stepped(host, object())


def test_a_host_that_starts_before_its_disk_says_so_is_found() -> None:
    law = StartsFromDisk()
    world, (host, *_) = swarm(law)
    old = host.disk.first
    world.publish(host, world.founders.halt())
    world.run_for(1.0)
    halting = host.disk.first
    assert halting != old
    sabotage(host, with_resume(state_of(host), open_record(world.founders.resume())))
    host.effects.is_halted = False
    law.decided(host, object(), [StartAgain()])
    with pytest.raises(Broken, match="its disk says: halted by key"):
        law.stepped(host, object())


def test_an_order_that_is_not_written_down_is_found() -> None:
    law = OrdersAreWritten()
    world, (host, *_) = swarm(law)
    old = host.disk.first
    world.publish(host, world.founders.halt())
    world.run_for(1.0)
    host.disk.first = host.disk.second = old
    with pytest.raises(Broken, match=r"halt 1 of key [0-9a-f]+ is not on disk"):
        world.run_for(2.0)


def test_a_full_disk_is_an_excuse_for_as_long_as_it_is_full() -> None:
    law = OrdersAreWritten()
    world, (host, *_) = swarm(law)
    host.disk.full = True
    world.publish(host, world.founders.halt())
    world.run_for(20.0)
    host.disk.clear(world.now)
    world.run_for(20.0)
    assert world.hosts[0].is_halted


def test_an_acknowledgement_of_what_is_not_on_disk_is_found() -> None:
    law = AcksAreTrue()
    world, (host, other, *_) = swarm(law)
    law.decided(host, object(), [SendFrame(other.peer, Ack(state_of(host).digest))])
    with pytest.raises(Broken, match="acknowledges"):
        law.decided(
            host, object(), [SendFrame(other.peer, Ack(halted(world, state_of(host)).digest))]
        )


def test_who_starts_without_asking_is_found() -> None:
    law = AsksFirst()
    world = World(5, link=LinkModel(0.01), checkers=[law])
    world.add(Spec())
    host = world.add(Spec())
    host.effects.is_halted = False
    with pytest.raises(Broken, match="agrees with 0 of"):
        law.stepped(host, object())


def test_an_order_that_does_not_come_is_found() -> None:
    law = HaltsArrive()
    world, (host, *_) = swarm(law)
    world.network.tell = lambda *_: None  # type: ignore[method-assign]
    world.network.gossip = lambda *_: None  # type: ignore[method-assign]
    world.publish(host, world.founders.halt())
    with pytest.raises(Broken, match="has not come"):
        world.run_for(10.0)


def test_an_order_that_comes_too_late_is_found() -> None:
    law = HaltsArrive()
    world, (host, *_) = swarm(law)
    world.publish(host, world.founders.halt())
    world.run_for(1.0)
    world.network.delays.longest_s = lambda *_: 0.005 - HOP_S  # type: ignore[method-assign]
    world.publish(host, world.founders.halt(1, who=1))
    with pytest.raises(Broken, match=r"order 1 of 21\.000 s .* has not come within 0\.00 s"):
        world.run_for(1.0)


def test_an_order_that_is_not_passed_on_is_found() -> None:
    law = OrdersArePassedOn()
    world, (host, other, third) = swarm(law)
    order = world.founders.halt()
    heard = Announce(HaltHeard(cast(Halt, open_record(order).record), other.peer))
    law.decided(host, object(), [Relay(order, (third.peer,)), heard])
    with pytest.raises(Broken, match=f"order 1 does not go to {third.peer}"):
        law.decided(host, object(), [Relay(order, (other.peer,)), heard])
    with pytest.raises(Broken, match=f"does not go to {third.peer}"):
        law.decided(host, object(), [heard])


def test_orders_that_differ_in_the_end_are_found() -> None:
    law = OrdersAgree()
    world, (host, other, *_) = swarm(law)
    world.settled()
    before = state_of(other)
    sabotage(other, halted(world, before))
    with pytest.raises(Broken, match="other orders than n000000"):
        world.settled()
    for one in world.hosts:
        sabotage(one, state_of(other))
    with pytest.raises(Broken, match="its disk holds other orders"):
        world.settled()
    assert host.alive


# --- of answers and tables ------------------------------------------------------------------------


def an_answer(world: World, host: Host, order: GenerateRequest = ORDER) -> Answer:
    answer = Answer(1, host, order, world.now, host.life)
    world.answers.append(answer)
    return answer


def say(law: Checker, answer: Answer, index: int, token: int = 1) -> None:
    """As the host does when its node emits a token."""
    answer.tokens.append(token)
    answer.times.append(law.world.now)
    law.token(answer.host, answer, chosen(answer.request, index, token))


def test_a_token_that_is_lost_doubled_or_late_is_found() -> None:
    law = AnswersEnd()
    world, (host, *_) = swarm(law)
    answer = an_answer(world, host)
    say(law, answer, 0)
    with pytest.raises(Broken, match="token 2 comes as number 1"):
        say(law, answer, 2)
    answer = an_answer(world, host)
    world.run_for(100.0)
    with pytest.raises(Broken, match=r"waited 100\.0 s at token 1"):
        say(law, answer, 0)


@pytest.mark.parametrize(
    ("ends", "tokens", "says"),
    [
        ([Ended(1, "length", 4, 0, 0)] * 2, 4, "ended 2 times"),
        ([Ended(1, "eos", 3, 0, 0)], 2, "ended with 3 tokens, and 2 came"),
        ([Ended(1, "length", 3, 0, 0)], 3, "by length at 3 of 4"),
    ],
)
def test_a_wrong_end_is_found(ends: list[Ended], tokens: int, says: str) -> None:
    law = AnswersEnd()
    world, (host, *_) = swarm(law)
    answer = an_answer(world, host)
    for index in range(tokens):
        say(law, answer, index)
    answer.ends += ends
    with pytest.raises(Broken, match=says):
        law.ended(host, answer, ends[-1])


def test_an_answer_that_never_ends_is_found() -> None:
    law = AnswersEnd()
    world, (host, *_) = swarm(law)
    an_answer(world, host)
    world.settled()
    world.run_for(100.0)
    with pytest.raises(Broken, match="waited 100"):
        world.settled()


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.0), Sampling(seed=7, repetition_penalty=1.3)]
)
def test_another_text_is_found(sampling: Sampling) -> None:
    world = World(5, link=LinkModel(0.01))
    law = TextIsKept(world.model(Spec()))
    law.begin(world)
    order = replace(ORDER, sampling=sampling)
    answer = an_answer(world, world.add(Spec()), order)
    first = law.after(order, [], context.digests(order.prompt)[-1])
    say(law, answer, 0, first)
    second = law.after(order, [first], context.digests((*order.prompt, first))[-1])
    with pytest.raises(Broken, match=f"token 1 is {second + 1} instead of {second}"):
        say(law, answer, 1, second + 1)


def test_a_draft_that_is_not_accounted_for_is_found() -> None:
    def begun(speculation: Speculative = "auto") -> tuple[DraftsHold, Answer]:
        world = World(5, link=LinkModel(0.01))
        law = DraftsHold()
        law.begin(world)
        return law, an_answer(world, world.add(Spec()), replace(ORDER, speculation=speculation))

    def come(law: DraftsHold, answer: Answer, numbers: Sequence[int]) -> None:
        for index, number in enumerate(numbers):
            use = TokenChosen(1, index, 1, 0.0, number, 1, 0.0, (), 1.0, shared=len(numbers))
            law.token(answer.host, answer, use)

    law, answer = begun()
    come(law, answer, (1, 1, 1))
    law.ended(answer.host, answer, Ended(1, "length", 3, 0, 0, drafted=4, accepted=2))
    for drafted, accepted in ((4, 1), (2, 3)):
        law, answer = begun()
        come(law, answer, (1, 1, 1))
        end = Ended(1, "length", 3, 0, 0, drafted=drafted, accepted=accepted)
        with pytest.raises(Broken, match=f"{accepted} of {drafted} drafted"):
            law.ended(answer.host, answer, end)
    law, answer = begun()
    with pytest.raises(Broken, match="is of round 2, and 2 more of round 1"):
        come(law, answer, (1, 2, 2))
    law, answer = begun("off")
    with pytest.raises(Broken, match="0 of 1 drafted"):
        law.ended(answer.host, answer, Ended(1, "length", 3, 0, 0, drafted=1))
    law, answer = begun()
    law.token(answer.host, answer, TokenChosen(1, 0, 1, 0.0, 1, 1, 0.0, (), 1.0, shared=2))
    with pytest.raises(Broken, match="ended within a round"):
        law.ended(answer.host, answer, Ended(1, "length", 3, 0, 0, drafted=2, accepted=2))


def test_an_expert_that_is_not_listed_not_able_or_another_is_found() -> None:
    law = SoundPicks()
    _, (host, other, *_) = swarm(law)
    assert other.engine is not None
    card = other.engine.model.card
    good = Open(1, card.digest, card.vocab_fingerprint, bytes(8))
    law.leaves(host, other.peer, good)
    with pytest.raises(Broken, match="does not list"):
        law.leaves(host, PeerId("nobody"), good)
    with pytest.raises(Broken, match="another model"):
        law.leaves(host, other.peer, replace(good, model_digest=bytes(32)))
    law.leaves(host, other.peer, replace(SCORE, base=card.context_max - 1))
    with pytest.raises(Broken, match="which takes"):
        law.leaves(host, other.peer, replace(SCORE, base=card.context_max))


def test_a_collection_that_grows_is_found() -> None:
    law = Bounded()
    _, (host, *_) = swarm(law)
    host.node._requests._generations |= dict.fromkeys(range(REQUESTS_MAX + 1))  # type: ignore[arg-type]
    law._steps[host.number] = LOOK_EVERY - 1
    with pytest.raises(Broken, match=f"answers holds {REQUESTS_MAX + 1} of at most {REQUESTS_MAX}"):
        law.stepped(host, object())


def test_tables_that_lack_the_living_or_list_the_dead_are_found() -> None:
    law = TablesAgree()
    world, (host, other, third) = swarm(law)
    world.settled()
    record = host.node._table._entries[third.peer]
    host.node._table._drop(other.peer)
    with pytest.raises(Broken, match=f"does not list {other.peer}, to which it is connected"):
        world.settled()
    world.crash(other)
    world.crash(third)
    world.run_for(RECORD_TTL_S + 5.0)
    world.settled()
    record.born_at = host.clock()
    host.node._table._entries[third.peer] = record
    with pytest.raises(Broken, match=f"lists {third.peer}, which has been gone"):
        world.settled()


def test_what_is_left_over_is_found() -> None:
    law = NothingLingers()
    world, (host, other, *_) = swarm(law)
    world.settled()
    host.node.handle(Persisted(99, ok=True), host.clock())
    host.node._serving.received(PeerId("gone"), Close(1))
    with pytest.raises(Broken, match="sessions of gone"):
        world.settled()
    del host.node._serving._requesters[PeerId("gone")]
    other.node._serving._orders[1] = None  # type: ignore[assignment]
    with pytest.raises(Broken, match="1 rounds"):
        world.settled()
