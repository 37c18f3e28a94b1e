"""What can happen in a world, one event at a time, drawn from a seed; and how all of it is put
right again.

Whoever is hit may be down, frozen or cut off already: then nothing happens, and the next event
follows as drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final

from swarmllm.core.inputs import OwnerStarts, OwnerStops
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import Records
from swarmllm.testing.world.behaviours import Flooder, Forger, forgeries
from swarmllm.testing.world.engine import VOCABULARY
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.roles import HONEST, Answer
from swarmllm.testing.world.scenario import Scenario, order_of
from swarmllm.testing.world.world import World, dialable
from swarmllm.wire.codec import encode

HOSTS_MAX: Final = 40  # With newcomers.
# Once all faults are over: no order needs more to be asked for, and fewer are no swarm.
ALIVE_MIN: Final = 3
RUSH: Final = 70  # Above what one node writes at once.
# Requests that are being answered at once, in the whole world: more only take time.
OPEN_MAX: Final = 40


class Faults:
    """`weights` of what may happen; `halts` and `resumes` count the orders given, so that their
    numbers rise. `further` events are a subclass's."""

    further: ClassVar[dict[str, Callable[[Any, Host], None]]] = {}

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.rng = random.Random(f"{scenario.seed} faults")
        self.events: dict[str, Callable[[Any, Host], None]] = {**EVENTS, **self.further}
        self.weights = {name: self._weight(name) for name in self.events}
        self.seqs = [0, 0, 0]
        self.orders: list[bytes] = []
        self.reformed: list[Host] = []  # Liars that lie no more; others may still refuse them.

    def _weight(self, name: str) -> float:
        """Requests and starts are always among what happens: a world in which nothing runs is kept
        by every law."""
        often = {"ask": 4.0, "start": 2.0}.get(name)
        if often is not None:
            return often
        return self.rng.uniform(0.1, 1.0) * RARE.get(name, 1.0) if self.rng.random() < 0.5 else 0.0

    def happen(self) -> None:
        name = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
        host = self.rng.choice(self.world.hosts)
        recorder = self.world.recorder
        if recorder is not None:
            recorder.note(self.world.now, f"-- {name} {host.peer}")
        self.events[name](self, host)

    # --- requests ---------------------------------------------------------------------------------

    def ask(self, host: Host) -> None:
        open_now = sum(not answer.ends for answer in self.world.answers[-OPEN_MAX:])
        if host.alive and open_now < OPEN_MAX:
            self.world.ask(host, order_of(self.rng, is_greedy=self.rng.random() < 0.7))

    def rush(self, host: Host) -> None:
        """More at once than anybody writes answers for."""
        if host.alive:
            for _ in range(RUSH):
                self.world.ask(
                    host, GenerateRequest((1, 2), k=1, max_tokens=1, vocab_size=VOCABULARY)
                )

    def cancel(self, host: Host) -> None:
        """Of those asked last any one: also what has ended already, as when somebody presses a key
        too late."""
        mine: list[Answer] = [a for a in host.answers.values() if a.life == host.life][-4:]
        if host.alive and mine:
            self.world.abandon(host, self.rng.choice(mine).request)

    # --- machines ---------------------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        self.world.crash(host)

    def lose_power(self, host: Host) -> None:
        self.world.lose_power(host)

    def leave(self, host: Host) -> None:
        if host.alive and not host.frozen:
            self.world.leave(host)

    def freeze(self, host: Host) -> None:
        self.world.freeze(host)

    def thaw(self, host: Host) -> None:
        self.world.thaw(host)

    def start(self, host: Host) -> None:
        """Somebody who is down comes back, with whatever its disk holds."""
        down = [one for one in self.world.hosts if not one.alive]
        if down:
            self.world.start(self.rng.choice(down))

    def newcomer(self, host: Host) -> None:
        if len(self.world.hosts) < HOSTS_MAX:
            self.world.add(replace(host.spec, place=None))

    def lose_engine(self, host: Host) -> None:
        if host.alive and not host.frozen:
            host.lose_engine()

    def regain_engine(self, host: Host) -> None:
        for one in self.world.alive():
            if one.engine is not None and one.engine.is_down and not one.frozen:
                one.regain_engine()
                return

    # --- disks ------------------------------------------------------------------------------------

    def wipe(self, host: Host) -> None:
        """Its disk is lost between two lives; half of the time the marker is left, and says that
        something is missing."""
        if not host.alive:
            self.world.wipe(host, keep_marker=self.rng.random() < 0.5)

    def corrupt(self, host: Host) -> None:
        """One copy, or both, cannot be read any more: a bit has flipped, or the end is missing."""
        if host.alive:
            return
        disk = host.disk
        for name in self.rng.choice((("first",), ("second",), ("first", "second"))):
            data = getattr(disk, name)
            if data:
                at = self.rng.randrange(len(data))
                flipped = (
                    data[:at] + bytes((data[at] ^ 1 << self.rng.randrange(8),)) + data[at + 1 :]
                )
                disk.harm(name, flipped if self.rng.random() < 0.5 else data[:at])

    def fill_disk(self, host: Host) -> None:
        if host.disk.full:
            host.disk.clear(self.world.now)
        else:
            host.disk.full = True

    # --- the network ------------------------------------------------------------------------------

    def partition(self, _host: Host) -> None:
        hosts = self.rng.sample(self.world.hosts, len(self.world.hosts))
        groups = self.rng.randint(1, 3)
        self.world.partition([hosts[number::4] for number in range(groups)])

    def heal(self, _host: Host) -> None:
        self.world.heal()

    # --- orders -----------------------------------------------------------------------------------

    def halt(self, host: Host) -> None:
        if host.alive and not host.frozen:
            who = self.rng.randrange(3)
            self.seqs[who] += self.rng.randint(1, 3)
            self._publish(host, self.world.founders.halt(self.seqs[who], who))

    def resume(self, host: Host) -> None:
        """Of all that was ordered, or only of what one key ordered."""
        if not host.alive or host.frozen or not any(self.seqs):
            return
        given = {who: seq for who, seq in enumerate(self.seqs) if seq}
        if self.rng.random() < 0.3:
            who = self.rng.choice(sorted(given))
            given = {who: given[who]}
        self._publish(
            host, self.world.founders.resume(given, signers=tuple(self.rng.sample(range(3), 2)))
        )

    def replay(self, host: Host) -> None:
        """Somebody plays an old order back: by hand, or to each of its peers."""
        if not host.alive or host.frozen or not self.orders:
            return
        record = self.rng.choice(self.orders)
        if self.rng.random() < 0.5:
            self.world.publish(host, record)
            return
        for peer in list(host.connections):
            self.world.network.tell(host, peer, encode(Records((record,))))

    def forge(self, host: Host) -> None:
        """What an operator is talked into importing proves nothing."""
        if host.alive and not host.frozen:
            self.world.publish(
                host, self.rng.choice(forgeries(self.world.founders, self.rng.randrange(1000)))
            )

    def stop_here(self, host: Host) -> None:
        host.receive(OwnerStops())

    def start_here(self, host: Host) -> None:
        host.receive(OwnerStarts())

    def _publish(self, host: Host, record: bytes) -> None:
        self.orders.append(record)
        self.world.publish(host, record)

    # --- the end of all faults --------------------------------------------------------------------

    def end(self) -> None:
        """All is put right: links, disks, machines, engines. Some of those who went are not seen
        again."""
        world = self.world
        world.network.delays.model = replace(
            world.network.delays.model, drop=0.0, duplicate=0.0, reorder=0.0
        )
        world.heal()
        for host in world.hosts:
            host.disk.clear(world.now)
            if isinstance(host.behaviour, (Flooder, Forger)) or not self.scenario.keeps_liars:
                if host.behaviour is not HONEST:
                    self.reformed.append(host)
                host.behaviour = HONEST
            world.thaw(host)
            if not host.alive and (
                _is_needed(world, self.scenario, host) or self.rng.random() < 0.7
            ):
                world.start(host)
            host.regain_engine()
        for host in world.alive():
            # It started when nobody else was up, and knows nobody: somebody invites it.
            if not host.connections:
                others = [o for o in dialable(world) if o is not host]
                if others:
                    world.introduce(host, self.rng.choice(others))
                else:  # It alone can be connected to.
                    world.introduce(next(o for o in world.alive() if o is not host), host)

    def abandon_everything(self) -> None:
        """Whoever still waits for an answer gives up."""
        for answer in self.world.answers:
            if answer.host.alive and answer.life == answer.host.life and not answer.ends:
                self.world.abandon(answer.host, answer.request)

    def lift_everything(self) -> None:
        """The owners answer for what was lost, and the resume quorum lifts every order that was
        ever given."""
        for host in self.world.alive():
            host.receive(OwnerStarts())
        given = {who: seq for who, seq in enumerate(self.seqs) if seq}
        if given:
            teller = next(host for host in self.world.alive() if host.behaviour.relays(host))
            self._publish(teller, self.world.founders.resume(given))


def _is_needed(world: World, scenario: Scenario, host: Host) -> bool:
    """Whether those that are up would be no swarm without it: too few, or with no way from one
    behind a router to another."""
    few = len(world.alive()) < ALIVE_MIN
    return few or (host.spec.is_dialable and scenario.has_routers)


RARE: Final = {
    "rush": 0.1,
    "newcomer": 0.3,
    "partition": 0.5,
    "stop_here": 0.3,
    "leave": 0.5,
    "halt": 0.4,
    "fill_disk": 0.5,
}
"""What would otherwise leave nothing standing."""

EVENTS: Final[dict[str, Callable[[Faults, Host], None]]] = {
    "ask": Faults.ask,
    "rush": Faults.rush,
    "cancel": Faults.cancel,
    "crash": Faults.crash,
    "lose_power": Faults.lose_power,
    "leave": Faults.leave,
    "freeze": Faults.freeze,
    "thaw": Faults.thaw,
    "start": Faults.start,
    "newcomer": Faults.newcomer,
    "lose_engine": Faults.lose_engine,
    "regain_engine": Faults.regain_engine,
    "wipe": Faults.wipe,
    "corrupt": Faults.corrupt,
    "fill_disk": Faults.fill_disk,
    "partition": Faults.partition,
    "heal": Faults.heal,
    "halt": Faults.halt,
    "resume": Faults.resume,
    "replay": Faults.replay,
    "forge": Faults.forge,
    "stop_here": Faults.stop_here,
    "start_here": Faults.start_here,
}
