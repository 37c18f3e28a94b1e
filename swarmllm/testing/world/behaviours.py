"""Byzantine behaviours of hosts: liars, flatterers, silent ones, droppers of orders, flooders,
boasters, forgers.

Each is an honest node whose outgoing messages are changed, kept back or multiplied, which is what
an attacker with the protocol's own source code would do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.capacity.exchange import Sealing
from swarmllm.messages import CapacityRecord, Halt, Open, PeerId, Records, Score, Scores
from swarmllm.testing.operators import Founders
from swarmllm.testing.world.roles import Behaviour
from swarmllm.wire import context
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

FLOOD_TOKENS: Final = tuple(range(8))
SESSIONS: Final = 80  # Of a flooder: more than anybody keeps for one peer.
GUST: Final = 72  # Rounds at once: more than anybody lets one peer have open.
GUST_EVERY: Final = 256


class Dropper(Behaviour):
    """Obeys orders, and passes none on."""

    def relays(self, host: Host) -> bool:
        return False


class Silent(Behaviour):
    """Advertises, takes every question, and answers none."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        return None if isinstance(message, Scores) else message


class Poisoner(Behaviour):
    """Answers with another model's distribution: the list of a text that nobody asked about."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores) or not message.lists or host.engine is None:
            return message
        wrong = host.engine.model.list_after(context.extend(context.EMPTY, host.number), 256, 0)
        return replace(message, lists=(wrong,) * len(message.lists))


class Flatterer(Poisoner):
    """A poisoner that says of every prompt that it would have written exactly that."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        message = super().outgoing(host, peer, message)
        return (
            replace(message, target_logprobs=bytes(len(message.target_logprobs)))
            if isinstance(message, Scores)
            else message
        )


class Flooder(Behaviour):
    """Asks every connected peer for rounds that nobody needs, `rate` times a second each, and now
    and then for many at once."""

    def __init__(self, rate: float = 10.0) -> None:
        self.rate = rate

    def begin(self, host: Host) -> None:
        host.world.event_queue.after(1.0, self._flood, host, host.life, 0)

    def _flood(self, host: Host, life: int, number: int) -> None:
        if host.life != life or not host.alive or host.behaviour is not self:
            return
        count = GUST if number % GUST_EVERY == GUST_EVERY - GUST else 1
        if not host.frozen:
            for peer in list(host.connections):
                for one in range(number, number + count):
                    # A gust: two rounds of each of the sessions that were opened last.
                    session = one % SESSIONS if count == 1 else SESSIONS - 1 - one % (GUST // 2)
                    self._ask(host, peer, 1 + session, one)
        host.world.event_queue.after(1.0 / self.rate, self._flood, host, life, number + count)

    def _ask(self, host: Host, peer: PeerId, session: int, number: int) -> None:
        target = host.world.host_of(peer)
        if target.engine is None:
            return
        network, digest = (
            host.world.network,
            bytes(8) if target.halt_machine is None else target.halt_machine.digest,
        )
        card = target.engine.model.card
        if number < SESSIONS or number % 64 < 8:
            network.send(host, peer, Open(session, card.digest, card.vocab_fingerprint, digest), 88)
        request = Score(
            session,
            number,
            0,
            0,
            context.EMPTY,
            FLOOD_TOKENS,
            (len(FLOOD_TOKENS) - 1,),
            (),
            256,
            0,
            digest,
        )
        network.send(host, peer, request, 60)


class Boaster(Behaviour):
    """Says of itself whatever brings it most questions: a high rate, no queue, all sessions free, a
    context that it has not, and a model of `n_params` weights (0: what it has)."""

    def __init__(self, rate: int = 1_000_000, context: int = 8192, n_params: int = 0) -> None:
        self.rate = rate
        self.context = context
        self.n_params = n_params

    def sealing(self, host: Host, sealing: Sealing) -> Sealing:
        def seal(record: CapacityRecord) -> bytes:
            context = max(record.context_max, self.context)
            record = replace(record, n_params=self.n_params or record.n_params, context_max=context)
            return sealing.seal(
                replace(record, rate=self.rate, queue_depth=0, sessions_free=record.sessions_max)
            )

        return replace(sealing, seal=seal)


class Forger(Behaviour):
    """Sends orders that nobody signed, or too few, and frames that are none, every `every_s`
    seconds to one peer after the other."""

    def __init__(self, every_s: float = 1.0) -> None:
        self.every_s = every_s

    def begin(self, host: Host) -> None:
        if host.world.halts:
            host.world.event_queue.after(self.every_s, self._forge, host, host.life, 0)

    def _forge(self, host: Host, life: int, number: int) -> None:
        if host.life != life or not host.alive or host.behaviour is not self:
            return
        peers = list(host.connections)
        if peers and not host.frozen:
            frames = (
                b"\xc1" * 9,
                *(encode(Records((record,))) for record in forgeries(host.world.founders, number)),
            )
            host.world.network.tell(host, peers[number % len(peers)], frames[number % len(frames)])
        host.world.event_queue.after(self.every_s, self._forge, host, life, number + 1)


def forgeries(founders: Founders, number: int) -> tuple[bytes, ...]:
    """Records that no node may obey: a spoilt signature, a signer without the role, one resume key
    of the two that it takes, and another swarm's order."""
    good = founders.halt(1_000_000 + number)
    other = founders.resumers[0]
    order = Halt(founders.swarm, other.id, 1 + number, 1, 0)
    return (
        good[:-1] + bytes((good[-1] ^ 1,)),
        sign_record(order, [(other.public_key, other.sign)]),
        founders.resume({0: 1_000_000 + number}, signers=(0,)),
        Founders("others").halt(1 + number),
    )
