"""What the kill switch lets through, as the other parts ask it. A node without one, as in tests of
other parts, is let do anything."""

from __future__ import annotations

from swarmllm.core.halt.machine import HaltMachine
from swarmllm.messages import NO_HALT_DIGEST, PeerId


class Clearance:
    """`own` is our peer id."""

    def __init__(self, own: PeerId, machine: HaltMachine | None) -> None:
        self._own = own
        self._machine = machine

    @property
    def digest(self) -> bytes:
        """Of our halt records, for the messages that carry it."""
        return NO_HALT_DIGEST if self._machine is None else self._machine.digest

    @property
    def halted(self) -> tuple[str, ...]:
        """Why this node is halted; empty if it is not."""
        return () if self._machine is None else self._machine.halted

    @property
    def serves(self) -> bool:
        """Whether the shared flag is clear."""
        return self._machine is None or self._machine.serves

    def is_cleared(self, peer: PeerId, now: float) -> bool:
        """Whether tokens may be made with this peer now; with ourselves: here."""
        machine = self._machine
        if machine is None:
            return True
        return not (machine.may_serve(now) if peer == self._own else machine.may_infer(peer, now))

    def is_isolated(self, now: float) -> bool:
        """Whether no token may be made alone, because no order could have come."""
        return self._machine is not None and self._machine.is_isolated(now)
