"""Validation runs the swarm with and without a change: in a made-up one, in no time, how many pairs
and what follows; in small worlds, that it finds what is bad and good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from swarmllm.core.events import TokenChosen
from swarmllm.core.settings.table import EXPERTS, EXTRA, FORGETTING
from swarmllm.core.validation.report import encode_report, read_report
from swarmllm.sims.frame.store import Store
from swarmllm.sims.validation import playing
from swarmllm.sims.validation.fitting import (
    EXPERTS_MAX,
    LOSS,
    LOSS_MAX,
    STALL_MAX_S,
    STALLS_MAX,
    Fitted,
    fit,
)
from swarmllm.sims.validation.playing import ANSWERS, Load, Played, Run, Values, play, steady
from swarmllm.sims.validation.validate import (
    NO_REPLAY,
    Budget,
    OutOfTimeError,
    Play,
    Progress,
    key_of,
    validate,
)
from swarmllm.testing.world import Answer, Broken, Checker, Host
from tests.core.validation.cases import case, recorded, swarm
from tests.sims.validation.made_up import by_extra, by_nothing, made_up

FEW: Final = Budget(pairs_max=8)
# Short answers, so that a run takes a tenth of a second; nothing to be replayed.
SHORT: Final = recorded(2, answers=0, late=3)


class Thrifty(Checker):
    """No law of the world: more experts than four are too many here."""

    LAW: Final = "a token is made by four experts at most"

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        if len(chosen.experts) > 4:
            raise self.broken(self.LAW, host, f"{len(chosen.experts)} made one")


def thrifty() -> Sequence[Checker]:
    return (Thrifty(),)


# --- how many pairs, and what follows -------------------------------------------------------------


@pytest.mark.parametrize(("value", "verdict"), [(0, "better"), (2, "worse")])
def test_an_effect_is_found_in_the_first_look_and_no_more_pairs_are_run(
    value: int, verdict: str
) -> None:
    told: list[Progress] = []
    found = validate(case(EXTRA, value), Budget(), told.append, play=made_up(by_extra))
    assert found.verdict == verdict
    assert [one.pair for one in told] == list(range(1, 9))


def test_where_there_is_only_noise_all_pairs_are_run() -> None:
    """Seeds follow from the code, and one case in twenty is called something whatever it is: so
    several are tried."""
    nothing = made_up(lambda _: 1.0, noise=0.2)
    pairs = []
    for value in (0, 2, 3, 4):
        told: list[Progress] = []
        found = validate(case(EXTRA, value), Budget(), told.append, play=nothing)
        if found.verdict == "no difference":
            pairs.append(len(told))
    assert len(pairs) > 1
    assert set(pairs) == {32}


def test_what_is_certainly_hardly_anything_takes_few_pairs() -> None:
    found = validate(case(EXTRA, 2), Budget(), play=made_up(lambda _: 1.0, noise=1e-4))
    assert found.verdict == "no difference"
    assert found.tests[0].pairs == 8


def test_what_no_decision_depends_on_is_named_and_not_called_no_difference() -> None:
    found = validate(case(EXTRA, 2), FEW, play=lambda *_: Played(by_nothing(), "same"))
    assert found.verdict == "not shown"
    assert "does not show effects of router.hedging_extra" in found.why


def test_a_setting_that_is_not_shown_is_run_for_the_laws_alone() -> None:
    told: list[Progress] = []
    nothing = made_up(lambda _: 1.0)
    found = validate(case(FORGETTING, 20), Budget(), told.append, play=nothing)
    assert found.verdict == "not shown"
    assert len(told) == 8


def test_the_replay_has_a_say_of_its_own() -> None:
    about = case(EXTRA, 0, recording=recorded(3))
    found = validate(about, Budget(), play=made_up(by_extra))
    assert [test.name for test in found.tests] == ["snapshot", "replay"]
    assert NO_REPLAY not in found.notes


def test_without_a_recording_nothing_is_replayed_and_that_is_said() -> None:
    found = validate(case(EXTRA, 0), FEW, play=made_up(by_extra))
    assert [test.name for test in found.tests] == ["snapshot"]
    assert NO_REPLAY in found.notes


@pytest.mark.parametrize("sick", [0, 1])
def test_a_law_that_breaks_ends_it_also_without_the_change(sick: int) -> None:
    def run(_: Fitted, values: Values, __: int, ___: Load) -> Played:
        if values.get(EXTRA, EXTRA.default) == sick:
            raise Broken("every request ends: n000001, at 3 s: it did not")
        return Played(by_nothing(), "")

    found = validate(case(EXTRA, 0, recording=recorded(3)), FEW, play=run)
    assert found.verdict == "law broken"
    assert "every request ends" in found.why
    assert ("without the change too" in found.why) == bool(sick)
    assert read_report(encode_report(found)) == found


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    about, runs = case(EXTRA, 0), made_up(by_extra)
    stopped = Store(tmp_path)

    def stop(progress: Progress) -> None:
        if progress.pair == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(about, FEW, stop, play=runs, store=stopped)
    stopped.close()
    assert (tmp_path / "points.jsonl").read_bytes().count(b"\n") == 6
    store = Store(tmp_path)
    found = validate(about, FEW, play=runs, store=store)
    store.close()
    assert (tmp_path / "points.jsonl").read_bytes().count(b"\n") == 16
    assert encode_report(found) == encode_report(validate(about, FEW, play=runs))


def test_a_budget_that_is_over_ends_it_at_the_last_look_or_in_a_sentence() -> None:
    """And as many pairs give the same report again, however fast the machine."""
    about, nothing = case(EXTRA, 2), made_up(lambda _: 1.0, noise=0.2)
    clock = iter(range(1000))
    budget = Budget(wall_s=20, clock=lambda: float(next(clock)))
    found = validate(about, budget, play=nothing)
    assert found.pairs_max == {"snapshot": 16}
    again = validate(about, Budget(pairs=found.pairs_max), play=nothing)
    assert encode_report(again) == encode_report(found)
    with pytest.raises(OutOfTimeError, match="8 are the least that say anything"):
        validate(about, replace(budget, wall_s=3), play=nothing)


def test_the_key_is_of_all_that_goes_in() -> None:
    one = case(EXTRA, 2)
    assert key_of(one) == key_of(case(EXTRA, 2))
    others = (
        case(EXTRA, 3),
        case(EXTRA, 2, base=bytes([1]) * 32),
        case(EXTRA, 2, snapshot=swarm(6)),
        case(EXTRA, 2, recording=recorded(1)),
        replace(one, weights={"bytes": 0.5}),
        replace(one, values={EXPERTS: 4}),
    )
    assert len({key_of(one), *map(key_of, others)}) == 7


# --- in worlds ------------------------------------------------------------------------------------


def test_no_insurance_where_messages_come_late_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "ANSWERS", 12)  # Drafts make the times of few vary much.
    about = case(EXTRA, 0, snapshot=swarm(6), recording=SHORT)
    found = validate(about, FEW, play=partial(play, laws=tuple))
    assert found.verdict == "worse", found.tests


@pytest.mark.parametrize("busy", [1, 3])
def test_a_steady_load_asks_each_stream_until_there_are_enough_answers(busy: int) -> None:
    """The first answer that ends does not end the run."""
    run = Run(replace(fit(swarm(4), SHORT, 4, 3), streams=busy), {}, 1, tuple)
    steady(run)
    assert len(run.world.answers) >= ANSWERS
    assert all(answer.ends for answer in run.world.answers)


def test_one_run_is_the_same_again_and_another_seed_is_another() -> None:
    fitted = fit(swarm(4), SHORT, 4, 3)
    one, again, other = (play(fitted, {}, seed, steady, tuple) for seed in (1, 1, 2))
    assert one == again != other


def test_a_change_that_breaks_a_law_is_refused_with_its_name() -> None:
    about = case(EXPERTS, 6, snapshot=swarm(7), recording=SHORT)
    found = validate(about, FEW, play=partial(play, laws=thrifty))
    assert found.verdict == "law broken"
    assert Thrifty.LAW in found.why


def test_the_laws_of_the_world_hold_where_experts_come_and_go() -> None:
    """With all of them, those of quiet times too, while the recording is replayed."""
    recording = recorded(2, late=3, experts_went=2, experts_came=2)
    about = case(EXTRA, 2, snapshot=swarm(4), recording=recording)
    found = validate(about, FEW, play=play_twice())
    assert found.verdict != "law broken", found.why


def play_twice() -> Play:
    """The first runs of each load in the world, and the rest as they went."""
    held: dict[tuple[object, bool], Played] = {}

    def run(fitted: Fitted, values: Values, seed: int, load: Load) -> Played:
        key = (load, EXTRA in values)
        if key not in held:
            held[key] = play(fitted, values, seed, load)
        return held[key]

    return run


def test_a_swarm_is_fitted_within_bounds() -> None:
    fitted = fit(swarm(100, models=7, slow=10), recorded(60, experts_went=3, late=8), 4, 3)
    assert len(fitted.experts) == EXPERTS_MAX
    assert fitted.known == 100
    assert fitted.notes[0].startswith("16 of 100 experts are simulated")
    assert fitted.link.loss == LOSS_MAX
    assert fit(swarm(3), (), 4, 3).link.loss == LOSS
    slowest = max(spec.service.step_s for spec in fitted.experts)
    assert slowest == pytest.approx(0.8 * 0.28)


@pytest.mark.parametrize(
    ("slowest_ms", "stall_s"),
    [(400, 0.0), (900, 0.0), (2_100, 2.0), (60_000, STALL_MAX_S)],
)
def test_rounds_that_take_seconds_longer_are_stalls_and_no_late_messages(
    slowest_ms: int, stall_s: float
) -> None:
    recording = recorded(5, tokens=100, late=3, p50_ms=100, p99_ms=slowest_ms)
    found = fit(swarm(5), recording, 4, 3)
    assert found.stall_s == pytest.approx(stall_s)
    assert (found.stalls > 0) == (stall_s > 0)
    assert found.stalls <= STALLS_MAX
    assert (found.link.loss == LOSS) == (stall_s > 0)


def test_experts_stand_still_as_often_as_was_fitted_and_go_on() -> None:
    fitted = replace(fit(swarm(4), SHORT, 4, 3), stalls=0.5, stall_s=1.0)
    calm = play(replace(fitted, stalls=0.0), {}, 1, steady)
    stalling = play(fitted, {}, 1, steady)
    assert stalling.figures["token"] > 1.2 * calm.figures["token"]
    assert stalling.figures["unfinished"] == 0
