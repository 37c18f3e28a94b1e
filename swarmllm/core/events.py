"""The events that the node reports to its user: tokens, ends of answers, notices, experts and peers
that come and go, halt orders heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarmllm.messages import CapacityRecord, Halt, PeerId, Resume


@dataclass(frozen=True, slots=True)
class ExpertUse:
    """One expert's part in one token: `weight` after renormalising, reply size and round trip;
    `used` is false for late replies."""

    peer: PeerId
    model: str
    weight: float
    size_bytes: int
    rtt_s: float
    used: bool


@dataclass(frozen=True, slots=True)
class TokenChosen:
    """`agreement` is the pooled overlap of the experts' lists: 1 - mean total variation between
    each used expert and the pool. `k` is 0 for a token that a grammar forced: nobody was asked.
    `likeliest` are the most probable tokens of the pool with their log-probabilities, as many as
    the request asked for. `shared`: how many tokens the round has brought, which took `round_s`
    together; the experts' bytes are this token's part of them."""

    request: int
    index: int
    token: int
    logprob: float
    round: int
    k: int
    round_s: float
    experts: tuple[ExpertUse, ...]
    agreement: float
    likeliest: tuple[tuple[int, float], ...] = ()
    shared: int = 1


EndReason = Literal["length", "stop", "eos", "cancelled", "halted", "error"]


@dataclass(frozen=True, slots=True)
class Ended:
    """`drafted`: tokens that were guessed and asked about; `accepted`: those of them that came."""

    request: int
    reason: EndReason
    tokens: int
    failovers: int
    local_only_tokens: int
    error: str = ""
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something a person should see while an answer goes on, such as fewer experts than asked
    for."""

    request: int
    text: str


@dataclass(frozen=True, slots=True)
class Weighed:
    """What an expert was found to be worth for a text: `nats` per token of it (None: it told
    nothing), and its share among those that were probed (replicas divide that of their model).
    `why`: what its weight is held down for; empty: nothing."""

    peer: PeerId
    model: str
    nats: float | None
    share: float
    kept: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class ExpertsWeighed:
    """Whom an answer asks, and why: all experts that were probed with its prompt, best first.
    `known`: how many could have been."""

    request: int
    experts: tuple[Weighed, ...]
    known: int


@dataclass(frozen=True, slots=True)
class ExpertFound:
    peer: PeerId
    record: CapacityRecord


@dataclass(frozen=True, slots=True)
class ExpertLost:
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class PeerSeen:
    peer: PeerId
    connected: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeHalted:
    """No token is made here any more; `by` (hex key id) and `seq` name the order, empty and 0 for
    the owner's own stop."""

    reasons: tuple[str, ...]
    by: str
    seq: int


@dataclass(frozen=True, slots=True)
class NodeResumed:
    """Nothing halts this node any more."""


@dataclass(frozen=True, slots=True)
class LogDoubted:
    """This node, as a witness, found that a peer's ledger is not what it was; `reason` says how."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class ServingPaused:
    """This node serves nobody for now, as its owner's rules have it; it remains a peer."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotLetIn:
    """The swarm is closed, and this node is not let in; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServingResumed:
    """It serves again."""


LifeEvent = (
    ExpertFound
    | ExpertLost
    | PeerSeen
    | NodeHalted
    | NodeResumed
    | LogDoubted
    | ServingPaused
    | ServingResumed
    | NotLetIn
)
"""What happens to the node itself, whoever asks it for text."""

NodeEvent = TokenChosen | Ended | Noticed | ExpertsWeighed | LifeEvent


@dataclass(frozen=True, slots=True)
class HaltHeard:
    """A new, valid order, for ledger and people. `peer` is None for our own operator."""

    order: Halt
    peer: PeerId | None


@dataclass(frozen=True, slots=True)
class ResumeHeard:
    order: Resume
    peer: PeerId | None


@dataclass(frozen=True, slots=True)
class CharterHeard:
    version: int
    peer: PeerId | None


@dataclass(frozen=True, slots=True)
class AckHeard:
    """This peer has our whole halt state on its disk."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class StateSaved:
    """All that this node was told so far is on disk."""


@dataclass(frozen=True, slots=True)
class RecordRefused:
    """To be counted against its sender; a `Penalise` stands beside it where it is a strike as
    well."""

    peer: PeerId | None
    reason: str


HaltEvent = HaltHeard | ResumeHeard | CharterHeard | AckHeard | StateSaved | RecordRefused
