"""Laws of the studies on the exact World: churn, throughput, Sybils, scale and the death of half,
each at a small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmllm.errors import UsageError
from swarmllm.sims import churn, half_dies, scale, sybil, throughput
from swarmllm.sims.crowd import CONTEXT_MAX, Request, add_askers, add_experts, untouched
from swarmllm.sims.frame.command import simulate
from swarmllm.sims.liars import ATTACKS
from swarmllm.sims.study import Mean, Study, Summary
from swarmllm.testing.world import DESKTOP_8B, LinkModel, Spec, World
from tests.sims.test_studies import SMALL

QUICK_CHURN: dict[str, Any] = {
    name: value for name, value in SMALL["churn"].items() if name != "churn"
}


def run(study: Study, seed: int = 1, **more: Any) -> dict[str, Any]:
    parameters = {**study.defaults, **more}
    study.check(parameters)
    return dict(study.point(parameters, seed))


# --- every study ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "study",
    [churn.STUDY, throughput.STUDY, sybil.STUDY, scale.STUDY, half_dies.STUDY],
    ids=lambda s: s.name,
)
def test_equal_seeds_give_equal_results_and_other_seeds_others(study: Study) -> None:
    first = run(study, seed=3, **SMALL[study.name])
    assert run(study, seed=3, **SMALL[study.name]) == first
    assert run(study, seed=4, **SMALL[study.name]) != first


IMPOSSIBLE: list[tuple[str, list[str], str]] = [
    ("churn", ["--crash", "0.8", "--power", "0.3"], "--crash 0.8 and --power 0.3"),
    ("churn", ["--trace", "/nowhere/at/all.csv", "--churn", "0"], "cannot read the trace"),
    ("churn", ["--churn", "0.3", "--trace", "x.csv"], "both say who leaves when"),
    ("churn", ["--churn", "-1"], "--churn -1"),
    ("churn", ["--models", "41"], "--models 41"),
    ("throughput", ["--experts", "4", "--k", "4"], "--experts 4"),
    ("throughput", ["--service", "abacus"], "abacus"),
    ("throughput", ["--speculation", "local"], "--speculation local wants an expert"),
    ("sybil", ["--share", "0.9"], "--share 0.9"),
    ("sybil", ["--attack", "saint"], "saint"),
    ("scale", ["--load", "9", "--streams", "8"], "--load 9"),
    ("scale", ["--phase", "7"], "7"),
    ("half_dies", ["--share", "1"], "--share 1"),
]


@pytest.mark.parametrize(("name", "words", "says"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
def test_what_is_impossible_is_named_before_anything_runs(
    name: str, words: list[str], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        simulate([name, *words], lambda _text: None)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


# --- churn ----------------------------------------------------------------------------------------


def test_without_churn_nobody_leaves_and_everything_is_finished() -> None:
    found = run(churn.STUDY, **QUICK_CHURN, churn=0.0)
    assert found["finished"] == found["untouched"] == 1.0
    assert found["left_per_hour"] == found["recoveries"] == 0.0


@pytest.mark.parametrize(
    "how", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)], ids=["crash", "power", "goodbye"]
)
def test_answers_survive_a_swarm_that_changes_within_a_minute(how: tuple[float, float]) -> None:
    """60 departures an hour and node: somebody leaves every few seconds, and who comes instead is
    ready after one."""
    crash, power = how
    found = run(
        churn.STUDY,
        **QUICK_CHURN | {"tokens": 96},
        churn=60.0,
        crash=crash,
        power=power,
        load_s=1.0,
    )
    assert found["left_per_hour"] > 10
    assert found["finished"] == 1.0


def test_a_trace_says_who_is_there(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = [f"always{i},0,7200" for i in range(8)] + [f"short{i},0,90" for i in range(4)]
    trace.write_text("node,start_s,end_s\n" + "\n".join(rows) + "\n")
    found = run(churn.STUDY, **QUICK_CHURN, churn=0.0, trace=str(trace), trace_hours=2.0)
    assert found["finished"] == 1.0
    trace.write_text("node,start_s,end_s\na,0,ten\n")
    with pytest.raises(UsageError, match=r"line 2 of .*trace\.csv"):
        run(churn.STUDY, **QUICK_CHURN, churn=0.0, trace=str(trace))


def test_an_answer_is_touched_if_who_made_its_last_token_leaves_before_its_end() -> None:
    world = World(1, link=LinkModel(0.05), halts=False)
    add_experts(
        world, [Spec(model=i, service=DESKTOP_8B, context_max=CONTEXT_MAX) for i in range(3)]
    )
    (asker,) = add_askers(world, 1)
    world.run_for(10.0)
    answer = world.ask(asker, Request(2, 0, 10).order(world.rng))
    world.run_for(60.0)
    at_work, elsewhere = answer.chosen[3].experts[0].peer, "n999999"
    middle = (answer.times[3] + answer.times[4]) / 2
    assert untouched([answer], {at_work: middle}) == 0.0
    assert untouched([answer], {at_work: answer.ended_at + 1.0}) == 1.0
    assert untouched([answer], {elsewhere: middle}) == 1.0  # type: ignore[dict-item]


# --- throughput -----------------------------------------------------------------------------------

STRICT: dict[str, Any] = {"experts": 8, "models": 1, "tokens": 24, "answers": 1}


def test_more_latency_never_gives_more_tokens() -> None:
    rates = [
        run(throughput.STUDY, **STRICT, one_way_ms=float(ms))["tokens_per_s"]
        for ms in (10, 40, 160, 640)
    ]
    assert rates == sorted(rates, reverse=True)


def test_without_jitter_the_ceiling_is_nearly_reached_and_never_passed() -> None:
    for k in (1, 3):
        found = run(throughput.STUDY, **STRICT, k=k, jitter=0.0)
        assert 0.95 <= found["of_ceiling"] <= 1.0 + 1e-9
        assert found["expected"] == pytest.approx(found["ceiling"])


def test_waiting_for_the_first_of_more_is_expected_to_be_quicker_and_is() -> None:
    plain = run(throughput.STUDY, **STRICT | {"tokens": 64}, extra=0)
    insured = run(throughput.STUDY, **STRICT | {"tokens": 64}, extra=2)
    assert insured["expected"] > plain["expected"]
    assert insured["tokens_per_s"] > plain["tokens_per_s"]
    assert insured["tokens_per_s"] == pytest.approx(insured["expected"], rel=0.15)


DRAFTING: dict[str, Any] = {
    "experts": 8,
    "models": 8,
    "tokens": 64,
    "answers": 1,
    "own": "laptop-1b",
    "speculation": "auto",
}


def test_the_more_alike_models_are_the_more_tokens_a_round_brings() -> None:
    found = [run(throughput.STUDY, **DRAFTING, likeness=x) for x in (0.0, 0.9, 1.0)]
    alphas = [one["alpha"] for one in found]
    assert alphas == sorted(alphas)
    assert alphas[-1] == pytest.approx(1.0, abs=1e-6)  # One model under several names, ...
    assert found[-1]["accepted"] == 1.0  # ... so that every draft holds.
    per_round = [one["tokens_per_round"] for one in found]
    assert per_round == sorted(per_round)
    assert per_round[-1] > 5
    rates = [one["times_strict"] for one in found]
    assert rates == sorted(rates)


@pytest.mark.parametrize("likeness", [0.0, 0.8, 0.98])
def test_without_jitter_no_draft_passes_the_ceiling_of_its_row(likeness: float) -> None:
    found = run(throughput.STUDY, **DRAFTING, likeness=likeness, jitter=0.0)
    # Steps of our own expert are no part of it, and after a rejection the round waits for them.
    assert 0.75 <= found["of_ceiling"] <= 1.0 + 1e-9
    assert found["tokens_per_round"] <= 1 + found["drafted_per_round"]


def test_where_nothing_can_be_looked_up_nothing_is_lost() -> None:
    found = run(throughput.STUDY, **DRAFTING | {"speculation": "lookup"}, likeness=0.9)
    assert found["times_strict"] >= 0.97


def test_a_draft_survives_stragglers_and_experts_that_leave() -> None:
    found = run(
        throughput.STUDY,
        **DRAFTING | {"experts": 12, "models": 12},
        likeness=0.95,
        slow_share=0.25,
        churn=60.0,
    )
    assert found["times_strict"] > 1.5
    assert found["tokens_per_round"] > 2


# --- Sybils ---------------------------------------------------------------------------------------

CROWD: dict[str, Any] = {
    "experts": 10,
    "models": 3,
    "k": 3,
    "before": 2,
    "after": 4,
    "askers": 1,
    "tokens": 12,
    "share": 0.2,
}


@pytest.mark.parametrize("attack", ["heart", "believable", "replicas", "lookalike", "careful"])
def test_who_made_up_what_it_knew_has_next_to_no_weight_and_without_the_defences_much(
    attack: str,
) -> None:
    defended = run(sybil.STUDY, **CROWD, attack=attack)
    bare = run(sybil.STUDY, **CROWD, attack=attack, defended=False)
    assert bare["weight_share"] > 4 * defended["weight_share"]
    assert defended["weight_share"] < sybil.GOAL
    assert defended["alone"] == 0.0 < bare["alone"]
    assert defended["tokens_changed"] < bare["tokens_changed"]
    assert defended["nats"] < bare["nats"]


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_every_attack_runs_and_every_answer_is_whole(attack: str) -> None:
    small = CROWD | {"before": 1, "after": 1, "tokens": 4}
    found = run(sybil.STUDY, **small, attack=attack)
    assert found["finished"] == 1.0
    assert found["fair"] == 0.2


def test_without_liars_nobody_lies_and_nothing_is_changed() -> None:
    found = run(sybil.STUDY, **CROWD | {"before": 1, "after": 1, "share": 0.0})
    assert found["weight_share"] == found["tokens_changed"] == found["alone"] == 0.0


def test_a_look_alike_says_the_same_under_another_digest_and_a_replica_does_not() -> None:
    parameters = {**sybil.STUDY.defaults, "attack": "lookalike"}
    world = sybil.Swarm(1, halts=False)
    honest = world.model(sybil.honest_spec(parameters, 2))
    double = world.model(sybil.liar_spec(parameters, 2))
    other = world.model(sybil.liar_spec(parameters, 6))
    assert (double.logits(bytes(8)) == honest.logits(bytes(8))).all()
    assert (other.logits(bytes(8)) == honest.logits(bytes(8))).all()
    assert len({honest.card.digest, double.card.digest, other.card.digest}) == 3
    slander = world.model(sybil.liar_spec(parameters | {"attack": "slanderer"}, 2))
    assert slander.card.digest == honest.card.digest


# --- scale ----------------------------------------------------------------------------------------


def test_an_overload_is_refused_and_slows_everybody_and_stops_nobody() -> None:
    setting: dict[str, Any] = {"nodes": 10, "models": 2, "settle_s": 5.0, "streams": 6}
    light, heavy = run(scale.STUDY, **setting, load=0.1), run(scale.STUDY, **setting, load=6.0)
    assert light["busy"] == 0.0 < heavy["busy"]
    assert light["used"] < heavy["used"]
    assert light["per_stream"] > heavy["per_stream"]
    assert heavy["tokens_per_s"] > 0.0
    assert heavy["streams_in_all"] == 60


# --- half dies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
def test_every_answer_is_whole_after_half_have_died(freeze: bool) -> None:
    for seed in range(3):
        found = run(half_dies.STUDY, seed, freeze=freeze, tokens=32)
        assert found["finished"] == found["whole"] == found["answers"] == 8
        assert found["began"] > 0


@pytest.mark.parametrize(
    ("untouched_share", "said"), [(1.0, "says little about churn"), (0.25, "only 25 % would")]
)
def test_churn_that_met_no_answer_is_said_to_be_so(untouched_share: float, said: str) -> None:
    figures = {"answers": 4.0, "finished": 1.0, "untouched": untouched_share, "pause_max_s": 0.5}
    means = {name: Mean(value, 0.0, 1) for name, value in figures.items()}
    summary = Summary({"churn": 0.3}, (1,), means, {})
    assert said in churn.STUDY.says([summary])
