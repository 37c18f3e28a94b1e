"""The checker base class: invariants that every step of every host keeps. Which there are stands in
`testing.world.laws`.

A checker is called by the world while it runs, never holds it up, and raises `Broken` at the step
that breaks its law: the transcript then ends where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarmllm.core.events import Ended, TokenChosen
from swarmllm.messages import PeerId

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.host import Host
    from swarmllm.testing.world.roles import Answer
    from swarmllm.testing.world.world import World


def laws_of(*checkers: Checker | type[Checker]) -> tuple[str, ...]:
    """The names of their laws, each once."""
    classes = [one if isinstance(one, type) else type(one) for one in checkers]
    names = (
        value
        for found in classes
        for name, value in vars(found).items()
        if name.isupper() and isinstance(value, str)
    )
    return tuple(dict.fromkeys(names))


class Broken(AssertionError):
    """A law is broken; the text says which, by whom and when."""


class Checker:
    """Every method may be left out. `world` is set before anything happens."""

    world: World

    def begin(self, world: World) -> None:
        self.world = world

    def starting(self, host: Host) -> None:
        """A new life of the host is about to begin with what its disk holds."""

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        """`event` was handled; the effects are about to be performed."""

    def stepped(self, host: Host, event: object) -> None:
        """The effects have been performed."""

    def leaves(self, host: Host, peer: PeerId, message: Any) -> None:
        """An expert message leaves the host."""

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None: ...

    def ended(self, host: Host, answer: Answer, end: Ended) -> None: ...

    def handed(self, host: Host, record: bytes) -> None:
        """A halt record is about to be handed to a host, which may find it good or not."""

    def published(self, host: Host, record: bytes) -> None:
        """It was handed to the host, which has acted on it."""

    def settled(self) -> None:
        """Faults have been off for as long as everything may take to recover."""

    def broken(self, law: str, host: Host | None, why: str) -> Broken:
        where = f"{host.peer}, " if host is not None else ""
        return Broken(f"{law}: {where}at {self.world.now:.6f} s: {why} (seed {self.world.seed})")
