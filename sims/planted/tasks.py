"""A task of each of the five types, on a planted case: what comes of it, and whether somebody can
act on that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmllm.core.agent.domains import NETWORK, SCHEDULING, SECURITY
from swarmllm.core.agent.proposal_text import text_of
from swarmllm.core.agent.proposers import InTurn, RuleProposer, SearchProposer
from swarmllm.core.agent.tasks import KINDS, TaskType
from swarmllm.sims.planted.faults import BY_NAME, CALM, Fault, Place
from swarmllm.sims.planted.loop import (
    Look,
    Looked,
    Loop,
    Validator,
    Values,
    case_of,
    look,
    simulated,
)

VALIDATIONS: Final = 10
HEALTHY: Final = Fault("healthy", {}, CALM)
CASES: Final[Mapping[TaskType, tuple[Fault, str]]] = {
    TaskType.TUNE_SCHEDULER: (BY_NAME["no_hedge_few"], SCHEDULING),
    TaskType.ANALYSE_SECURITY: (BY_NAME["patience_short_slow"], SECURITY),
    TaskType.WRITE_TEST: (HEALTHY, SCHEDULING),
    TaskType.TUNE_CONFIGURATION: (BY_NAME["shuffle_quick_quiet"], NETWORK),
    TaskType.DRAFT_PROPOSAL: (BY_NAME["hedge_much_few"], SCHEDULING),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` in words. It is `actionable` if there is one, and a validation, then or afterwards,
    says what the task was for."""

    type: TaskType
    case: str
    result: str
    is_actionable: bool
    validations: int


def run_task(
    kind_of: TaskType, seed: int, validator: Validator = simulated, look: Look = look
) -> Outcome:
    """One cycle for a task of this type, with rules and then a search."""
    kind = KINDS[kind_of]
    fault, domain = CASES[kind_of]
    looks: list[Looked] = []

    def looked(place: Place, values: Values, seed: int) -> Looked:
        looks.append(look(place, values, seed))
        return looks[-1]

    proposer = InTurn("rules, then search", (RuleProposer(), SearchProposer()))
    loop = Loop(
        *(fault.place, dict(fault.values), proposer, seed, VALIDATIONS, validator, looked),
        cycles_max=1,
        kind=kind,
        domain=domain,
    )
    loop.run()
    suggestion, verdict = loop.found[-1] if loop.found else (None, "")
    if suggestion is None and loop.filed:  # The phase of the task simulates nothing: we do.
        suggestion = loop.filed[-1].suggestion
        verdict, _, _ = validator(case_of(suggestion, fault.values, looks[0]))
    if suggestion is None:
        return Outcome(kind_of, fault.name, "nothing", False, loop.validations)
    before = fault.values.get(suggestion.setting, suggestion.setting.default)
    result = f"{suggestion.setting.key} {before} to {suggestion.value}: {verdict}"
    if kind_of is TaskType.DRAFT_PROPOSAL and loop.filed:
        result = text_of(suggestion, before)
    is_actionable = verdict in kind.wanted and (bool(loop.filed) or "better" not in kind.wanted)
    return Outcome(kind_of, fault.name, result, is_actionable, loop.validations)
