"""The seam: what happened (inputs, in the past tense) and what to do about it (effects, orders).

`Node.handle(input, now)` takes one input and returns effects, which the driver performs in list order; a `Save` completes before any
later effect begins. Nothing here does anything: the same values flow through the trio driver and through the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from swarmllm.core.control_events import ControlInput
from swarmllm.messages import CapacityRecord, ExpertMessage, ExpertRecord, ExpertReply, PeerId, Score

# --- values ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session as the engine knows it: ids are the requester's own, so the requester is part of the key."""

    peer: PeerId
    session: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The local expert's model. Digests are SHA-256; `n_params` counts weights; `context_max` is tokens per session."""

    name: str
    digest: bytes
    vocab_fingerprint: bytes
    vocab_size: int
    n_params: int
    context_max: int
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is: waiting orders, sessions it could still take, and measured decode tokens/s over all sessions."""

    queue_depth: int
    sessions_free: int
    sessions_max: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the requester draws from the pooled distribution; the defaults draw from it unchanged.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off. The penalty looks at the last
    `penalty_last` tokens of prompt and answer. `seed` makes a run reproducible.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_last: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerateOrder:
    """What an answer needs: `k` experts per token plus `extra` more as insurance, `max_tokens`, and where to stop.

    `quality` is the share of tokens that all k are asked about, those at which the best expert alone is least sure; 1: every token,
    0: always one expert. `outside` are the stretches (start, end) of the prompt that the ensemble did not write itself, rising and
    apart; empty: all of it. `domain`: experts that claim it are believed more at first.
    """

    prompt: tuple[int, ...]
    outside: tuple[tuple[int, int], ...] = ()
    domain: str = ""
    k: int = 3
    extra: int = 1
    quality: float = 1.0
    max_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()
    vocab_size: int = 128_256


@dataclass(frozen=True, slots=True)
class ExpertUse:
    """One expert's part in one token: `weight` after renormalising, reply size and round trip; `used` is false for late replies."""

    peer: PeerId
    model: str
    weight: float
    size_bytes: int
    rtt_s: float
    used: bool


# --- inputs ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection is up and our own expert stream on it is open: `Send` works from now on."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class AskingEnded:
    """The peer ended the stream on which it asked us, or opened another one: its sessions here are over, the connection is not."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PingMeasured:
    peer: PeerId
    rtt_s: float


@dataclass(frozen=True, slots=True)
class AddressesFound:
    """Somebody who might be worth dialling, from the LAN, a bootstrap address, the DHT or an invite."""

    peer: PeerId
    addrs: tuple[str, ...]
    source: Literal["lan", "bootstrap", "dht", "saved"]


@dataclass(frozen=True, slots=True)
class DialFailed:
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message of the expert protocol; `size_bytes` is its whole frame."""

    peer: PeerId
    message: ExpertMessage
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The local engine's answer to the `RunScore` with the same `order`. Its `session` and `round` repeat the request's."""

    order: int
    reply: ExpertReply


@dataclass(frozen=True, slots=True)
class EngineReady:
    card: ModelCard
    load: EngineLoad


@dataclass(frozen=True, slots=True)
class EngineLoadChanged:
    load: EngineLoad


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The worker process died or was killed; orders in flight will not be answered."""

    reason: str


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The addresses that we announce to others."""

    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    request: int
    order: GenerateOrder


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The local user wants no more of this answer (`stop`: a stop string was found)."""

    request: int
    reason: Literal["cancelled", "stop"]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """`next_deadline()` has come."""


ChangeInput = (
    PeerConnected
    | PeerLost
    | AskingEnded
    | PingMeasured
    | AddressesFound
    | DialFailed
    | EngineReady
    | EngineLoadChanged
    | EngineLost
    | AddressesChanged
)
"""What changes in the world around the node, wanted or not."""

Input = ChangeInput | Received | Scored | Asked | Cancelled | ControlInput | TimerFired

NetworkInput = PeerConnected | PeerLost | AskingEnded | PingMeasured | AddressesFound | DialFailed | Received | AddressesChanged
"""The inputs that a Network adapter yields as they happen (what concerns the kill switch comes through its door instead)."""


# --- events for whoever uses the node ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenChosen:
    """`agreement` is the pooled overlap of the experts' lists: 1 - mean total variation between each used expert and the pool."""

    request: int
    index: int
    token: int
    logprob: float
    round: int
    k: int
    round_s: float
    experts: tuple[ExpertUse, ...]
    agreement: float


EndReason = Literal["length", "stop", "eos", "cancelled", "halted", "error"]


@dataclass(frozen=True, slots=True)
class Ended:
    request: int
    reason: EndReason
    tokens: int
    failovers: int
    local_only_tokens: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something a person should see while an answer goes on, such as fewer experts than asked for."""

    request: int
    text: str


@dataclass(frozen=True, slots=True)
class Weighed:
    """What an expert was found to be worth for a text: `nats` per token of it (None: it told nothing), and its share among those
    that were probed (replicas divide that of their model)."""

    peer: PeerId
    model: str
    nats: float | None
    share: float
    kept: bool


@dataclass(frozen=True, slots=True)
class ExpertsWeighed:
    """Whom an answer asks, and why: all experts that were probed with its prompt, best first. `known`: how many could have been."""

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


NodeEvent = TokenChosen | Ended | Noticed | ExpertsWeighed | ExpertFound | ExpertLost | PeerSeen


# --- effects -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Queue one message for a connected peer. Never blocks; a full queue loses the peer (`PeerLost`)."""

    peer: PeerId
    message: ExpertMessage


@dataclass(frozen=True, slots=True)
class Dial:
    """Answered by `PeerConnected` or `DialFailed`."""

    peer: PeerId
    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hangup:
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class RunScore:
    """Give one round to the local engine; answered by `Scored` with the same `order`."""

    order: int
    key: SessionKey
    request: Score


@dataclass(frozen=True, slots=True)
class CloseSession:
    """The engine may drop this session's cache."""

    key: SessionKey


@dataclass(frozen=True, slots=True)
class Advertise:
    """Sign the record, put it into the DHT under our peer id, and provide the vocabulary's key."""

    record: ExpertRecord


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell the DHT no more that we have an expert for this vocabulary."""

    vocab_fingerprint: bytes


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the DHT who provides experts for this vocabulary; answered by `AddressesFound`, if by anything."""

    vocab_fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Penalise:
    """A peer broke the protocol. The network counts strikes and disconnects at the third."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Save:
    """Durable before any later effect begins."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Emit:
    event: NodeEvent


Effect = Send | Dial | Hangup | RunScore | CloseSession | Advertise | Withdraw | LookUp | Penalise | Save | Emit
