"""One machine of the world: the real `Node` with its kill switch, a simulated engine, a disk, and the shell that the driver is in life.

Whatever is decided here is decided by `core.node.Node`, through `handle` and `next_deadline`; its effects are performed by
`testing.world.effects`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.charter import private_charter
from swarmllm.core.control import Control
from swarmllm.core.control_events import ControlClosed, ControlOpened, ControlReceived, Persisted, Woke
from swarmllm.core.control_link import (
    Persist,
)
from swarmllm.core.events import (
    AddressesChanged,
    AddressesFound,
    EngineLoad,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    Input,
    Scored,
    TimerFired,
)
from swarmllm.core.halt import Outcome
from swarmllm.core.halt_file import load, pack_genesis
from swarmllm.core.node import SAVED_PEERS, Node, NodeEffect
from swarmllm.core.peering import load_saved
from swarmllm.messages import ExpertReply, PeerId
from swarmllm.testing.operators import Operator
from swarmllm.testing.world.disk import Disk
from swarmllm.testing.world.effects import PERFORM
from swarmllm.testing.world.engine import SimEngine
from swarmllm.testing.world.fabric import REFUSE_S, STRIKES_MAX, Connection
from swarmllm.testing.world.links import Place
from swarmllm.testing.world.roles import Answer, Habits, Spec
from swarmllm.wire.signed import sign_record

if TYPE_CHECKING:
    from swarmllm.testing.world.world import World

SLEPT_S: Final = 0.5  # As `runtime.pulse`.
HELD_LOOK_S: Final = 0.05  # As `runtime.driver`.
CONTROL: Final = (ControlOpened, ControlClosed, ControlReceived, Persisted)
EPOCH_MS: Final = 1_800_000_000_000  # The wall clock when a world begins.


class Host:
    """`life` counts its starts: what was planned for an earlier life is void."""

    def __init__(self, world: World, number: int, spec: Spec, place: Place, habits: Habits) -> None:
        self.world = world
        self.number = number
        self.spec = spec
        self.place = place
        self.habits = habits
        self.peer = PeerId(f"n{number:06}")
        self.addrs = (f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/7339",)
        self.key = Operator(f"host {number}") if world.halts else None
        self.private = b""  # Its own charter, signed; made at the first start.
        self.disk = Disk()
        self.life = 0
        self.alive = False
        self.machine_up = False
        self.frozen = False
        self.silent_since = -1.0
        self.is_halted = False
        self.started_at = 0.0
        self.booted_at = 0.0  # The same on its own clock.
        self.thawed_at = -1.0
        self.died_at = -1.0
        self.halted_at = -1.0  # When the flag was last set; negative: never.
        self.connections: dict[PeerId, Connection] = {}
        self.mesh: dict[PeerId, None] = {}
        self.seen: dict[bytes, None] = {}
        self.has_slept = False  # In this life: only then may the kill switch hold things back.
        self.backlog: list[tuple[bool, Callable[[], None]]] = []  # What waits meanwhile, and whether it concerns the kill switch.
        self.answers: dict[int, Answer] = {}
        self.penalised: list[tuple[PeerId, str]] = []
        self.reverted: list[int] = []
        self.bytes_sent = 0
        self.node: Node
        self.control: Control | None = None
        self.engine: SimEngine | None = None
        self._strikes: dict[PeerId, int] = {}
        self._refused: dict[PeerId, float] = {}
        self._timer_at = float("inf")
        self._at_least = 0.0

    def __repr__(self) -> str:
        return f"<{self.peer}>"

    @property
    def held(self) -> bool:
        """It woke: until it has heard from peers, only what concerns the kill switch is handled."""
        return self.has_slept and self.node.holds(self.clock())

    @property
    def has_control(self) -> bool:
        return self.control is not None

    def clock(self) -> float:
        """Its own time: the world's, seen through its drift. Never short of a deadline whose tick has come, whatever rounding does."""
        now = self.world.agenda.now * self.spec.drift
        return now if now > self._at_least else self._at_least

    # --- life ----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The process starts: kill switch first, from the disk, then the node, then everything else."""
        world, spec = self.world, self.spec
        for checker in world.checkers:
            checker.starting(self)
        self.life += 1
        self.alive = self.machine_up = True
        self.frozen, self.has_slept, self.silent_since = False, False, -1.0
        self.started_at, self.booted_at = world.agenda.now, self.clock()
        self.backlog, self.seen, self._strikes, self._refused = [], {}, {}, {}
        self._timer_at = float("inf")
        rng = random.Random(f"{world.seed} {self.number} {self.life}")
        unix_ms = EPOCH_MS + round(1000 * (world.agenda.now + spec.skew_s))
        self.engine = None
        self.is_halted = world.halts
        self.control = self._boot_control(rng, unix_ms) if world.halts else None
        sealing = self.habits.sealing(self, world.sealing.of(self.peer))
        self.node = Node(world.config, self.peer, unix_ms, rng, sealing, self.control)
        self.receive(AddressesChanged(self.addrs))
        saved = self.disk.values.get(SAVED_PEERS)
        for peer, addrs in load_saved(saved) if saved is not None else ():
            self.receive(AddressesFound(peer, addrs, "saved"))
        if spec.model is not None:
            self.world.agenda.after(spec.load_s, self._loaded, self.life)
        self.habits.begin(self)

    def _boot_control(self, rng: random.Random, unix_ms: int) -> Control:
        """As `runtime.booting.boot`."""
        key, founders, disk = self.key, self.world.founders, self.disk
        assert key is not None
        self.private = self.private or sign_record(private_charter(key.public_key), [(key.public_key, key.sign)])
        found = load(disk.first, disk.second, disk.genesis, self.private, founders.swarm)
        control = Control(found, key.public_key, self.world.verify, rng, unix_ms - round(1000 * self.clock()))
        self.control = control
        self._boot_effects(control.start(self.clock()))
        self._boot_effects(control.import_record(founders.charter, self.clock())[1])
        return control

    def _boot_effects(self, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                ok = self.disk.write_now(effect.data, pack_genesis(self.world.founders.swarm))
                assert self.control is not None
                self._boot_effects(self.control.persisted(effect.number, ok, self.clock()))
            else:
                self.perform(effect)

    def _loaded(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        spec = self.spec
        assert spec.model is not None
        model = self.world.model(spec)
        done, changed = self._scored(life), self._load_changed(life)
        self.engine = SimEngine(self.world.agenda, model, spec.service, done, changed, self.peer)
        if self.is_halted:
            self.engine.stop()
        self.receive(EngineReady(model.card, self.engine.load))

    def lose_engine(self) -> None:
        """Its worker process dies; what it was asked is refused, and then the node is told."""
        if self.engine is not None and not self.engine.is_down:
            self.engine.fail()
            self.world.agenda.after(0.0, self.receive_if, self.life, EngineLost("the worker was killed"))

    def regain_engine(self) -> None:
        """Another worker has started and loaded its model."""
        if self.engine is not None and self.engine.is_down:
            self.engine.revive()
            ready = EngineReady(self.engine.model.card, self.engine.load)
            self.world.agenda.after(0.0, self.receive_if, self.life, ready)  # Behind the loss, should both be of one moment.

    def _scored(self, life: int) -> Callable[[int, ExpertReply], None]:
        def scored(order: int, reply: ExpertReply) -> None:
            if life == self.life:
                self.receive(Scored(order, reply))

        return scored

    def _load_changed(self, life: int) -> Callable[[EngineLoad], None]:
        def changed(load: EngineLoad) -> None:
            if life == self.life:
                # Not at once: this may happen in the middle of performing effects, and inputs never nest.
                self.world.agenda.after(0.0, self.receive_if, life, EngineLoadChanged(load))

        return changed

    def die(self) -> None:
        """As by SIGKILL: memory is gone, the disk stays as it is."""
        self.life += 1
        self.alive = False
        self.died_at = self.world.agenda.now
        self.frozen, self.has_slept, self.silent_since = False, False, -1.0
        self.engine, self.backlog = None, []

    # --- inputs --------------------------------------------------------------------------------------------------------------

    def receive(self, event: Input) -> None:
        """Now, or when it may."""
        if self.frozen or self.has_slept:
            is_control = isinstance(event, CONTROL)
            if self.frozen or (self.held and not is_control):
                self.backlog.append((is_control, partial(self.feed, event)))
                return
        if self.alive:
            self.feed(event)

    def receive_if(self, life: int, event: Input) -> None:
        if life == self.life:
            self.receive(event)

    feed_if = receive_if

    def feed(self, event: Input) -> None:
        node = self.node
        effects = node.handle(event, self.clock())
        self.stepped(event, effects)

    def stepped(self, event: object, effects: list[NodeEffect]) -> None:
        """Perform the effects of an input, and plan the next look at the clock."""
        world = self.world
        if world.recorder is not None:
            world.recorder.step(world.agenda.now, self, event, effects)
        for checker in world.checkers:
            checker.decided(self, event, effects)
        for effect in effects:
            PERFORM[type(effect)](self, effect)
        deadline = self.node.next_deadline()
        if self.has_slept and self.held:  # Others than the kill switch's may have passed, and wait as well.
            deadline = max(deadline, self.clock() + HELD_LOOK_S)
        if deadline < self._timer_at:
            self._plan(deadline)
        for checker in world.checkers:
            checker.stepped(self, event)
        if self.backlog and not self.frozen and not self.held:
            self._go_on()

    def _plan(self, deadline: float) -> None:
        self._timer_at = deadline
        self.world.agenda.at(deadline / self.spec.drift, self._tick, self.life, deadline)

    def _tick(self, life: int, deadline: float) -> None:
        """An earlier deadline may have come up meanwhile, with a tick of its own; a later one is planned anew."""
        if life != self.life or deadline != self._timer_at:
            return
        self._timer_at = float("inf")
        self._at_least = min(deadline, self.world.agenda.now * self.spec.drift + 1e-6)
        if self.frozen:
            return  # It looks at its clock when it thaws.
        wanted = self.node.next_deadline()
        if wanted <= self.clock() or self.held:
            self.feed(TimerFired())
        elif wanted < float("inf"):
            self._plan(wanted)

    def hear(self, forwarder: PeerId, record: bytes) -> bool:
        """The validator of the control topic: whether to pass it on."""
        if not self.alive:
            return False
        if self.frozen:
            self.backlog.append((True, partial(self._hear_late, forwarder, record)))
            return False
        passes, effects = self.node.hear_control(forwarder, record, self.clock())
        self.stepped(("heard", forwarder, record), effects)
        return passes and self.habits.relays(self)

    def _hear_late(self, forwarder: PeerId, record: bytes) -> None:
        if self.hear(forwarder, record):
            self.world.fabric.gossip(self, record, forwarder)

    def import_record(self, record: bytes) -> Outcome | None:
        """An operator's order through this node."""
        outcome, effects = self.node.import_control(record, self.clock())
        self.stepped(("imported", record), effects)
        return outcome

    def freeze(self) -> None:
        """As by SIGSTOP: nothing is done, and nobody is told."""
        assert self.alive
        assert not self.frozen
        self.frozen = True
        self.silent_since = self.world.agenda.now

    def thaw(self) -> None:
        """As by SIGCONT: what has come meanwhile is handled, in order; after a long absence what concerns the kill switch comes first,
        and everything else when the node has heard from its peers (`runtime.driver`)."""
        if not self.frozen:
            return
        absent_s = self.world.agenda.now - self.silent_since
        self.frozen, self.silent_since = False, -1.0
        self.thawed_at = self.world.agenda.now
        self._timer_at = float("inf")
        if self.has_control and absent_s > SLEPT_S:
            self.has_slept = True
            self.feed(Woke())
        self._go_on()
        if self.alive and self._timer_at == float("inf"):
            self._plan(max(self.clock(), self.node.next_deadline()))

    def _go_on(self) -> None:
        waiting, self.backlog = self.backlog, []
        for one in waiting:
            is_control, action = one
            if self.alive and (self.frozen or (self.held and not is_control)):
                self.backlog.append(one)
            elif self.alive:
                action()

    # --- effects -------------------------------------------------------------------------------------------------------------

    def perform(self, effect: NodeEffect) -> None:
        PERFORM[type(effect)](self, effect)

    def penalise(self, peer: PeerId, reason: str) -> None:
        self.penalised.append((peer, reason))
        self._strikes[peer] = self._strikes.get(peer, 0) + 1
        if self._strikes[peer] >= STRIKES_MAX:
            self._strikes[peer] = 0
            self._refused[peer] = self.world.agenda.now + REFUSE_S
            self.drop(peer, f"refused: {reason}")

    def refuses(self, peer: PeerId) -> bool:
        return self._refused.get(peer, 0.0) > self.world.agenda.now

    def drop(self, peer: PeerId, reason: str) -> None:
        """End the connection; we hear of it as an input, after the one that is being handled."""
        self.world.agenda.after(0.0, self._drop, self.life, peer, reason)

    def _drop(self, life: int, peer: PeerId, reason: str) -> None:
        connection = self.connections.get(peer)
        if connection is not None and life == self.life:
            self.world.fabric.end(connection, self, "reset", reason)
