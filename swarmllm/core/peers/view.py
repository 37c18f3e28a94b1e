"""The node view: one frozen value for `status`, `experts` and the tests."""

from __future__ import annotations

from dataclasses import dataclass

from swarmllm.core.trust.standing import Standing
from swarmllm.core.values import EngineLoad, ModelCard
from swarmllm.messages import CapacityRecord, PeerId


@dataclass(frozen=True, slots=True)
class ExpertView:
    """An expert as this node sees it; times in seconds, `score_s` is the expected time of one
    round.

    `prompts` is how many of our prompts it was weighed on, `merit` how much better it knew them
    than all that were asked (nats per token), `share` its mean weight.
    """

    peer: PeerId
    record: CapacityRecord
    connected: bool
    local: bool
    resting: bool
    replies: int
    rtt_s: float
    ping_s: float
    score_s: float
    prompts: int = 0
    merit: float = 0.0
    share: float = 0.0
    standing: Standing | None = None
    """What this node thinks of it; None: it judges nobody."""


@dataclass(frozen=True, slots=True)
class VocabularyView:
    """A vocabulary that experts in this swarm have, whether or not it is ours. `model` is one of
    them, `chat_digest` that of most; `reachable` are those of that chat format that are connected,
    by peer id; `connected` and `experts` count all of the vocabulary."""

    fingerprint: bytes
    chat_digest: bytes
    model: str
    reachable: tuple[PeerId, ...]
    connected: int
    experts: int


@dataclass(frozen=True, slots=True)
class NodeView:
    peer: PeerId
    boot: int
    card: ModelCard | None
    load: EngineLoad | None
    addrs: tuple[str, ...]
    peers: tuple[PeerId, ...]
    experts: tuple[ExpertView, ...]
    answers_open: int
    rounds_served_open: int
    halted: tuple[str, ...] = ()
    """Why no token is made here, a sentence each."""
    paused: str = ""
    """Why this node serves nobody else for now, by its owner's rules."""
    records_dropped: int = 0
    """Capacity records that came unasked, and faster than is fair."""
    records_refused: int = 0
    """Capacity records that were malformed, badly signed, or contradicted themselves."""
    vocabulary: bytes = b""
    """The fingerprint of the experts that are asked; empty until it is known."""
    vocabularies: tuple[VocabularyView, ...] = ()
    """Of all experts that are known, our own included; those of most experts first."""
    parts: tuple[object, ...] = ()
    """What each further part of the node shows, in the order in which they were given."""
