"""What seeds of `sims/swarm.py` found in the node, each in the smallest world that shows it."""

from __future__ import annotations

from swarmllm.core.decoding.patience import ROUND_MAX_S
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world import VOCABULARY, Service, Spec, World
from swarmllm.testing.world.behaviours import Silent

GREEDY = Sampling(temperature=0.0)


def order(k: int = 3, tokens: int = 8) -> GenerateRequest:
    return GenerateRequest(
        (1, 2, 3), k=k, max_tokens=tokens, sampling=GREEDY, vocab_size=VOCABULARY
    )


def test_a_token_that_has_an_answer_is_not_put_off_beyond_its_round() -> None:
    """Seed 121: each expert asked in place of another put the deadline off anew, so that a round of
    60 s took 77."""
    world = World(121)
    asker = world.add(Spec(model=None))
    world.add(Spec(service=Service(ROUND_MAX_S - 5.0, 0.0, 0.0)))
    world.run_for(10.0)
    answer = world.ask(asker, order(tokens=1))
    world.run_for(ROUND_MAX_S - 10.0)
    # So slow that 30 s of patience are its due.
    world.add(Spec(service=Service(20.0, 0.0, 0.0), sessions_max=1), Silent())
    world.run_for(60.0)
    assert answer.end is not None
    assert answer.end.reason == "length"
    assert answer.ended_at <= answer.asked_at + ROUND_MAX_S + 0.001
