"""Governance in a world: each host runs the real governance part beside all else, and voters and
agents with real keys propose, vote and withdraw through whatever host is at hand.

`part` puts the part together as `runtime.governing` does for a node, with the host's disk, kill
switch and settings. People are no hosts: they go to one, as with a laptop, and what they sign there
spreads or does not. `signed` keeps everything that was really signed by somebody, for laws and for
whoever plays it back.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from swarmllm.core.effects import RecordChecked
from swarmllm.core.governance.authoring import ballot, draft, withdrawal
from swarmllm.core.governance.book import Taken
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.changes import Changes
from swarmllm.core.governance.clocks import Uptime
from swarmllm.core.governance.machine import GovernanceMachine, Options
from swarmllm.core.governance.mandate import naming
from swarmllm.core.governance.part import GovernancePart
from swarmllm.core.governance.steering import SettingsSteering
from swarmllm.core.governance.tiers import Action
from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import UsageError
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import NO_BASE, GovernanceTerms, Proposal, Vote
from swarmllm.testing.operators import Founders, Operator
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

REPORT: Final = b"\7" * 32  # The digest of a validation report, which nobody looks into.


@dataclass(frozen=True, slots=True)
class Filed:
    """A proposal that somebody signed: its id, who it is by, and the record."""

    id: bytes
    proposal: Proposal
    author: Operator
    record: bytes


@dataclass(frozen=True, slots=True)
class Era:
    """Who decides under one charter, and by which terms."""

    version: int
    voters: Sequence[Operator]
    agents: Sequence[Operator]
    terms: GovernanceTerms


class Government:
    """`voters` are people, `agents` the operators of hosts (their keys are those of the hosts with
    these numbers). `unwilling` are hosts whose owner lets them be no canary. `eras` has an entry
    for each charter; `leapt_s` is how far the own clock of a host went on while it was down."""

    def __init__(
        self,
        name: str,
        electorate: int,
        agent_hosts: Sequence[int],
        terms: GovernanceTerms,
        unwilling: frozenset[int] = frozenset(),
    ) -> None:
        self.voters = [Operator(f"{name} voter {i}") for i in range(electorate)]
        self.agents = [Operator(f"host {number}") for number in agent_hosts]
        self.agent_hosts = tuple(agent_hosts)
        self.terms = terms
        self.eras = {1: Era(1, self.voters, self.agents, terms)}
        self.leapt_s: dict[int, float] = {}
        self.unwilling = unwilling
        self.founders = Founders(
            name, voter=[one.public_key for one in self.voters], ext=naming(terms)
        )
        self.parts: dict[int, GovernancePart] = {}
        self.filed: list[Filed] = []
        self.signed: list[bytes] = []

    # --- hosts ------------------------------------------------------------------------------------

    def part(self, host: Host) -> tuple[GovernancePart, ...]:
        """For `World(parts=...)`: the host starts, with what its disk holds."""
        assert host.key is not None
        assert host.halt_machine is not None
        now = host.clock()
        host.disk.machine_started.setdefault(host.boots, now)
        machine = GovernanceMachine(
            host.halt_machine,
            Identity(host.peer, host.key.public_key, host.key.sign),
            BY_CODE,
            Changes(SettingsSteering(host.settings), BY_CODE),
            host.world.verify,
            random.Random(f"{host.world.seed} {host.number} {host.life} governance"),
            host.disk.values.get,
            Options(
                canary=host.number not in self.unwilling,
                unix_ms_at_zero=host.boot_ms - round(1000 * now),
                uptime=Uptime(b"boot %d" % host.boots, -host.disk.machine_started[host.boots]),
            ),
        )
        self.parts[host.number] = GovernancePart(machine)
        return (self.parts[host.number],)

    def leap(self, host: Host, seconds: float) -> None:
        """The process of this host was down for so long, while its machine was up."""
        started = host.disk.machine_started
        if host.boots in started:
            started[host.boots] -= seconds
            self.leapt_s[host.number] = self.leapt_s.get(host.number, 0.0) + seconds

    def rotate(
        self, lifts: dict[int, int], voters: Sequence[Operator], terms: GovernanceTerms
    ) -> bytes:
        """The next charter, as root signs it: from now on these decide."""
        version = max(self.eras) + 1
        self.voters, self.terms = list(voters), terms
        self.eras[version] = Era(version, self.voters, self.agents, terms)
        keys = [one.public_key for one in voters]
        return self.founders.rotate(lifts, voter=keys, ext=naming(terms))

    def machine(self, host: Host) -> GovernanceMachine:
        return self.parts[host.number].machine

    def cases(self, host: Host) -> list[Case]:
        return list(self.machine(host).registry.cases.values())

    def may_act(self, host: Host) -> bool:
        """Whether somebody can do anything of governance at this host."""
        return host.alive and not host.frozen and self.machine(host).mandate is not None

    def has(self, host: Host, id: bytes) -> bool:
        """Whether somebody at this host can see the proposal."""
        return self.may_act(host) and id in self.machine(host).registry.cases

    # --- people -----------------------------------------------------------------------------------

    def offer(self, host: Host, record: bytes) -> bool:
        """By hand. Whether the host took it, and found something new in it."""
        checked: RecordChecked | None = host.offer(record, None, GOV)
        return checked is not None and isinstance(checked.outcome, Taken) and checked.passes

    def tell_terms(self, host: Host) -> None:
        """Whoever has the charter has the terms that it names."""
        self.offer(host, encode(self.terms))

    def propose(
        self,
        host: Host,
        author: Operator,
        action: Action,
        *,
        tier: int | None = None,
        has_evidence: bool = True,
        drafted_for: Operator | None = None,
    ) -> Filed | None:
        """What this host drafts, signed and offered to it; None if it would not. `drafted_for`:
        the author makes his own of what the host drafts for somebody else."""
        try:
            drafted = draft(
                self.machine(host),
                action,
                (drafted_for or author).public_key,
                now=host.clock(),
                unix_ms=host.boot_ms,
                evidence=REPORT if has_evidence else bytes(32),
                tier=tier,
            )
        except UsageError:
            return None
        return self.file(host, author, replace(drafted, author=author.id))

    def undrafted(
        self, host: Host, author: Operator, action: bytes, *, seq: int = 1, tier: int = 3
    ) -> Proposal:
        """A proposal that no host has drafted."""
        digest = self.machine(host).switch.state.digest
        return Proposal(
            *(self.founders.swarm, 1, author.id, seq, tier, action),
            *(NO_BASE, 1, digest, REPORT, "", 0),
        )

    def file(self, host: Host, author: Operator, proposal: Proposal) -> Filed | None:
        """One that may be drafted by nobody; None if the host has no room for it."""
        filed = Filed(
            sha256(encode(proposal)).digest(), proposal, author, self.sign(author, proposal)
        )
        if not self.offer(host, filed.record):
            return None
        self.filed.append(filed)
        return filed

    def vote(self, host: Host, voter: Operator, id: bytes, *, yes: bool = True) -> bytes | None:
        """As this host would have it voted; None if it would not."""
        try:
            found = ballot(self.machine(host), id, voter.public_key, yes, host.boot_ms)
        except UsageError:
            return None
        record = self.sign(voter, found)
        self.offer(host, record)
        return record

    def plain_vote(self, voter: Operator, id: bytes, *, yes: bool = True) -> bytes:
        """Whatever any host thinks of it."""
        return self.sign(voter, Vote(self.founders.swarm, 1, id, voter.id, int(yes), 0))

    def withdraw(self, host: Host, key: Operator, id: bytes) -> None:
        try:
            found = withdrawal(self.machine(host), id, key.public_key, host.boot_ms)
        except UsageError:
            return
        self.offer(host, self.sign(key, found))

    def sign(self, person: Operator, record: object) -> bytes:
        signed = sign_record(record, [(person.public_key, person.sign)])
        self.signed.append(signed)
        return signed
