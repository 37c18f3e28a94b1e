"""A whole swarm in one thread, from one seed: virtual time, simulated machines and links, and the
real node's decisions.

    world = World(seed=7)
    hosts = [world.add(Spec(model=i % 4)) for i in range(50)]
    world.run_for(30.0)                       # they find each other
    answer = world.ask(hosts[0], GenerateRequest((1, 2, 3), k=3, max_tokens=32,
    vocab_size=VOCABULARY)) world.crash(hosts[1]); world.freeze(hosts[2]);
    world.partition([hosts[3:5]]) world.publish(hosts[4], world.founders.halt()) world.run_for(60.0)

**What is real** and what is a model: every decision is `core.node.Node`'s, with the real kill
switch, tables, router and decoding. Models are links (`links`), connections, gossip and look-ups
(`network`), engines (`engine`), disks (`disk`). Signatures of capacity records are not computed
(`testing.sealing`); those of halt records are real.

**One seed, one run.** Nothing here looks at a clock, at the system's randomness or at a set's
order, so that a run is the same to the byte on every machine and under every hash seed; `Recorder`
gives the digest that says so.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from typing import Final

from swarmllm.core.halt.state import Outcome
from swarmllm.core.inputs import AddressesFound, Asked, Cancelled
from swarmllm.core.node import NodeConfig
from swarmllm.core.part import Part
from swarmllm.core.settings.holder import NONE, Values
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import PeerId
from swarmllm.testing.operators import Founders, verify
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.sealing import MemoSealing, MemoSessions
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.engine import QuickModel, Shared
from swarmllm.testing.world.event_queue import EventQueue
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.links import LinkModel
from swarmllm.testing.world.network import Overlay, SimulatedNetwork
from swarmllm.testing.world.recorder import Recorder
from swarmllm.testing.world.roles import HONEST, Answer, Behaviour, Spec
from swarmllm.wire.codec import encode

FINGERPRINT: Final = bytes(32)
INTRODUCED: Final = 3  # Peers that a newcomer is told of, as by an invite.
MEMO_MAX: Final = 65_536
COLLECT: Final = (50_000, 20, 50)


class World:
    """`settings` are what the swarm has set when a host starts, in place of the defaults. `halts`
    False leaves the kill switch out, for studies that would never use it. `founders` are whose
    charter all hosts start with. `named_by_keys` gives hosts the peer ids of their keys, as in
    life, instead of short ones. `parts` makes the further parts of a host's node, each time that it
    starts. `checkers` look at every step of every host."""

    def __init__(
        self,
        seed: int,
        *,
        link: LinkModel | None = None,
        overlay: Overlay | None = None,
        config: NodeConfig | None = None,
        settings: Values = NONE,
        halts: bool = True,
        founders: Founders | None = None,
        named_by_keys: bool = False,
        parts: Callable[[Host], tuple[Part, ...]] = lambda _: (),
        audits: bool = False,
        checkers: Sequence[Checker] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} world")
        self.event_queue = EventQueue()
        self.config = config or NodeConfig(FINGERPRINT)
        self.settings = settings
        self.network = SimulatedNetwork(
            self.event_queue,
            link or LinkModel(),
            overlay or Overlay(),
            random.Random(f"{seed} fabric"),
        )
        self.sealing = MemoSealing()
        self.halts = halts
        self.named_by_keys = named_by_keys
        self.parts = parts
        self.audits = audits
        self.signed_sessions = MemoSessions()
        self.founders = founders or Founders("world")
        self.checkers = tuple(checkers)
        self.recorder = recorder
        self.hosts: list[Host] = []
        self.answers: list[Answer] = []
        self.on_end: Callable[[Answer], None] | None = None
        self.halts_heard: list[tuple[float, Host]] = []
        self._lists: Shared = {}
        self._verified: dict[tuple[bytes, bytes, bytes], bool] = {}
        self._frames: dict[object, bytes] = {}
        self._requests = 0
        for checker in self.checkers:
            checker.begin(self)

    @property
    def now(self) -> float:
        return self.event_queue.now

    # --- time -------------------------------------------------------------------------------------

    def run_until(self, when: float, is_done: Callable[[], bool] | None = None) -> None:
        """Up to and including this moment, or until `is_done` after an event.

        Meanwhile the garbage collector looks less often: a large world is many small objects that
        stay, and next to no cycles.
        """
        before = gc.get_threshold()
        gc.set_threshold(*COLLECT)
        try:
            self.event_queue.run_until(when, is_done)
        finally:
            gc.set_threshold(*before)

    def run_for(self, seconds: float, is_done: Callable[[], bool] | None = None) -> None:
        self.run_until(self.event_queue.now + seconds, is_done)

    # --- hosts ------------------------------------------------------------------------------------

    def add(
        self, spec: Spec | None = None, behaviour: Behaviour = HONEST, *, starts: bool = True
    ) -> Host:
        """One more host; it starts at once, told of a few that are up, unless `starts` is False."""
        spec = spec or Spec()
        place = spec.place or (self.rng.random(), self.rng.random())
        host = Host(self, len(self.hosts), spec, place, behaviour)
        self.hosts.append(host)
        self.network.hosts[host.peer] = host
        if starts:
            self.start(host)
        return host

    def start(self, host: Host, introduced: int = INTRODUCED) -> None:
        """A host that is not up starts, with whatever its disk holds, and is told of some that are
        up."""
        assert not host.alive, f"{host} is up already"
        up = [o for o in dialable(self) if o is not host and not o.frozen]
        for connection in list(
            host.connections.values()
        ):  # Of a life that ended without a word: the new one knows nothing of them.
            self.network.end(connection, host, "reset")
        host.start()
        for other in self.rng.sample(up, min(introduced, len(up))):
            host.receive(AddressesFound(other.peer, other.addrs, "bootstrap"))

    def introduce(self, host: Host, other: Host) -> None:
        host.receive(AddressesFound(other.peer, other.addrs, "bootstrap"))

    def alive(self) -> list[Host]:
        return [host for host in self.hosts if host.alive]

    # --- what can happen to them ------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        """The process dies; its kernel resets its connections."""
        if host.alive:
            host.die()
            for connection in list(host.connections.values()):
                self.network.end(connection, host, "reset")

    def lose_power(self, host: Host) -> None:
        """The machine is gone without a word."""
        if host.alive:
            host.die()
            host.machine_up = False
            host.silent_since = self.now
            self.network.fell_silent(host)

    def leave(self, host: Host) -> None:
        """It is stopped by its owner, and says goodbye."""
        if host.alive:
            for request, answer in list(host.answers.items()):
                if not answer.ends:
                    self.abandon(host, request)
            host.die()
            for connection in list(host.connections.values()):
                self.network.end(connection, host, "closing")

    def freeze(self, host: Host) -> None:
        if host.alive and not host.frozen:
            host.freeze()
            self.network.fell_silent(host)

    def thaw(self, host: Host) -> None:
        host.thaw()

    def wipe(self, host: Host, *, keep_marker: bool = False) -> None:
        """Its disk is lost; with `keep_marker` only the state of the kill switch is."""
        host.disk.harm("first", None)
        host.disk.harm("second", None)
        host.disk.genesis = host.disk.genesis if keep_marker else None
        host.disk.values.clear()

    def partition(self, groups: Sequence[Sequence[Host]]) -> None:
        """Each group on its own, and everybody else together."""
        self.network.partition(
            {host.peer: number for number, group in enumerate(groups, 1) for host in group}
        )

    def heal(self) -> None:
        self.network.heal()

    # --- requests and orders ----------------------------------------------------------------------

    def ask(self, host: Host, order: GenerateRequest) -> Answer:
        self._requests += 1
        answer = Answer(self._requests, host, order, self.now, host.life)
        host.answers[answer.request] = answer
        self.answers.append(answer)
        host.receive(Asked(answer.request, order))
        return answer

    def abandon(self, host: Host, request: int) -> None:
        host.receive(Cancelled(request, "cancelled"))

    def publish(self, host: Host, record: bytes) -> Outcome | None:
        """An operator hands a signed halt record to a host."""
        for checker in self.checkers:
            checker.handed(host, record)
        outcome = host.import_record(record)
        for checker in self.checkers:
            checker.published(host, record)
        return outcome

    def settled(self) -> None:
        """Faults have been off for as long as everything may take to recover: now the laws about
        what comes in the end are checked."""
        for checker in self.checkers:
            checker.settled()

    # --- for the hosts ----------------------------------------------------------------------------

    def ended(self, answer: Answer) -> None:
        if self.on_end is not None:
            self.on_end(answer)

    def heard_halt(self, host: Host) -> None:
        self.halts_heard.append((self.now, host))

    def model(self, spec: Spec) -> ScriptedModel:
        assert spec.model is not None
        rest = self._lists, spec.context_max, spec.sessions_max, spec.likeness
        model = QuickModel(f"model-{spec.model}", spec.model, *rest)
        if spec.claims is not None:
            model.card = QuickModel(f"model-{spec.claims}", spec.claims, *rest).card
        return model

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Ed25519; the same question is answered once, however many hosts ask it."""
        key = (public_key, message, signature)
        found = self._verified.get(key)
        if found is None:
            if len(self._verified) >= MEMO_MAX:
                self._verified.clear()
            found = self._verified[key] = verify(public_key, message, signature)
        return found

    def encoded(self, frame: object) -> bytes:
        found = self._frames.get(frame)
        if found is None:
            if len(self._frames) >= MEMO_MAX:
                self._frames.clear()
            found = self._frames[frame] = encode(frame)
        return found

    def host_of(self, peer: PeerId) -> Host:
        return self.network.hosts[peer]


def dialable(world: World) -> list[Host]:
    """Those that are up, and that others can connect to."""
    return [host for host in world.hosts if host.alive and host.spec.is_dialable]
