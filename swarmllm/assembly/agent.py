"""The agent of a real node, put together: its part, and the shell that does what the part wants."""

from __future__ import annotations

import random
import time

import trio

from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.store import SqliteStore
from swarmllm.core.agent.observation import Observation, observe
from swarmllm.core.agent.part import AgentPart
from swarmllm.core.agent.surroundings import Surroundings
from swarmllm.core.effects import AgentEffect
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.part import Part
from swarmllm.core.settings.holder import Settings
from swarmllm.core.validation.part import RecordingPart
from swarmllm.core.validation.snapshot import snapshot_of
from swarmllm.messages import PeerId
from swarmllm.runtime.agent.filing import Filing
from swarmllm.runtime.agent.own_figures import OwnFigures
from swarmllm.runtime.agent.performer import AgentPerformer, Experts, Validator
from swarmllm.runtime.agent.proposing import ModelProposer, SwarmProposer
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.service.agent import AgentService
from swarmllm.runtime.service.answer import Answer
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.own_expert import OwnExpert
from swarmllm.runtime.service.request import TextRequest


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


class NodeAgent:
    """`part` None: the owner has not turned it on."""

    def __init__(
        self,
        config: Config,
        machine: GovernanceMachine,
        settings: Settings,
        keyring: KeyFile,
        store: SqliteStore,
    ) -> None:
        self._machine, self._settings = machine, settings
        self._keyring = keyring
        self._performer: AgentPerformer | None = None
        self.part: AgentPart | None = None
        if config.agent:
            identity = Identity(keyring.peer, keyring.public_key, keyring.sign)
            at_zero = unix_ms() - round(1_000 * trio.current_time())
            surroundings = Surroundings(machine, settings, identity, at_zero)
            self.part = AgentPart(surroundings, store.load)

    @property
    def parts(self) -> tuple[Part, ...]:
        """For the node."""
        return () if self.part is None else (self.part,)

    def perform(self, effect: AgentEffect) -> None:
        """What the part wants; not before `open`."""
        assert self._performer is not None
        self._performer.perform(effect)

    def open(
        self,
        nursery: trio.Nursery,
        local: LocalNode,
        driver: Driver,
        recording: RecordingPart,
        own: OwnFigures,
        validator: Validator,
    ) -> None:
        """Before the driver runs."""

        def look() -> tuple[Observation, Experts]:
            view, now = local.view(), trio.current_time()
            found = observe(recording.recording(now), snapshot_of(view), own.look(now))
            near = [one for one in view.experts if one.connected or one.local]
            return found, tuple((one.peer, one.record.domains) for one in near)

        def answer(request: TextRequest, among: frozenset[PeerId] | None) -> Answer:
            return local.answer(request, among=among, is_background=True)

        filing = Filing(
            *(self._machine, self._settings, self._keyring, driver.act),
            *(trio.current_time, unix_ms),
        )
        rng = random.Random(random.SystemRandom().getrandbits(64))
        proposer = SwarmProposer(ModelProposer(answer), lambda: bool(look()[1]), rng)
        self._performer = AgentPerformer(
            *(look, proposer, validator, filing, driver.feed, nursery.start_soon)
        )

    def service(self, driver: Driver, local: LocalNode, expert: OwnExpert) -> AgentService:
        machine = self._machine
        return AgentService(driver, self.part, local.view, lambda: machine.phase, expert, unix_ms)
