"""One swarm on two networks that never met: each half writes, votes, halts and resumes by itself,
and one address makes them one swarm."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from swarmllm.core.governance.mandate import DEFAULTS
from swarmllm.core.halt.state import Applied
from swarmllm.core.node import NodeConfig
from swarmllm.core.settings.table import EXTRA
from swarmllm.core.values import GenerateRequest
from swarmllm.messages.governance import Proposal, SetSetting, Vote
from swarmllm.testing.world import VOCABULARY, Host, Spec, World
from swarmllm.testing.world.governance_laws import governance_laws
from swarmllm.testing.world.government import Filed, Government
from swarmllm.testing.world.laws import all_laws
from swarmllm.testing.world.run import SETTLE_S
from swarmllm.testing.world.witness_laws import WITNESS_LAWS
from swarmllm.testing.world.witnesses import Logs
from swarmllm.testing.world.world import FINGERPRINT

EACH: Final = 5  # Hosts of each half.
MIXED_S: Final = 10.0
# Nobody finds anybody but by addresses that peers have: two networks have no DHT in common.
ALONE: Final = NodeConfig(FINGERPRINT, look_up_below=0)
TERMS: Final = replace(DEFAULTS, review_h=1, canary_permille=0, phase_experts=(0, 1, 1, 2))


class Islands:
    def __init__(self, seed: int, each: int = EACH) -> None:
        self.government = Government(f"islands {seed}", 3, (), TERMS)
        self.logs = Logs()
        laws = (*all_laws(), *governance_laws(self.government))
        self.world = World(
            seed,
            config=ALONE,
            founders=self.government.founders,
            named_by_keys=True,
            parts=lambda host: (*self.government.part(host), self.logs.part(host)),
            checkers=(*laws, *(law(self.logs) for law in WITNESS_LAWS)),
        )
        hosts = [self.world.add(Spec(model=i % 3), starts=False) for i in range(2 * each)]
        self.west, self.east = hosts[:each], hosts[each:]
        self.world.partition([self.west, self.east])
        for half in (self.west, self.east):
            for host in half:
                self.world.start(host, introduced=0)
                if host is not half[0]:
                    self.world.introduce(host, half[0])
        self.run(30.0)
        for half in (self.west, self.east):
            self.government.tell_terms(half[0])

    @property
    def hosts(self) -> list[Host]:
        return [*self.west, *self.east]

    def run(self, seconds: float) -> None:
        self.world.run_for(seconds)

    def writes(self, host: Host) -> str:
        """How an answer at this host ends."""
        order = GenerateRequest((1, 2, 3), k=3, max_tokens=8, vocab_size=VOCABULARY)
        answer = self.world.ask(host, order)
        self.world.run_for(60.0, lambda: bool(answer.ends))
        assert answer.end is not None
        return answer.end.reason

    def votes(self, half: list[Host], setting: int, value: int, voters: slice) -> Filed:
        """Something is proposed on one side, and some vote there."""
        author = self.government.voters[voters][0]
        filed = self.government.propose(half[0], author, SetSetting(setting, value))
        assert filed is not None
        self.run(10.0)
        for voter in self.government.voters[voters]:
            self.government.vote(half[-1], voter, filed.id)
        self.run(30.0)
        return filed

    def bridge(self) -> None:
        """The cut is over, and one host is told of one on the other side."""
        self.world.heal()
        self.world.introduce(self.west[1], self.east[1])

    def are_mixed(self) -> bool:
        """Whether each host could ask an expert of the other half now."""
        return all(
            any(one.connected and one.peer in {other.peer for other in others} for one in experts)
            for half, others in ((self.west, self.east), (self.east, self.west))
            for host in half
            for experts in [host.node.view(host.clock()).experts]
        )

    def settles(self) -> None:
        """What the laws say of the end."""
        self.run(SETTLE_S)
        self.world.settled()

    def kept(self, before: dict[int, tuple[int, bytes]], proposals: set[bytes]) -> None:
        """All hold the same orders, the proposals and all votes of both halves, and each the ledger
        that it had."""
        assert len({host.halt_machine.digest for host in self.hosts if host.halt_machine}) == 1
        for host in self.hosts:
            cases = self.government.machine(host).registry.cases
            assert proposals <= cases.keys()
            said = [kind for id in proposals for kind, *_ in cases[id].says]
            assert (said.count(Proposal), said.count(Vote)) == (2, 3)
            size, root = before[host.number]
            assert host.disk.ledger.root_at(size) == root

    def logs_of_all(self) -> dict[int, tuple[int, bytes]]:
        """How many entries each ledger has, and the root of all of them."""
        ledgers = {host.number: host.disk.ledger for host in self.hosts}
        return {number: (ledger.size, ledger.root) for number, ledger in ledgers.items()}


def test_two_halves_that_never_met_become_one_swarm_and_nothing_of_either_is_lost() -> None:
    swarm = Islands(1)
    west, east = swarm.west, swarm.east
    assert swarm.writes(west[2]) == swarm.writes(east[2]) == "length"
    founders = swarm.government.founders
    assert isinstance(swarm.world.publish(west[3], founders.halt(1)), Applied)
    swarm.run(5.0)
    assert swarm.writes(west[0]) != "length"
    assert swarm.writes(east[0]) == "length"
    assert isinstance(swarm.world.publish(west[4], founders.resume({0: 1})), Applied)
    swarm.run(5.0)
    passed = swarm.votes(west, EXTRA.code, 3, slice(0, 2))
    pending = swarm.votes(east, EXTRA.code, 2, slice(2, 3))
    swarm.run(1.1 * 3_600.0)  # The review of what passed is over.
    assert [host.settings.get(EXTRA) for host in (west[0], east[0])] == [3, EXTRA.default]
    before, heard = swarm.logs_of_all(), len(swarm.world.halts_heard)

    swarm.bridge()
    swarm.world.run_for(MIXED_S, swarm.are_mixed)
    assert swarm.are_mixed()
    assert swarm.writes(west[0]) == swarm.writes(east[0]) == "length"
    swarm.run(120.0)
    swarm.kept(before, {passed.id, pending.id})
    assert {host.settings.get(EXTRA) for host in swarm.hosts} == {3}
    # What is lifted stops nobody, though those in the east hear of both orders only now.
    assert {host.peer for _, host in swarm.world.halts_heard[heard:]} <= {h.peer for h in east}
    assert not any(host.is_halted for host in swarm.hosts)
    swarm.settles()


def test_an_order_of_one_half_reaches_the_other_with_the_first_address() -> None:
    swarm = Islands(2)
    founders = swarm.government.founders
    swarm.world.publish(swarm.west[0], founders.halt(1))
    swarm.run(5.0)
    assert [host.is_halted for host in swarm.hosts] == [True] * EACH + [False] * EACH
    swarm.bridge()
    swarm.run(5.0)
    assert all(host.is_halted for host in swarm.hosts)
    swarm.world.publish(swarm.east[0], founders.resume({0: 1}))
    swarm.run(5.0)
    assert not any(host.is_halted for host in swarm.hosts)
    swarm.settles()


@pytest.mark.parametrize("cut_s", [60.0, 600.0])
def test_halves_that_knew_each_other_mix_as_soon_as_one_address_joins_them(cut_s: float) -> None:
    """All have dialled in vain for minutes, and would go on to wait for their backoffs: 66 to 155 s
    until the last one was mixed in, after a cut of five minutes."""
    swarm = Islands(3)
    swarm.bridge()
    swarm.run(30.0)
    assert swarm.are_mixed()
    swarm.world.partition([swarm.west, swarm.east])
    swarm.run(cut_s)
    swarm.bridge()
    swarm.world.run_for(MIXED_S, swarm.are_mixed)
    assert swarm.are_mixed()
