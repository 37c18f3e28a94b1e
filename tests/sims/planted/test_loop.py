"""The loop around the cycle, with a validation that is made up, so that it takes no time."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from swarmllm.core.agent.proposers import Situation
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.governance.canary import Samples, samples_of
from swarmllm.core.settings.table import EXPERTS, EXTRA, HEDGE_COST
from swarmllm.core.validation.recording import Minute
from swarmllm.core.validation.report import Case
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot
from swarmllm.sims.frame.store import Store
from swarmllm.sims.planted import loop as module
from swarmllm.sims.planted.faults import Place
from swarmllm.sims.planted.loop import Looked, Loop, look, simulated
from swarmllm.sims.validation.playing import ANSWERS
from swarmllm.sims.validation.validate import key_of

PLACE = Place((0.04,) * 3, streams=1, tokens=8, prompt=8)
MINUTE = Minute(1, answers=2, ended=2, tokens=16, p50_ms=50, late=4, experts=3)
SNAPSHOT = Snapshot((ExpertFigures(0, 50_000, 20_000, 160, 8, 8, 0),), 1, 1)
KEPT = {"verdict": "better", "digest": "0102", "seconds": 7.0}
QUICK, SLOW = samples_of([0.1, 0.11] * 10), samples_of([0.3, 0.31] * 10)


@dataclass
class Listed:
    """Proposes one value of EXTRA after the other."""

    values: list[int]
    name: str = "listed"

    def propose(self, situation: Situation, _rng: random.Random) -> Suggestion | None:
        if not self.values:
            return None
        evidence = ("late_share",)
        return Suggestion(EXTRA, self.values.pop(0), "many are late", evidence, "late_share")


def looks(*costs: Samples) -> module.Look:
    """One after the other; the last one again and again."""
    left = list(costs)

    def found(_place: Place, _values: module.Values, _seed: int) -> Looked:
        return Looked((MINUTE,), SNAPSHOT, left.pop(0) if len(left) > 1 else left[0])

    return found


def made_up(case: Case) -> tuple[str, bytes, float]:
    """Two is better than all else."""
    verdict = "better" if case.setting is EXTRA and case.value == 2 else "no difference"
    return verdict, bytes([case.value]) * 32, 10.0


def loop_of(*values: int, costs: tuple[Samples, ...] = (QUICK,), most: int = 10) -> Loop:
    return Loop(PLACE, {EXTRA: 0}, Listed([*values]), 1, most, made_up, looks(*costs))


def test_what_is_better_is_applied_and_all_is_counted() -> None:
    loop = loop_of(4, 99, 2)
    loop.run()
    assert loop.values == {EXTRA: 2}
    assert (loop.suggested, loop.actionable, loop.validations, loop.improving) == (3, 2, 2, 1)
    assert loop.simulated_s == 20.0
    assert loop.taken_back == 0


def test_what_makes_tokens_dearer_is_taken_back() -> None:
    loop = loop_of(2, costs=(QUICK, SLOW))
    loop.run()
    assert loop.values == {EXTRA: 0}
    assert loop.taken_back == 1


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_more_is_validated_than_may_be(most: int) -> None:
    loop = loop_of(1, 3, 4, 1, 3, 2, most=most)
    loop.run()
    assert loop.validations == most
    assert loop.values == {EXTRA: 0}


def test_a_look_is_what_a_node_records_and_sees() -> None:
    found = look(PLACE, {HEDGE_COST: 100}, 7)
    assert sum(one.tokens for one in found.recording) == 8 * ANSWERS
    assert sum(one.ended for one in found.recording) == ANSWERS
    assert len(found.snapshot.experts) == 3
    assert found.snapshot.answers == 1
    assert found.costs.count > 0
    assert found == look(PLACE, {HEDGE_COST: 100}, 7)
    assert found != look(replace(PLACE, steps_s=(0.2,) * 3), {HEDGE_COST: 100}, 7)


def test_a_validation_that_could_not_be_called_better_is_not_simulated() -> None:
    known = {EXTRA: 0}, SNAPSHOT, (MINUTE,)
    assert simulated(Case(EXPERTS, 1, b"", *known, {})) == ("not shown", b"", 0.0)


def test_a_validation_that_was_made_is_kept(tmp_path: Path) -> None:
    case = Case(EXTRA, 1, b"", {EXTRA: 0}, SNAPSHOT, (MINUTE,), {})
    store = Store(tmp_path)
    store.add(f"validation {key_of(case)}", {"results": KEPT})
    store.close()
    again = Store(tmp_path)
    assert simulated(case, again) == ("better", b"\x01\x02", 7.0)
    again.close()
