"""Every law of governed worlds bites: a host that breaks it, by sabotage, is named; and whoever
tampers with a ledger is found by a witness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarmllm.core.effects import RecordKept, SendFrame
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.mandate import DEFAULTS, Tier
from swarmllm.core.governance.outcome import Target
from swarmllm.core.governance.tiers import Decision
from swarmllm.core.inputs import TimerFired
from swarmllm.core.part import Part
from swarmllm.core.settings.table import EXPERTS, EXTRA
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import (
    CanaryReport,
    ClosePhase,
    Revert,
    SetRecords,
    SetSetting,
    Vote,
)
from swarmllm.testing.operators import Operator
from swarmllm.testing.world import Broken, Host, LinkModel, Spec, World
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.governance_bounds import (
    GovernanceBounded,
    GovernanceIsQuiet,
    LooksAreFew,
)
from swarmllm.testing.world.governance_checks import records_of, referee_of
from swarmllm.testing.world.governance_forgeries import forged_records
from swarmllm.testing.world.governance_laws import Justified, OnceEach, PinsAreKept, SettingsAgree
from swarmllm.testing.world.government import Filed, Government
from swarmllm.testing.world.keeping_law import KeptIsOnDisk
from swarmllm.testing.world.record_laws import RecordsHeld, Weighed
from swarmllm.testing.world.referee import HALT_TOOK, Refused
from swarmllm.testing.world.witness_laws import (
    HonestLogsAreBelieved,
    LogsAreWitnessed,
    TamperingIsFound,
    WitnessesAreBounded,
)
from swarmllm.testing.world.witnesses import Logs
from swarmllm.wire.signed import sign_record

TERMS = replace(DEFAULTS, review_h=1, canary_s=0)
ALL_VOTE = 3


class Swarm:
    """Some hosts of one government, whose ledgers witness each other, judged by one law."""

    def __init__(
        self, law: Any, terms: Any = TERMS, *, agents: tuple[int, ...] = (), forking: Any = ()
    ) -> None:
        self.government = Government("tried", 3, agents, terms)
        self.logs = Logs(forking)
        of_ledgers = law in (
            *(HonestLogsAreBelieved, LogsAreWitnessed, TamperingIsFound, WitnessesAreBounded),
        )
        self.law: Any = self._law(law, of_ledgers)
        self.world = World(
            5,
            link=LinkModel(0.01),
            founders=self.government.founders,
            named_by_keys=True,
            parts=self._parts,
            checkers=[self.law],
        )
        self.hosts = [self.world.add(Spec()) for _ in range(4)]
        self.world.run_for(20.0)
        self.government.tell_terms(self.hosts[0])
        self.world.run_for(5.0)

    def _law(self, law: Any, of_ledgers: bool) -> Checker:
        if law is PinsAreKept:
            return PinsAreKept()
        found: Checker = law(self.logs if of_ledgers else self.government)
        return found

    def _parts(self, host: Host) -> tuple[Part, ...]:
        return (*self.government.part(host), self.logs.part(host))

    def file(self, action: Any, tier: int | None = None) -> Filed:
        filed = self.government.propose(self.hosts[0], self.government.voters[0], action, tier=tier)
        assert filed is not None
        return filed

    def carry(self, action: Any, tier: int | None = None, votes: int = ALL_VOTE) -> Filed:
        filed = self.file(action, tier)
        for voter in self.government.voters[:votes]:
            assert self.government.vote(self.hosts[0], voter, filed.id) is not None
        self.world.run_for(10.0)
        return filed

    def value(self, host: Host) -> int:
        return host.settings.get(EXPERTS)

    def force(self, host: Host, id: bytes, value: int) -> None:
        """Sabotage: in force all the same, and the settings follow."""
        target = Target("setting", EXPERTS.code)
        self.government.machine(host).changes._apply(target, (id, (value,)), 0)


SET = SetSetting(EXPERTS.code, 5)


@pytest.mark.parametrize("sabotage", ["unsigned", "open", "other value", "unreviewed"])
def test_what_is_in_force_without_its_gate_is_found(sabotage: str) -> None:
    swarm = Swarm(Justified)
    value, id = 5, bytes(32)
    match sabotage:
        case "unsigned":
            says = "that nobody proposed: .*nobody signed that"
        case "open":
            id, says = swarm.carry(SET, votes=1).id, "without its votes: .*it has not passed"
        case "other value":
            id, value = swarm.carry(SET).id, 6
            says = "that nobody proposed: .*that was not voted on"
        case _:
            id, says = swarm.carry(SET, tier=4).id, "before its review: .*reviewed for"
    swarm.force(swarm.hosts[1], id, value)
    with pytest.raises(Broken, match=says):
        swarm.world.run_for(60.0)


@pytest.mark.parametrize("where", ["disk", "ledger"])
def test_what_is_in_force_before_it_is_written_is_found(where: str) -> None:
    swarm = Swarm(Justified)
    host = swarm.hosts[1]
    host.disk.full = where == "disk"
    filed = swarm.carry(SET)
    if where == "ledger":
        changes: Any = swarm.government.machine(host).changes
        changes._apply(Target("setting", EXPERTS.code), None, 0)
        swarm.law.stepped(host, object())
        host.disk.ledger.leaves = host.disk.ledger.leaves[:2]
    assert swarm.value(host) == EXPERTS.default
    swarm.force(host, filed.id, 5)
    with pytest.raises(Broken, match=f"disk and ledger have it: .* is not (on|in the) {where}"):
        swarm.world.run_for(60.0)


def test_a_phase_that_is_opened_by_closing_is_found() -> None:
    swarm = Swarm(Justified)
    host = swarm.hosts[1]
    host.disk.full = True
    filed = swarm.carry(ClosePhase(3))
    changes: Any = swarm.government.machine(host).changes
    assert swarm.government.machine(swarm.hosts[0]).phase == 0
    changes._apply(Target("phase"), (filed.id, (3,)), 0)
    with pytest.raises(Broken, match=r"closing a phase opens none: .*3, not 0"):
        swarm.world.run_for(60.0)


@pytest.mark.parametrize("fault", list(Refused))
def test_a_record_that_nobody_may_hold_is_found(fault: Refused) -> None:
    """As if a host had not looked."""
    swarm = Swarm(RecordsHeld)
    filed, voter = swarm.file(SET), swarm.government.voters[1]
    swarm.world.run_for(5.0)
    vote = Vote(swarm.government.founders.swarm, 1, filed.id, voter.id, 1, 0)
    signer = voter
    match fault:
        case Refused.ROLE:
            signer = Operator("stranger")
            vote = replace(vote, key=signer.id)
        case Refused.SWARM:
            vote = replace(vote, swarm=bytes(32))
        case Refused.CHARTER:
            vote = replace(vote, charter_version=2)
        case Refused.SIGNATURE:
            signer = Operator("stranger")
    record = sign_record(vote, [(signer.public_key, signer.sign)])
    machine = swarm.government.machine(swarm.hosts[1])
    machine.registry.cases[filed.id].add(vote, record)
    machine.replica.touched(swarm.hosts[1].clock())
    law = getattr(RecordsHeld, fault.name)
    with pytest.raises(Broken, match=f"{law}: .*{fault.value}"):
        swarm.world.run_for(120.0)


def weighed_wrongly(machine: GovernanceMachine, id: bytes, **wrong: Any) -> None:
    """Sabotage: the host makes something else of a proposal."""
    assert machine.outcome is not None
    standings = dict(machine.outcome.standings)
    standings[id] = replace(standings[id], **wrong)
    machine.outcome = replace(machine.outcome, standings=standings)


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        ({"decision": Decision(Tier.DEPLOY_MAJOR, False, "")}, Weighed.TIER),
        ({"yes": 2}, Weighed.COUNT),
        ({"passed": False}, Weighed.PASSES),
        ({"void": "for no reason"}, Weighed.REASON),
        ({"void": HALT_TOOK}, Weighed.NO_MORE),
    ],
)
def test_a_proposal_that_is_weighed_wrongly_is_found(wrong: dict[str, Any], law: str) -> None:
    swarm = Swarm(Weighed)
    filed = swarm.carry(SET)
    weighed_wrongly(swarm.government.machine(swarm.hosts[1]), filed.id, **wrong)
    with pytest.raises(Broken, match=law):
        swarm.world.run_for(120.0)


@pytest.mark.parametrize("law", [Weighed.AGENT, Weighed.WORSE, Weighed.REVERT, Weighed.TAKEN_BACK])
def test_what_counts_although_it_is_void_is_found(law: str) -> None:
    terms = replace(TERMS, agent=(Operator("host 0").public_key,))
    swarm = Swarm(Weighed, terms, agents=(0,))
    government, host = swarm.government, swarm.hosts[0]
    agent = government.agents[0]
    if law == Weighed.AGENT:
        filed = government.propose(host, agent, SET, drafted_for=government.voters[0])
        assert filed is not None
    else:
        filed = swarm.carry(SET)
    match law:
        case Weighed.WORSE:
            report = CanaryReport(
                government.founders.swarm, 1, filed.id, agent.id, 1, 9, 9, 1, 9, 0
            )
            government.offer(host, government.sign(agent, report))
        case Weighed.REVERT:
            swarm.carry(Revert(filed.id))
        case Weighed.TAKEN_BACK:
            swarm.world.publish(host, swarm.world.founders.halt())
        case _:
            pass
    swarm.world.run_for(5.0)
    machine = government.machine(swarm.hosts[1])
    assert machine.outcome is not None
    assert machine.outcome.standings[filed.id].void
    weighed_wrongly(machine, filed.id, void="")
    with pytest.raises(Broken, match=law):
        swarm.world.run_for(120.0)


def test_what_no_canary_has_tried_is_found() -> None:
    terms = replace(TERMS, canary_s=600, agent=(Operator("host 0").public_key,))
    swarm = Swarm(Justified, terms, agents=(0,))
    filed = swarm.carry(SET)
    assert swarm.value(swarm.hosts[0]) == 5, "the agent's"
    assert swarm.value(swarm.hosts[1]) == EXPERTS.default
    swarm.force(swarm.hosts[1], filed.id, 5)
    with pytest.raises(Broken, match="no canary has tried it"):
        swarm.world.run_for(60.0)


def test_what_is_put_into_force_while_halted_is_found() -> None:
    swarm = Swarm(Justified)
    filed = swarm.carry(SET, tier=4)
    swarm.world.publish(swarm.hosts[0], swarm.world.founders.halt())
    swarm.world.run_for(5.0)
    swarm.force(swarm.hosts[1], filed.id, 5)
    with pytest.raises(Broken, match="nothing is put into force while halted"):
        swarm.world.run_for(60.0)


def test_a_host_on_which_a_halt_takes_nothing_back_is_found() -> None:
    swarm = Swarm(Justified)
    swarm.carry(SET)
    host = swarm.hosts[1]
    assert swarm.value(host) == 5
    machine: Any = swarm.government.machine(host)
    machine._evaluate = lambda: None
    swarm.world.publish(swarm.hosts[0], swarm.world.founders.halt())
    with pytest.raises(Broken, match="a halt takes the last changes back"):
        swarm.world.run_for(60.0)


def test_a_halt_takes_the_last_three_back_and_the_law_is_content() -> None:
    swarm = Swarm(Justified)
    for value in (4, 5, 6, 7):
        swarm.carry(SetSetting(EXPERTS.code, value))
    assert [swarm.value(host) for host in swarm.hosts] == [7] * 4
    swarm.world.publish(swarm.hosts[0], swarm.world.founders.halt())
    swarm.world.run_for(10.0)
    assert [swarm.value(host) for host in swarm.hosts] == [4] * 4


def test_what_is_put_into_force_twice_is_found() -> None:
    swarm = Swarm(OnceEach)
    filed = swarm.carry(SET)
    journal = swarm.government.machine(swarm.hosts[1]).changes.journal
    journal.add(filed.id, "answer.experts", "5", "5", 0)
    with pytest.raises(Broken, match="nothing is put into force twice"):
        swarm.world.run_for(60.0)


def test_a_pin_that_is_not_kept_is_found() -> None:
    swarm = Swarm(PinsAreKept)
    swarm.hosts[1].spec = replace(swarm.hosts[1].spec, pins={EXPERTS: 7})
    with pytest.raises(Broken, match="a pinned value never changes"):
        swarm.world.run_for(60.0)


@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        ("at once", "what is said to be on disk is there"),
        ("never", "offer 4 was not"),
        ("twice", "was answered twice"),
    ],
)
def test_an_answer_before_the_disk_has_it_or_none_at_all_is_found(
    sabotage: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = Swarm(KeptIsOnDisk)
    swarm.carry(SET, votes=1)
    writing = swarm.government.machine(swarm.hosts[0]).writing

    def answer(check: int) -> None:
        if sabotage == "at once":
            writing._kept.append(RecordKept(check))
        elif sabotage == "twice":
            writing._checks.extend([check] * 2)

    monkeypatch.setattr(writing, "answer", answer)

    def goes_on() -> None:
        swarm.carry(SetSetting(EXPERTS.code, 6), votes=1)
        swarm.law.settled()

    with pytest.raises(Broken, match=says):
        goes_on()


def test_a_collection_beyond_its_bound_is_found() -> None:
    swarm = Swarm(GovernanceBounded)
    swarm.world.settled()
    swarm.government.machine(swarm.hosts[1]).progress._costs_s = [0.0] * 257
    with pytest.raises(Broken, match="costs: 257 > 256"):
        swarm.world.settled()


def test_an_open_proposal_goes_after_two_weeks_and_one_that_stays_is_found() -> None:
    swarm = Swarm(GovernanceBounded)
    filed, host = swarm.file(SET), swarm.hosts[1]
    swarm.world.run_for(20.0)
    assert swarm.government.has(host, filed.id)
    swarm.world.crash(host)
    swarm.government.leap(host, 15 * 86_400.0)
    swarm.world.start(host)
    swarm.world.run_for(60.0)
    assert not swarm.government.has(host, filed.id), "nor does it fetch it from the others"
    swarm.world.settled()
    assert swarm.government.has(swarm.hosts[2], filed.id)
    swarm.government.machine(swarm.hosts[2]).progress.courses[filed.id].seen.counted_s = 1e7
    with pytest.raises(Broken, match="seconds that an open proposal is kept"):
        swarm.world.settled()


def test_a_host_that_talks_while_nothing_happens_is_found() -> None:
    swarm = Swarm(GovernanceIsQuiet)
    swarm.law.start()
    swarm.world.run_for(120.0)
    swarm.world.settled()
    host, other = swarm.hosts[:2]
    frame = SetRecords(bytes(8), (bytes(4_000),))
    swarm.law.decided(host, object(), [SendFrame(other.peer, frame, GOV)] * 2)
    with pytest.raises(Broken, match="next to nothing"):
        swarm.world.settled()


def test_a_node_that_looks_at_its_clock_for_ever_is_found() -> None:
    swarm = Swarm(LooksAreFew)
    machine: Any = swarm.government.machine(swarm.hosts[1])
    machine.next_deadline = lambda: 0.0
    swarm.hosts[1].feed(TimerFired())
    with pytest.raises(Broken, match="looks at its clock for ever"):
        swarm.world.run_for(60.0)


@pytest.mark.parametrize("where", ["in force", "on disk"])
def test_a_host_that_differs_at_the_end_is_found(where: str) -> None:
    swarm = Swarm(SettingsAgree)
    filed = swarm.carry(SET)
    swarm.world.settled()
    host = swarm.hosts[1]
    if where == "in force":
        swarm.force(host, filed.id, 6)
    else:
        host.disk.values = dict(swarm.hosts[2].disk.values)
        other = Swarm(SettingsAgree)
        host.disk.values |= other.hosts[1].disk.values
    with pytest.raises(Broken, match="the same is in force everywhere"):
        swarm.world.settled()


def test_nothing_that_is_forged_counts_for_the_referee_or_for_a_host() -> None:
    """A spoilt signature, strangers, votes of another charter, swarm or proposal, and a vote in
    somebody else's name: by hand, and for a proposal that lacks one vote."""
    swarm = Swarm(Justified)
    filed = swarm.carry(SET, votes=1)
    forged = forged_records(swarm.government, filed.id, 7)
    host = swarm.hosts[0]
    for record in forged:
        swarm.government.offer(host, record)
    swarm.world.run_for(60.0)
    assert swarm.value(host) == EXPERTS.default
    records = [*records_of(swarm.government.machine(host)), *forged]
    digest = swarm.government.machine(host).switch.state.digest
    verdict = referee_of(swarm.government, swarm.world, 1).verdict(records, digest)
    assert not verdict.passed
    assert len(verdict.matters[filed.id].votes) == 1


# --- ledgers --------------------------------------------------------------------------------------


def test_an_honest_log_that_is_doubted_is_found() -> None:
    swarm = Swarm(HonestLogsAreBelieved)
    swarm.carry(SET)
    swarm.world.run_for(180.0)
    host = swarm.hosts[1]
    swarm.world.crash(host)
    host.disk.ledger = host.disk.ledger.as_it_was(2)  # And nobody says that it was put back.
    swarm.world.start(host)
    with pytest.raises(Broken, match="an honest log raises no alarm"):
        swarm.world.run_for(180.0)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_an_old_copy_that_is_put_back_is_found(is_cut_off: bool) -> None:
    """At once, by what a neighbour shows; or, if it has grown meanwhile alone, by its witnesses."""
    swarm = Swarm(TamperingIsFound)
    swarm.carry(SET)
    swarm.world.run_for(180.0)
    host = swarm.hosts[1]
    swarm.world.crash(host)
    swarm.logs.put_back_copy(host, 2)
    assert swarm.logs.put_back[1] == {0, 2, 3}, "all the others hold more of it"
    if is_cut_off:
        swarm.world.partition([[host]])
    swarm.world.start(host)
    swarm.world.run_for(180.0)
    swarm.world.heal()
    swarm.world.run_for(400.0)
    swarm.world.settled()
    alarms = [swarm.logs.parts[n].view(0.0).alarms for n in (0, 2, 3)]
    fault = swarm.logs.parts[1].view(0.0).fault
    assert all(alarms) if is_cut_off else fault
    if not is_cut_off:
        assert "an old copy was put in its place" in fault
        swarm.carry(SetSetting(EXTRA.code, 2))
        assert host.settings.get(EXTRA) == EXTRA.default, "it puts nothing new into force"
        assert swarm.hosts[0].settings.get(EXTRA) == 2


def test_two_histories_are_found_by_a_witness_and_silence_about_them_by_the_law() -> None:
    swarm = Swarm(TamperingIsFound, forking=(3,))
    swarm.carry(SET)
    swarm.world.run_for(400.0)
    swarm.world.settled()
    liar = swarm.hosts[3].peer
    views = [swarm.logs.parts[n].view(0.0) for n in range(3)]
    assert any(liar in dict(view.alarms) for view in views)
    for number in range(3):
        swarm.logs.parts[number]._witness.alarms._alarms.clear()
    with pytest.raises(Broken, match="two histories raised no alarm"):
        swarm.world.settled()


@pytest.mark.parametrize("what", ["cosigned", "covered"])
def test_a_log_that_is_not_witnessed_is_found(what: str) -> None:
    swarm = Swarm(LogsAreWitnessed)
    swarm.carry(SET)
    swarm.world.run_for(180.0)
    swarm.world.settled()
    ledger = swarm.hosts[1].disk.ledger
    if what == "cosigned":
        ledger.cosignatures.clear()
    else:
        swarm.hosts[1].disk.ledger = grown = ledger.as_it_was(ledger.size)
        grown.leaves.append(ledger.leaves[0])  # Written long ago, and never signed.
    with pytest.raises(Broken, match="a log is signed and witnessed"):
        swarm.world.settled()


def test_a_witness_beyond_its_bounds_is_found() -> None:
    swarm = Swarm(WitnessesAreBounded)
    swarm.world.settled()
    alarms: Any = swarm.logs.parts[1]._witness.alarms._alarms
    alarms.update({f"log {number}": None for number in range(65)})
    with pytest.raises(Broken, match="alarms: 65 > 64"):
        swarm.world.settled()
