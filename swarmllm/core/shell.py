"""The order in which effects are performed: the rules that every shell round a node keeps, the trio
driver and the simulator alike.

Effects are performed in list order. A `Save` waits for the disk, and what stands behind it waits
for the `Save`. What the kill switch orders meanwhile does not wait: it is performed the moment it
is decided, and once it has said stop, no inference effect that was decided before is performed any
more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from swarmllm.core.effects import NodeEffect, RunAgent, RunScore, Save, Send, StartAgain, StopNow
from swarmllm.messages import DECLARED


def infers(effect: NodeEffect) -> bool:
    """Whether a halted node must not perform it: it makes a token, or asks for one, or delivers
    one; or its agent does something."""
    return isinstance(effect, RunScore | RunAgent) or (
        isinstance(effect, Send) and DECLARED[type(effect.message)].infers
    )


class EffectQueue:
    """Effects on their way from the node to whoever performs them. `is_halted` until the first
    `StartAgain`: a shell without a kill switch is made with False."""

    def __init__(self, *, is_halted: bool) -> None:
        self.is_halted = is_halted
        self._waiting: deque[NodeEffect] = deque()

    def put(self, effects: Iterable[NodeEffect]) -> None:
        """What an input has brought about, behind all that waits."""
        self._waiting.extend(effects)

    def take(self) -> Iterator[NodeEffect]:
        """One after another, those included that are put while the iteration goes on. Whoever
        iterates performs each before it asks for the next."""
        while self._waiting:
            effect = self._waiting.popleft()
            if self._may_pass(effect):
                yield effect

    def overtake(self, effects: Iterable[NodeEffect]) -> Iterator[NodeEffect]:
        """Effects of an order that waits for nothing. A `Save` among them is put behind what waits,
        since it would have to."""
        for effect in effects:
            if isinstance(effect, Save):
                self._waiting.append(effect)
            elif self._may_pass(effect):
                yield effect

    def _may_pass(self, effect: NodeEffect) -> bool:
        if isinstance(effect, StopNow):
            self.is_halted = True
        elif isinstance(effect, StartAgain):
            self.is_halted = False
        return not (self.is_halted and infers(effect))
