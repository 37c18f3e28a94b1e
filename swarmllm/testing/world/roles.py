"""What a host is, how it behaves, and what becomes of what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.capacity.exchange import Sealing
from swarmllm.core.events import Ended, TokenChosen
from swarmllm.core.settings.holder import Values
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import PeerId
from swarmllm.testing.world.engine import DEMO, Service
from swarmllm.testing.world.links import Place

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host


@dataclass(frozen=True, slots=True)
class Spec:
    """What a host is. `model`: the seed of its expert (None: it offers none); equal seeds are
    replicas. `likeness`: what that expert has in common with all others (`QuickModel`). `skew_s`:
    how far its wall clock is ahead. `drift`: seconds of its clock per second. `load_s`: from its
    start until its model is loaded. `is_dialable`: False behind a router that lets no connection
    in. `pins`: the settings that its owner has pinned. `kind` is for whoever counts."""

    model: int | None = 1
    service: Service = DEMO
    sessions_max: int = 16
    context_max: int = 4096
    place: Place | None = None
    skew_s: float = 0.0
    drift: float = 1.0
    load_s: float = 1.0
    is_dialable: bool = True
    pins: Values = field(default_factory=dict, hash=False)
    kind: str = "peer"
    likeness: float = 0.0
    claims: int | None = None
    """The model that it says it has; None: the one that it has."""


@dataclass(slots=True)
class Answer:
    """What became of one request."""

    request: int
    host: Host
    order: GenerateRequest
    asked_at: float
    life: int
    """Of the host when it was asked: what a later life does not know never ends."""
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    chosen: list[TokenChosen] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    ended_at: float = -1.0

    @property
    def end(self) -> Ended | None:
        return self.ends[0] if self.ends else None


class Behaviour:
    """How a host departs from honest behaviour; this base departs in nothing. See
    `testing.world.behaviour`."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        """What is sent in place of this message; None: nothing."""
        return message

    def relays(self, host: Host) -> bool:
        """Whether it passes halt records on."""
        return True

    def sealing(self, host: Host, sealing: Sealing) -> Sealing:
        """How it signs what it says of itself."""
        return sealing

    def begin(self, host: Host) -> None:
        """It has just started: whatever it does by itself begins here."""


HONEST: Final = Behaviour()
