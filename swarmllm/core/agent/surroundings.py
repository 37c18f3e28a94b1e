"""What a node's agent sees around it: what the charter grants, whose turn it is, and which settings
it may change. All of it is read anew each time; nothing here is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarmllm.core.agent.charter import Grant, grant_in
from swarmllm.core.agent.domains import domain_of_setting
from swarmllm.core.agent.subsets import runner_of
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.view import state_of
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.messages import PeerId, Range
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.signed import key_id


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`identity` is the node's own; `unix_ms_at_zero` is the wall clock where `now` is 0: by it the
    nodes agree whose turn it is."""

    machine: GovernanceMachine
    settings: Settings
    identity: Identity
    unix_ms_at_zero: int

    @property
    def grant(self) -> Grant:
        mandate = self.machine.mandate
        return grant_in(b"" if mandate is None else mandate.terms.ext)

    @property
    def is_halted(self) -> bool:
        return bool(self.machine.switch.halted)

    @property
    def may_sign(self) -> bool:
        """Whether what this node proposes counts."""
        mandate = self.machine.mandate
        return mandate is not None and key_id(self.identity.public_key) in mandate.keys

    @property
    def obstacle(self) -> str:
        """Why no cycle goes on, or none could come to anything; empty if it can."""
        if self.machine.obstacle:
            return self.machine.obstacle
        if not self.may_sign:
            return (
                "this node's key is neither an agent nor a voter of the charter, so it can file"
                " nothing; name it with `charter rotate --agent`"
            )
        return "" if self.machine.phase else "in phase 0 the agent only observes"

    def is_runner(self, domain: str, now: float) -> bool:
        """Among the nodes whose keys may propose and that are known here, one runs the cycles of a
        domain in an epoch."""
        mandate, own = self.machine.mandate, self.identity
        if mandate is None or not self.may_sign:
            return False
        known = set(self.machine.census.peers(now))
        keys = [key for key in mandate.keys.values() if key != own.public_key]
        nodes: set[PeerId] = {own.peer, *({peer_id_of(key) for key in keys} & known)}
        return runner_of(self.epoch(now), domain, nodes) == own.peer

    def epoch(self, now: float) -> int:
        return self.unix_ms(now) // (60_000 * self.grant.interval_min)

    def unix_ms(self, now: float) -> int:
        return max(0, self.unix_ms_at_zero + round(1_000 * now))

    def values(self) -> Mapping[Setting[Any], int]:
        """What the swarm has set."""
        return {setting: self.settings.get(setting) for setting in SETTINGS.values()}

    def bounds(self, domain: str) -> Mapping[Setting[Any], Range]:
        """Of the settings that are this domain's."""
        return {
            setting: self.settings.bounds(setting)
            for setting in SETTINGS.values()
            if setting.owner == "agent" and domain_of_setting(setting) == domain
        }

    def state_of(self, proposal: bytes) -> str:
        """Empty without one."""
        return state_of(self.machine, proposal) if proposal else ""
