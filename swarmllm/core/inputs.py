"""The inputs of `core.node.Node.handle`: facts in the past tense, from the network, the engine, the
disk, the owner and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarmllm.core.agent.cycle import Event as AgentEvent
from swarmllm.core.agent.tasks import Order as TaskOrder
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.trust.receipt import Signed
from swarmllm.core.values import EngineLoad, GenerateRequest, ModelCard
from swarmllm.messages import ExpertMessage, ExpertReply, PeerId
from swarmllm.messages.declare import HALT


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """A stream of this channel to the peer is up, both ways, in place of any before."""

    peer: PeerId
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    peer: PeerId
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """One frame of a channel, without its length."""

    peer: PeerId
    frame: bytes
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class RecordOffered:
    """A signed record of a channel that came by gossip (from `forwarder`, inside the validator) or
    by hand (None: from our own operator, or from a file); answered at once by `RecordChecked` with
    the same `check`."""

    check: int
    record: bytes
    forwarder: PeerId | None = None
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class Persisted:
    """The `Persist` of this number is on disk in both copies (`ok`), or could not be written."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class OwnerStops:
    """The owner's own stop, of this node alone: no key, no network."""


@dataclass(frozen=True, slots=True)
class OwnerStarts:
    """The owner takes the own stop back, and answers for a lost record of halts."""


@dataclass(frozen=True, slots=True)
class Woke:
    """This process did not run for a while: stopped, starved, or its machine was asleep. Orders may
    have passed it by."""


@dataclass(frozen=True, slots=True)
class TicketMade:
    """The owner invites into a closed swarm: whoever shows this ticket is let in, `uses` peers in
    all, until `ends_ms`."""

    ticket: bytes
    uses: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class OwnerOffers:
    """The owner offers this node's expert to others, or not: then only this node uses it."""

    is_offered: bool


@dataclass(frozen=True, slots=True)
class LendingChanged:
    """The owner's rules say that this node serves nobody now, and why; or (empty) that it serves
    again."""

    reason: str


HaltInput = (
    ChannelOpened
    | ChannelClosed
    | FrameReceived
    | RecordOffered
    | Persisted
    | OwnerStops
    | OwnerStarts
    | Woke
)


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection is up and our own expert stream on it is open: `Send` works from now on. `host`
    is the address at its other end, as this machine sees it; empty: not known. `is_relayed`: it is
    that of a relay, and the peer behind it."""

    peer: PeerId
    host: str = ""
    is_relayed: bool = False


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """A direct connection, to this host, takes the place of the one through a relay; nothing is
    lost."""

    peer: PeerId
    host: str


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class AskingEnded:
    """The peer ended the stream on which it asked us, or opened another one: its sessions here are
    over, the connection is not."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PingMeasured:
    peer: PeerId
    rtt_s: float


@dataclass(frozen=True, slots=True)
class AddressesFound:
    """Somebody who might be worth dialling, from the LAN, a bootstrap address, the DHT or an
    invite."""

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
    """The local engine's answer to the `RunScore` with the same `order`. Its `session` and `round`
    repeat the request's."""

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
    order: GenerateRequest


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The local user wants no more of this answer (`stop`: a stop string was found)."""

    request: int
    reason: Literal["cancelled", "stop"]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """`next_deadline()` has come."""


@dataclass(frozen=True, slots=True)
class NodeStops:
    """This node is about to end: what should outlive it is saved now, or not at all."""


@dataclass(frozen=True, slots=True)
class VocabularyLearned:
    """A node without a model can encode text of this vocabulary now, and asks experts of it."""

    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class TokenizerSought:
    """Fetch the tokenizer of these digests from one of these peers; answered by `TokenizerFetched`
    or `TokenizerMissing`. One at a time: a new one takes the place of the last."""

    fingerprint: bytes
    chat_digest: bytes
    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class TokenizerSealed:
    """Our own model's tokenizer, as others get it; empty if it cannot be had."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TokenizerJudged:
    """Whether what was fetched is what its digests name."""

    is_good: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """The `AppendToLedger` with this number, of an entry of this kind, is on disk (`ok`), or cannot
    be written."""

    kind: LedgerKind
    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class LedgerOpened:
    """Our log is open, with so many entries and this Merkle root. `note` is our last checkpoint
    (empty: none), `heads` are the last ones of neighbours, `alarms` what we found of them, and
    `acknowledged` which of these our owner has looked at (SHA-256 of each)."""

    size: int
    root: bytes
    note: bytes
    heads: tuple[tuple[PeerId, bytes], ...]
    alarms: tuple[bytes, ...]
    acknowledged: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnerAcknowledges:
    """The owner has looked at the alarm with this SHA-256."""

    alarm: bytes


@dataclass(frozen=True, slots=True)
class LedgerGrew:
    """Our log has `size` entries on disk now, with this Merkle root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class LedgerFaulty:
    """Our ledger cannot be written or is not what it was, in a sentence; empty: it can again."""

    sentence: str


@dataclass(frozen=True, slots=True)
class CheckpointKept:
    """Our checkpoint of this size is on disk (`ok`), or could not be written."""

    size: int
    ok: bool


@dataclass(frozen=True, slots=True)
class HeadKept:
    """The `KeepHead` with this note is on disk (`ok`), or could not be written."""

    peer: PeerId
    note: bytes
    ok: bool


@dataclass(frozen=True, slots=True)
class ConsistencyProved:
    """The answer to `ProveConsistency`; None: our log has no such history."""

    peer: PeerId
    old: int
    new: int
    hashes: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The values of the `Commit` with this number are on disk (`ok`), or could not be written:
    `fault` says why, in a sentence."""

    number: int
    ok: bool
    fault: str = ""


LedgerInput = (
    Recorded
    | LedgerOpened
    | LedgerGrew
    | LedgerFaulty
    | CheckpointKept
    | HeadKept
    | ConsistencyProved
    | OwnerAcknowledges
)


@dataclass(frozen=True, slots=True)
class ReportOffered:
    """This node's user has handed it a validation report, which was read and found good. `verdict`
    is numbered as in `messages.governance.ReportRead`."""

    evidence: bytes
    setting: int
    value: int
    verdict: int


@dataclass(frozen=True, slots=True)
class AgentDone:
    """What came of the `RunAgent` with this number. `experts` are those that were looked at, each
    with the domains that it claims."""

    number: int
    event: AgentEvent
    experts: tuple[tuple[PeerId, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class CycleWanted:
    """The owner wants a cycle of this domain now."""

    domain: str


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A task for the agent, which was checked; `unix_ms` is the time."""

    order: TaskOrder
    unix_ms: int


@dataclass(frozen=True, slots=True)
class ReceiptOffered:
    """This node's user wants another holder to look at a signed session of a receipt, which was
    read and found good. What comes of it stands under this number."""

    number: int
    signed: Signed


@dataclass(frozen=True, slots=True)
class ContradictionProved:
    """This expert has signed two replies to one question that contradict each other, which this
    node has seen itself."""

    peer: PeerId
    model_digest: bytes
    why: str


AgentInput = AgentDone | CycleWanted | TaskSubmitted
PartInput = (
    TokenizerSought
    | TokenizerSealed
    | TokenizerJudged
    | LedgerInput
    | Committed
    | ReportOffered
    | ReceiptOffered
    | ContradictionProved
    | AgentInput
    | TicketMade
)
"""What only a part of the node wants."""

ChangeInput = (
    PeerConnected
    | PeerMoved
    | PeerLost
    | NodeStops
    | AskingEnded
    | PingMeasured
    | AddressesFound
    | DialFailed
    | EngineReady
    | EngineLoadChanged
    | EngineLost
    | AddressesChanged
    | VocabularyLearned
    | OwnerOffers
    | LendingChanged
)
"""What changes in the world around the node, wanted or not."""

Input = ChangeInput | Received | Scored | Asked | Cancelled | HaltInput | TimerFired | PartInput

NetworkInput = (
    PeerConnected
    | PeerMoved
    | PeerLost
    | AskingEnded
    | PingMeasured
    | AddressesFound
    | DialFailed
    | Received
    | AddressesChanged
)
"""The inputs that a Network adapter yields as they happen (what concerns the kill switch comes
through its door instead)."""
