"""Hosts that do not behave: liars, silent ones, droppers of orders, flooders.

Each is an honest node whose outgoing messages are changed, kept back or multiplied, which is what an attacker with the protocol's own
source code would do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from swarmllm.messages import Close, Open, PeerId, Score, Scores
from swarmllm.testing.world.host import Habits
from swarmllm.wire import context

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

FLOOD_TOKENS: Final = tuple(range(8))


class Dropper(Habits):
    """Obeys orders, and passes none on."""

    def relays(self, host: Host) -> bool:
        return False


class Silent(Habits):
    """Advertises, takes every question, and answers none."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        return None if isinstance(message, Scores) else message


class Poisoner(Habits):
    """Answers with another model's distribution: the list of a text that nobody asked about."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores) or not message.lists or host.engine is None:
            return message
        wrong = host.engine.model.list_after(context.extend(context.EMPTY, host.number), 256, 0)
        return replace(message, lists=(wrong,) * len(message.lists))


class Flooder(Habits):
    """Asks every connected peer for rounds that nobody needs, `rate` times a second each."""

    def __init__(self, rate: float = 50.0) -> None:
        self.rate = rate

    def begin(self, host: Host) -> None:
        host.world.agenda.after(1.0, self._flood, host, host.life, 0)

    def _flood(self, host: Host, life: int, number: int) -> None:
        if host.life != life or not host.alive:
            return
        if not host.frozen:
            for peer in list(host.connections):
                self._ask(host, peer, number)
        host.world.agenda.after(1.0 / self.rate, self._flood, host, life, number + 1)

    def _ask(self, host: Host, peer: PeerId, number: int) -> None:
        target = host.world.host_of(peer)
        if target.engine is None:
            return
        fabric, digest = host.world.fabric, bytes(8) if target.control is None else target.control.digest
        session = 1 + number % 8
        card = target.engine.model.card
        if number % 64 < 8:
            fabric.send(host, peer, Close(session), 16)
            fabric.send(host, peer, Open(session, card.digest, card.vocab_fingerprint, digest), 88)
        request = Score(session, number, 0, 0, context.EMPTY, FLOOD_TOKENS, (len(FLOOD_TOKENS) - 1,), (), 256, 0, digest)
        fabric.send(host, peer, request, 60)
