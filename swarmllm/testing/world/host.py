"""One machine of the world: the real `Node` with its kill switch, a simulated engine, a disk, and
the shell that the driver is in life.

Whatever is decided here is decided by `core.node.Node`, through `handle` and `next_deadline`; its
effects are performed by `testing.world.effects`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.effects import Persist, RecordChecked
from swarmllm.core.halt.charter import private_charter
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import Outcome
from swarmllm.core.halt.state_file import load, pack_genesis
from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    Input,
    Persisted,
    RecordOffered,
    Scored,
    TimerFired,
    Woke,
)
from swarmllm.core.node import Node
from swarmllm.core.peers.dialling import load_saved
from swarmllm.core.peers.liveness import SLEPT_S
from swarmllm.core.peers.saving import SAVED_PEERS
from swarmllm.core.peers.strikes import Strikes
from swarmllm.core.settings.holder import Settings
from swarmllm.core.shell import EffectQueue
from swarmllm.core.trust.audits import Trust
from swarmllm.core.trust.findings import ACCOUNTS
from swarmllm.core.trust.keeping import RECORDS, unpack
from swarmllm.core.trust.reputation import Reputation
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.core.values import EngineLoad
from swarmllm.messages import HALT, ExpertReply, PeerId
from swarmllm.testing.operators import Operator
from swarmllm.testing.world.disk import Disk
from swarmllm.testing.world.effects import PERFORM
from swarmllm.testing.world.engine import SimEngine
from swarmllm.testing.world.ledger import open_ledger
from swarmllm.testing.world.links import Place
from swarmllm.testing.world.network import Connection
from swarmllm.testing.world.roles import Answer, Behaviour, Spec
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.signed import sign_record

if TYPE_CHECKING:
    from swarmllm.testing.world.world import World

EPOCH_MS: Final = 1_800_000_000_000  # The wall clock when a world begins.


class Host:
    """`life` counts its starts: what was planned for an earlier life is void."""

    def __init__(
        self, world: World, number: int, spec: Spec, place: Place, behaviour: Behaviour
    ) -> None:
        self.world = world
        self.number = number
        self.spec = spec
        self.place = place
        self.behaviour = behaviour
        self.addrs = (f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/7339",)
        self.key = Operator(f"host {number}") if world.halts else None
        self.peer = PeerId(f"n{number:06}")
        if world.named_by_keys:
            assert self.key is not None
            self.peer = peer_id_of(self.key.public_key)
        self.private = b""  # Its own charter, signed; made at the first start.
        self.disk = Disk()
        self.life = 0
        self.boots = 0  # Of the machine: a process that died is started without one.
        self.alive = False
        self.machine_up = False
        self.frozen = False
        self.silent_since = -1.0
        self.effects = EffectQueue(is_halted=False)
        self.started_at = 0.0
        self.boot_ms = 0  # On its wall clock.
        self.booted_at = 0.0  # The same on its own clock.
        self.thawed_at = -1.0
        self.died_at = -1.0
        self.halted_at = -1.0  # When the flag was last set; negative: never.
        self.connections: dict[PeerId, Connection] = {}
        self.mesh: dict[PeerId, None] = {}
        self.seen: dict[bytes, None] = {}
        self.backlog: list[Callable[[], None]] = []  # What has come while it was frozen.
        self.answers: dict[int, Answer] = {}
        self.penalised: list[tuple[PeerId, str]] = []
        self.reverted: list[int] = []
        self.bytes_sent = 0
        self.bytes_of_records = 0  # Of these, for the exchange of capacity records.
        self.node: Node
        self.settings: Settings
        self.channels: tuple[str, ...] = ()  # The kill switch's, and those of further parts.
        self.halt_machine: HaltMachine | None = None
        self.reputation = Reputation()  # Of a world with audits.
        self.engine: SimEngine | None = None
        self.ledger_fault = ""  # Why nothing more is written into its ledger, in this life.
        self._strikes = Strikes()
        self._timer_at = float("inf")
        self._at_least = 0.0
        self._offers = 0

    def __repr__(self) -> str:
        return f"<{self.peer}>"

    @property
    def is_halted(self) -> bool:
        """Whether the shared flag is set."""
        return self.effects.is_halted

    @property
    def has_halt_stream(self) -> bool:
        return self.halt_machine is not None

    def clock(self) -> float:
        """Its own time: the world's, seen through its drift. Never short of a deadline whose tick
        has come, whatever rounding does."""
        now = self.world.event_queue.now * self.spec.drift
        return now if now > self._at_least else self._at_least

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """The process starts: kill switch first, from the disk, then the node, then everything
        else."""
        world, spec = self.world, self.spec
        for checker in world.checkers:
            checker.starting(self)
        self.life += 1
        self.boots += not self.machine_up
        self.alive = self.machine_up = True
        self.frozen, self.silent_since = False, -1.0
        self.started_at, self.booted_at = world.event_queue.now, self.clock()
        self.backlog, self.seen, self._strikes = [], {}, Strikes()
        self._timer_at = float("inf")
        rng = random.Random(f"{world.seed} {self.number} {self.life}")
        unix_ms = EPOCH_MS + round(1000 * (world.event_queue.now + spec.skew_s))
        self.boot_ms = unix_ms
        self.engine = None
        self.effects = EffectQueue(is_halted=world.halts)
        self.ledger_fault = ""
        self._checked: dict[int, RecordChecked] = {}
        self.halt_machine = self._boot_halt_machine(rng, unix_ms) if world.halts else None
        sealing = self.behaviour.sealing(self, world.sealing.of(self.peer))
        # What the swarm has set meanwhile, its own parts bring back from its disk.
        self.settings = Settings(spec.pins, world.settings)
        parts = world.parts(self)
        own = (HALT,) if self.has_halt_stream else ()
        self.channels = (*own, *(part.channel for part in parts if part.channel))
        self.node = Node(
            *(world.config, self.peer, unix_ms, rng, sealing, self.halt_machine, parts),
            self.settings,
            *((_track_records(self, unix_ms), _trust(self, unix_ms)) if world.audits else ()),
        )
        open_ledger(self, world.event_queue)
        self.receive(AddressesChanged(self.addrs))
        saved = self.disk.values.get(SAVED_PEERS)
        for peer, addrs in load_saved(saved) if saved is not None else ():
            self.receive(AddressesFound(peer, addrs, "saved"))
        if spec.model is not None:
            self.world.event_queue.after(spec.load_s, self._loaded, self.life)
        self.behaviour.begin(self)

    def _boot_halt_machine(self, rng: random.Random, unix_ms: int) -> HaltMachine:
        """As `runtime.booting.boot`."""
        key, founders, disk = self.key, self.world.founders, self.disk
        assert key is not None
        self.private = self.private or sign_record(
            private_charter(key.public_key), [(key.public_key, key.sign)]
        )
        found = load(disk.first, disk.second, disk.genesis, self.private, founders.swarm)
        halt_machine = HaltMachine(
            found, key.public_key, self.world.verify, rng, unix_ms - round(1000 * self.clock())
        )
        self.halt_machine = halt_machine
        self._boot_effects(halt_machine.start(self.clock()))
        self._boot_effects(halt_machine.handle(RecordOffered(0, founders.charter), self.clock()))
        return halt_machine

    def _boot_effects(self, effects: Any) -> None:
        for effect in self.effects.overtake(effects):
            if isinstance(effect, Persist):
                ok = self.disk.write_now(effect.data, pack_genesis(self.world.founders.swarm))
                assert self.halt_machine is not None
                self._boot_effects(
                    self.halt_machine.handle(Persisted(effect.number, ok), self.clock())
                )
            elif not isinstance(effect, RecordChecked):
                PERFORM[type(effect)](self, effect)

    def _loaded(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        spec = self.spec
        assert spec.model is not None
        model = self.world.model(spec)
        done, changed = self._scored(life), self._load_changed(life)
        self.engine = SimEngine(
            self.world.event_queue, model, spec.service, done, changed, self.peer
        )
        if self.is_halted:
            self.engine.stop()
        self.receive(EngineReady(model.card, self.engine.load))

    def lose_engine(self) -> None:
        """Its worker process dies; what it was asked is refused, and then the node is told."""
        if self.engine is not None and not self.engine.is_down:
            self.engine.fail()
            self.world.event_queue.after(
                0.0, self.receive_if, self.life, EngineLost("the worker was killed")
            )

    def regain_engine(self) -> None:
        """Another worker has started and loaded its model."""
        if self.engine is not None and self.engine.is_down:
            self.engine.revive()
            ready = EngineReady(self.engine.model.card, self.engine.load)
            # Behind the loss, should both be of one moment.
            self.world.event_queue.after(0.0, self.receive_if, self.life, ready)

    def _scored(self, life: int) -> Callable[[int, ExpertReply], None]:
        def scored(order: int, reply: ExpertReply) -> None:
            if life == self.life:
                self.receive(Scored(order, reply))

        return scored

    def _load_changed(self, life: int) -> Callable[[EngineLoad], None]:
        def changed(load: EngineLoad) -> None:
            if life == self.life:
                # Not at once: this may happen in the middle of performing effects, and inputs never
                # nest.
                self.world.event_queue.after(0.0, self.receive_if, life, EngineLoadChanged(load))

        return changed

    def die(self) -> None:
        """As by SIGKILL: memory is gone, the disk stays as it is."""
        self.life += 1
        self.alive = False
        self.died_at = self.world.event_queue.now
        self.frozen, self.silent_since = False, -1.0
        self.engine, self.backlog = None, []

    # --- inputs -----------------------------------------------------------------------------------

    def receive(self, event: Input) -> None:
        """Now, or when it thaws."""
        if self.frozen:
            self.backlog.append(partial(self.feed, event))
        elif self.alive:
            self.feed(event)

    def receive_if(self, life: int, event: Input) -> None:
        if life == self.life:
            self.receive(event)

    feed_if = receive_if

    def feed(self, event: Input) -> None:
        """Handle an input, perform its effects, and plan the next look at the clock."""
        world = self.world
        effects = self.node.handle(event, self.clock())
        if world.recorder is not None:
            world.recorder.step(world.event_queue.now, self, event, effects)
        for checker in world.checkers:
            checker.decided(self, event, effects)
        self.effects.put(effects)
        for effect in self.effects.take():
            PERFORM[type(effect)](self, effect)
        deadline = self.node.next_deadline()
        if deadline < self._timer_at:
            self._plan(max(deadline, self.clock()))
        for checker in world.checkers:
            checker.stepped(self, event)

    def _plan(self, deadline: float) -> None:
        self._timer_at = deadline
        self.world.event_queue.at(deadline / self.spec.drift, self._tick, self.life, deadline)

    def _tick(self, life: int, deadline: float) -> None:
        """An earlier deadline may have come up meanwhile, with a tick of its own; a later one is
        planned anew."""
        if life != self.life or deadline != self._timer_at:
            return
        self._timer_at = float("inf")
        self._at_least = min(deadline, self.world.event_queue.now * self.spec.drift + 1e-6)
        if self.frozen:
            return  # It looks at its clock when it thaws.
        wanted = self.node.next_deadline()
        if wanted <= self.clock():
            self.feed(TimerFired())
        elif wanted < float("inf"):
            self._plan(wanted)

    def hear(self, forwarder: PeerId, record: bytes, channel: str) -> bool:
        """The validator of a channel's topic: whether to pass it on."""
        if not self.alive:
            return False
        if self.frozen:
            self.backlog.append(partial(self._hear_late, forwarder, record, channel))
            return False
        checked = self.offer(record, forwarder, channel)
        return checked is not None and checked.passes and self.behaviour.relays(self)

    def _hear_late(self, forwarder: PeerId, record: bytes, channel: str) -> None:
        if self.hear(forwarder, record, channel):
            self.world.network.gossip(self, record, forwarder, channel)

    def import_record(self, record: bytes) -> Outcome | None:
        """An operator's order through this node."""
        checked = self.offer(record, None)
        outcome = None if checked is None else checked.outcome
        assert outcome is None or isinstance(outcome, Outcome)
        return outcome

    def offer(
        self, record: bytes, forwarder: PeerId | None, channel: str = HALT
    ) -> RecordChecked | None:
        """A record of a channel, by gossip or by hand; None while the node holds inputs back."""
        check = self._offers = self._offers + 1
        self.feed(RecordOffered(check, record, forwarder, channel))
        return self._checked.pop(check, None)

    def checked(self, effect: RecordChecked) -> None:
        """The answer to what was offered."""
        self._checked[effect.check] = effect

    def freeze(self) -> None:
        """As by SIGSTOP: nothing is done, and nobody is told."""
        assert self.alive
        assert not self.frozen
        self.frozen = True
        self.silent_since = self.world.event_queue.now

    def thaw(self) -> None:
        """As by SIGCONT: what has come meanwhile is handled, in order; after a long absence the
        node hears of that first."""
        if not self.frozen:
            return
        absent_s = self.world.event_queue.now - self.silent_since
        self.frozen, self.silent_since = False, -1.0
        self.thawed_at = self.world.event_queue.now
        self._timer_at = float("inf")
        if self.has_halt_stream and absent_s > SLEPT_S:
            self.feed(Woke())
        self._go_on()
        if self.alive and self._timer_at == float("inf"):
            self._plan(max(self.clock(), self.node.next_deadline()))

    def _go_on(self) -> None:
        waiting, self.backlog = self.backlog, []
        for action in waiting:
            if self.alive and self.frozen:
                self.backlog.append(action)
            elif self.alive:
                action()

    # --- effects ----------------------------------------------------------------------------------

    def penalise(self, peer: PeerId, reason: str) -> None:
        self.penalised.append((peer, reason))
        self._strikes.add(peer, self.world.event_queue.now)
        if self.refuses(peer):
            self.drop(peer, f"refused: {reason}")

    def refuses(self, peer: PeerId) -> bool:
        return self._strikes.refuses(peer, self.world.event_queue.now)

    def drop(self, peer: PeerId, reason: str) -> None:
        """End the connection; we hear of it as an input, after the one that is being handled."""
        self.world.event_queue.after(0.0, self._drop, self.life, peer, reason)

    def _drop(self, life: int, peer: PeerId, reason: str) -> None:
        connection = self.connections.get(peer)
        if connection is not None and life == self.life:
            self.world.network.end(connection, self, "reset", reason)


def _track_records(host: Host, unix_ms: int) -> TrackRecords:
    return TrackRecords(unpack(host.disk.values.get(RECORDS, b""), unix_ms / 1000))


def _trust(host: Host, unix_ms: int) -> Trust:
    """As `runtime.trusting`, with signatures that cost nothing."""
    rng = random.Random(f"{host.world.seed} {host.number} {host.life} audits")
    saved = host.disk.values.get(ACCOUNTS, b"")
    zero_s = unix_ms / 1000 - host.clock()
    trust = host.world.signed_sessions.trust(host.peer, rng, zero_s, saved)
    host.reputation = trust.reputation
    return trust
