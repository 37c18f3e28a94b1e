"""A task of each type on its planted case, with looks and validations that are made up."""

from __future__ import annotations

import pytest

from swarmllm.core.agent.tasks import TaskType
from swarmllm.core.governance.canary import samples_of
from swarmllm.core.settings.table import EXTRA, PATIENCE_MAX, SHUFFLE_INTERVAL
from swarmllm.core.validation.recording import Minute
from swarmllm.core.validation.report import Case
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot
from swarmllm.sims.planted.faults import Place
from swarmllm.sims.planted.loop import Looked, Values
from swarmllm.sims.planted.tasks import run_task

SNAPSHOT = Snapshot((ExpertFigures(0, 50_000, 20_000, 160, 8, 8, 0),) * 16, 16, 1)
MINUTE = Minute(1, answers=2, ended=2, tokens=16, p50_ms=50, first_ms=900, late=4, failovers=9)
GOOD = {EXTRA: 1, PATIENCE_MAX: 5_000, SHUFFLE_INTERVAL: 20_000}


def look(_place: Place, _values: Values, _seed: int) -> Looked:
    return Looked((MINUTE,), SNAPSHOT, samples_of([0.1, 0.11] * 10))


def made_up(case: Case) -> tuple[str, bytes, float]:
    verdict = "better" if GOOD.get(case.setting) == case.value else "worse"
    return verdict, bytes([1]) * 32, 1.0


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        (TaskType.TUNE_SCHEDULER, "router.hedging_extra 0 to 1: better"),
        (TaskType.ANALYSE_SECURITY, "router.patience_max 1000 to 5000: better"),
        (TaskType.TUNE_CONFIGURATION, "exchange.shuffle_interval 4500 to 20000: better"),
        (TaskType.DRAFT_PROPOSAL, "Change: router.hedging_extra from 4 to 1 experts"),
        (TaskType.WRITE_TEST, ": worse"),
    ],
)
def test_each_type_has_a_result_that_somebody_can_act_on(kind: TaskType, result: str) -> None:
    found = run_task(kind, 1, made_up, look)
    assert result in found.result
    assert found.is_actionable


@pytest.mark.parametrize("kind", list(TaskType))
def test_a_result_that_is_not_what_was_wanted_is_none(kind: TaskType) -> None:
    found = run_task(kind, 1, lambda _: ("no difference", bytes(32), 1.0), look)
    assert not found.is_actionable
