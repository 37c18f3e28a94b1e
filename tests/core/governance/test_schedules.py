"""Schedules nobody would think of: votes reordered, repeated, replayed, forged; nodes partitioned,
restarted, halted, with full disks; one voter who votes both ways.

What must hold whatever happens: nothing is in force without its votes and its review, nothing new
comes into force on a halted node, nothing is enacted twice, honest peers are never blamed, and when
the partition has healed all nodes have the same settings. Cites GOV-12 to GOV-21 of
protocols/governance.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarmllm.core.governance.mandate import Tier
from swarmllm.errors import UsageError
from swarmllm.messages.governance import ClosePhase, Revert, SetBounds, SetSetting
from swarmllm.wire.codec import encode
from tests.core.governance.net import EVIL, Net
from tests.core.governance.support import (
    AGENTS,
    EXPERTS_CODE,
    EXTRA_CODE,
    HOUR,
    TERMS,
    VOTERS,
    Node,
    Switch,
    charter,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.halt.support import (
    HALTERS,
    Person,
    forged,
    founded,
    halt,
    resume,
    signed,
)

NODES = 3
EXAMPLES = 25
PHASES = tuple(Phase)
STATE = founded(charter(replace(TERMS, phase=3)))
THESE = replace(TERMS, phase=3)
REVIEW_S = 24 * HOUR
LIAR = VOTERS[2]  # He votes both ways.

which = st.integers(0, NODES - 1)
pick = st.integers(0, 10**6)
authors = st.sampled_from((*VOTERS, *AGENTS))
kinds = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4, 5))
tiers = st.sampled_from((None, None, 0, 3, 4))
values = st.integers(1, 20)
mostly = st.sampled_from((True, True, True, False))
ballots = st.lists(st.tuples(st.integers(0, 1), which, mostly), min_size=1, max_size=4)


class People(RuleBasedStateMachine):
    """Who proposes, votes, lies, halts and resumes, each at a node of his own."""

    def __init__(self) -> None:
        super().__init__()
        people = (AGENTS[0], AGENTS[1], Person("nobody"))
        self.nodes = [
            Node(f"n{at}", switch=Switch(STATE), person=people[at], terms=THESE)
            for at in range(NODES)
        ]
        self.net = Net(self.nodes)
        self.proposals: dict[bytes, bytes] = {}
        self.records: list[bytes] = []
        self.votes: dict[tuple[bytes, bytes], set[int]] = {}
        self.orders: list[bytes] = []  # Of the kill switch: the test hands them over.
        self.first_seen: dict[tuple[int, bytes], float] = {}
        self.was_live: list[set[bytes]] = [set() for _ in range(NODES)]

    def looked(self) -> None:
        """In the middle of a step, for those who keep count of what is in force."""

    @initialize(one=which, two=which, changes=st.lists(st.tuples(which, values), max_size=4))
    def begin(self, one: int, two: int, changes: list[tuple[int, int]]) -> None:
        """Some of the schedules begin with changes that are in force."""
        for at in range(NODES):
            self.net.connect(self.nodes[at], self.nodes[(at + 1) % NODES])
        for at, value in changes:
            self.propose(at, VOTERS[at], value, value % 2, None, [(0, at, True), (1, at, True)])
            self.net.flow()
            self.net.wait(3 * HOUR, flowing=True)
        self.looked()
        if one != two:
            self.net.disconnect(self.nodes[one], self.nodes[two])

    # --- people -----------------------------------------------------------------------------------

    @rule(at=which, author=authors, value=values, kind=kinds, tier=tiers, votes=ballots)
    def propose(
        self,
        at: int,
        author: Person,
        value: int,
        kind: int,
        tier: int | None,
        votes: list[tuple[int, int, bool]],
    ) -> None:
        """Somebody proposes, and some vote at once, each at a node."""
        node = self.nodes[at]
        earlier = sorted(self.proposals)
        action: Any = (
            SetSetting(EXPERTS_CODE, value),
            SetSetting(EXTRA_CODE, value % 5),
            SetSetting(EXPERTS_CODE, value + 10),
            SetBounds(EXPERTS_CODE, 1, 10 + value),
            Revert(earlier[value % len(earlier)] if earlier else bytes(32)),
            ClosePhase(value % 3),
        )[kind]
        try:
            record = node.propose(action, author, tier=tier)
        except UsageError:
            return
        id = id_of(record)
        self.proposals[id] = record
        self.publish(at, record)
        for voter, where, yes in votes:
            self.cast(where, id, VOTERS[voter], yes)

    @rule(at=which, chosen=pick, voter=st.integers(0, 1), yes=mostly)
    def vote(self, at: int, chosen: int, voter: int, yes: bool) -> None:
        known = sorted(self.nodes[at].machine.registry.cases)
        if known:
            self.cast(at, known[chosen % len(known)], VOTERS[voter], yes)

    def cast(self, at: int, id: bytes, voter: Person, yes: bool) -> None:
        """Honest voters sign once, and what a node advises that has the proposal."""
        if (id, voter.id) in self.votes:
            return
        try:
            record = self.nodes[at].vote(id, voter, yes)
        except UsageError:
            return
        self.votes[id, voter.id] = {int(yes)}
        self.publish(at, record)

    @rule(at=which, chosen=pick, yes=st.integers(0, 1))
    def lie(self, at: int, chosen: int, yes: int) -> None:
        if self.proposals:
            id = sorted(self.proposals)[chosen % len(self.proposals)]
            self.votes.setdefault((id, LIAR.id), set()).add(yes)
            self.publish(at, plain_vote(id, LIAR, yes, swarm=STATE.swarm))

    @rule(at=which, chosen=pick, by=authors)
    def withdraw(self, at: int, chosen: int, by: Person) -> None:
        if self.proposals:
            id = sorted(self.proposals)[chosen % len(self.proposals)]
            try:
                self.publish(at, self.nodes[at].withdraw(id, by))
            except UsageError:
                return

    def publish(self, at: int, record: bytes) -> None:
        self.records.append(record)
        self.nodes[at].offer(record)
        self.net.gather()

    # --- the kill switch --------------------------------------------------------------------------

    @rule(at=which)
    def halt(self, at: int) -> None:
        seq = self.nodes[at].switch.state.highs.get(HALTERS[0].id, 0) + 1
        self.order(at, halt(HALTERS[0], seq, STATE.swarm))

    @rule(at=which)
    def resume(self, at: int) -> None:
        seq = self.nodes[at].switch.state.highs.get(HALTERS[0].id, 0)
        if seq:
            self.order(at, resume({HALTERS[0]: seq}, swarm=STATE.swarm))

    @rule(at=which)
    def learn_orders(self, at: int) -> None:
        """Orders reach a node in their order."""
        for order in self.orders:
            self.give(at, order)

    def order(self, at: int, order: bytes) -> None:
        self.orders.append(order)
        self.give(at, order)

    def give(self, at: int, order: bytes) -> None:
        from tests.core.halt.support import feed

        switch = self.nodes[at].switch
        switch.state = feed(switch.state, order)
        self.nodes[at].look()
        self.net.gather()


class Swarm(People):
    """And what the world and attackers do meanwhile."""

    # --- the world --------------------------------------------------------------------------------

    @rule(one=which, two=which, frames=st.integers(1, 6))
    def deliver(self, one: int, two: int, frames: int) -> None:
        for _ in range(frames):
            self.net.deliver(self.nodes[one].peer, self.nodes[two].peer)

    @rule(chosen=pick, twice=st.booleans())
    def gossip(self, chosen: int, twice: bool) -> None:
        """Any gossip under way arrives, out of order, perhaps twice."""
        if self.net.gossip:
            sender, receiver, record = self.net.gossip.pop(chosen % len(self.net.gossip))
            for _ in range(1 + twice):
                self.net.hear(self.net.by_peer[receiver], sender, record)

    @rule()
    def flow(self) -> None:
        self.net.flow()

    @rule(one=which, two=which)
    def partition(self, one: int, two: int) -> None:
        self.net.disconnect(self.nodes[one], self.nodes[two])

    @rule(one=which, two=which)
    def heal(self, one: int, two: int) -> None:
        self.net.connect(self.nodes[one], self.nodes[two])

    @rule(seconds=st.sampled_from((1.0, 600.0, 2 * HOUR, 25 * HOUR, 60 * HOUR)))
    def wait(self, seconds: float) -> None:
        self.net.wait(seconds)

    @rule(at=which, same_boot=st.booleans())
    def kill(self, at: int, same_boot: bool) -> None:
        self.net.restart(self.nodes[at], same_boot=same_boot)

    @rule(at=which, is_full=st.booleans())
    def fill_disk(self, at: int, is_full: bool) -> None:
        self.nodes[at].disk.is_full = is_full

    # --- attackers --------------------------------------------------------------------------------

    @rule(at=which, chosen=pick)
    def replay(self, at: int, chosen: int) -> None:
        if self.records:
            self.net.hear(self.nodes[at], EVIL, self.records[chosen % len(self.records)])

    @rule(at=which, chosen=pick, kind=st.integers(0, 4), by=authors)
    def forge(self, at: int, chosen: int, kind: int, by: Person) -> None:
        """Whatever can be made without the keys of two voters."""
        ids = sorted(self.proposals) or [bytes(32)]
        id = ids[chosen % len(ids)]
        stranger = Person("stranger")
        made = plain_proposal(SetSetting(EXPERTS_CODE, 16), by, swarm=STATE.swarm)
        vote: Any = plain_vote(id, stranger, swarm=STATE.swarm)
        data = (
            forged(made, by),
            vote,
            signed(made, stranger),
            plain_vote(id, VOTERS[0], swarm=bytes(32)),
            encode(THESE),
        )[kind]
        self.net.hear(self.nodes[at], EVIL, data)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_is_in_force_without_its_votes_and_its_review(self) -> None:
        seen_before = set(self.first_seen)  # Of others it is not known here for how long.
        for at, node in enumerate(self.nodes):
            for id in node.machine.registry.cases:
                self.first_seen.setdefault((at, id), self.net.true_s)
            for id in self.live(node):
                tier = self.tier(node, id)
                yes = sum(said == {1} for (one, _), said in self.votes.items() if one == id)
                could = sum(1 in said for (one, _), said in self.votes.items() if one == id)
                assert yes >= 2 or could >= 2, f"{yes} votes"
                if tier is Tier.DEPLOY_MAJOR and (at, id) in seen_before:
                    waited = self.net.true_s - self.first_seen[at, id]
                    assert waited >= REVIEW_S - 1, f"a review of {waited} s"

    def looked(self) -> None:
        self.a_halted_node_enacts_nothing()

    @invariant()
    def a_halted_node_enacts_nothing(self) -> None:
        for at, node in enumerate(self.nodes):
            live = self.live(node)
            if node.switch.halted:
                assert live <= self.was_live[at], "in force for the first time while halted"
            else:  # What came and went since the last look stands in the journal.
                entries = node.machine.changes.journal.entries
                live |= {entry.proposal for entry in entries if not entry.taken_back}
            self.was_live[at] |= live

    @invariant()
    def nothing_is_enacted_twice(self) -> None:
        for node in self.nodes:
            in_force: dict[str, tuple[bytes, str]] = {}
            for entry in node.machine.changes.journal.entries:
                if entry.taken_back:
                    in_force.pop(entry.what, None)
                else:
                    assert in_force.get(entry.what) != (entry.proposal, entry.new)
                    in_force[entry.what] = (entry.proposal, entry.new)

    @invariant()
    def honest_peers_are_not_blamed_and_authors_are_bounded(self) -> None:
        for node in self.nodes:
            assert all(peer == EVIL for peer, _ in node.penalised), node.penalised
            outcome = node.machine.outcome
            assert outcome is not None
            held: dict[bytes, int] = {}
            for id, case in node.machine.registry.cases.items():
                standing = outcome.standings[id]
                if not standing.passed and not standing.is_withdrawn:
                    held[case.proposal.author] = held.get(case.proposal.author, 0) + 1
            # Votes that void each other open a case again that had passed.
            assert all(count <= 4 + len(self.votes) for count in held.values())

    def live(self, node: Node) -> set[bytes]:
        return {id for id, _ in node.machine.changes.live.values() if id}

    def tier(self, node: Node, id: bytes) -> Tier:
        assert node.machine.outcome is not None
        standing = node.machine.outcome.standings.get(id)
        # Bounds may have moved since: then it was minor when it came into force.
        return Tier.DEPLOY_MINOR if standing is None else Tier(self.proposed_tier(node, id))

    def proposed_tier(self, node: Node, id: bytes) -> int:
        case = node.machine.registry.cases[id]
        return 4 if case.proposal.tier == 4 or isinstance(case.action, SetBounds) else 3

    def teardown(self) -> None:
        """After the partition heals all agree, whatever came before."""
        for at, node in enumerate(self.nodes):
            node.disk.is_full = False
            self.learn_orders(at)
        for at in range(NODES):
            self.heal(at, (at + 1) % NODES)
        self.net.flow()
        self.net.wait(4 * HOUR, flowing=True, step_s=300.0)
        self.net.wait(60 * HOUR, flowing=True)
        self.nothing_is_in_force_without_its_votes_and_its_review()
        self.a_halted_node_enacts_nothing()
        self.nothing_is_enacted_twice()
        if self.nodes[0].switch.halted:
            for at in range(NODES):
                self.resume(0)
                self.learn_orders(at)
            self.net.wait(60 * HOUR, flowing=True)
        first, *others = self.nodes
        for other in others:
            assert other.machine.changes.live == first.machine.changes.live, "they never agree"
            assert other.settings.changed_from_default() == first.settings.changed_from_default()
            assert other.machine.phase == first.machine.phase
        for node in self.nodes:
            before = dict(node.machine.changes.live)
            node.boot()
            assert node.machine.changes.live == before, "it would not survive a restart"


TestSwarm = Swarm.TestCase
TestSwarm.settings = settings(
    max_examples=EXAMPLES,
    phases=PHASES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
