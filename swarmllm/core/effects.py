"""The effects that `core.node.Node.handle` returns: orders that the driver or the simulator
performs in list order.

A `Save` completes before any later effect begins."""

from __future__ import annotations

from dataclasses import dataclass

from swarmllm.core.agent.cycle import Work
from swarmllm.core.agent.proposers import Situation
from swarmllm.core.events import HaltEvent, NodeEvent
from swarmllm.core.ledger.entry import LedgerEntry
from swarmllm.core.values import SessionKey
from swarmllm.messages import ExpertMessage, ExpertRecord, Halted, PeerId, Score
from swarmllm.messages.declare import HALT
from swarmllm.messages.goodbye import OTHER


@dataclass(frozen=True, slots=True)
class Send:
    """Queue one message for a connected peer. Never blocks; a full queue loses the peer
    (`PeerLost`)."""

    peer: PeerId
    message: ExpertMessage


@dataclass(frozen=True, slots=True)
class Dial:
    """Answered by `PeerConnected` or `DialFailed`."""

    peer: PeerId
    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hangup:
    """`goodbye` is the code that the peer reads (`messages.goodbye`)."""

    peer: PeerId
    reason: str
    goodbye: int = OTHER


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
    """Ask the DHT who provides experts for this vocabulary; answered by `AddressesFound`, if by
    anything."""

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
class Commit:
    """Make these values durable, in this order and in the background; answered by `Committed` with
    the same number. Whoever may not act on what could be forgotten waits for that."""

    number: int
    values: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class RecordKept:
    """What was offered by hand with this `check`, and taken, is on disk; or it is not, for this
    reason (`fault`), and would be lost if the node ended now. For channels whose records are
    written down by `Commit`."""

    check: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Emit:
    event: NodeEvent


Effect = (
    Send
    | Dial
    | Hangup
    | RunScore
    | CloseSession
    | Advertise
    | Withdraw
    | LookUp
    | Penalise
    | Save
    | Commit
    | RecordKept
    | Emit
)


@dataclass(frozen=True, slots=True)
class StopNow:
    """Set the shared flag: workers stop at their next token check, those still busy 50 ms later are
    killed, and no inference message leaves any more. Inference effects that were decided before
    this one and not yet performed are dropped."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relay:
    """Write `Records((record,))` to the halt streams of these peers. `is_live`: a sign of life,
    which a slow peer may miss."""

    record: bytes
    to: tuple[PeerId, ...]
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class RecordChecked:
    """The answer to the `RecordOffered` with the same `check`. `outcome` is what the channel's part
    says of it (the kill switch: `core.halt.state.Outcome`). `passes`: gossip may pass the record
    on."""

    check: int
    outcome: object
    passes: bool


@dataclass(frozen=True, slots=True)
class PublishRecord:
    """Publish the record by gossip, on the topic of its channel."""

    record: bytes
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class EndStreams:
    """Send `message` on every expert stream, both ways, and drop all sessions; running answers end
    with reason "halted"."""

    message: Halted


@dataclass(frozen=True, slots=True)
class Persist:
    """Write both copies (see `core.halt.state_file`) and then call `HaltMachine.persisted(number,
    ok)`. Only one is ever outstanding."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RevertChanges:
    """A halt takes the last `count` changes back, each once: the halt is on disk now.
    `core.governance.outcome` has seen to it already; this is for people and for the log."""

    count: int


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Clear the shared flag: nothing halts this node any more, and that is on disk."""


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Queue one frame for a peer on a channel; see `runtime.ports.Channel`."""

    peer: PeerId
    message: object
    """A message that is declared for streams of the channel."""
    channel: str = HALT


@dataclass(frozen=True, slots=True)
class Announce:
    event: HaltEvent


@dataclass(frozen=True, slots=True)
class SealTokenizer:
    """Make our own model's tokenizer ready for others; answered by `TokenizerSealed`."""


@dataclass(frozen=True, slots=True)
class TokenizerFetched:
    """What a peer sent as the tokenizer that was sought; answered by `TokenizerJudged`."""

    fingerprint: bytes
    chat_digest: bytes
    peer: PeerId
    data: bytes


@dataclass(frozen=True, slots=True)
class TokenizerMissing:
    """Nobody gave it."""

    reason: str


@dataclass(frozen=True, slots=True)
class AppendToLedger:
    """Write one entry into the ledger, in the background; nothing waits for it. With a `number`
    (not 0) it is answered by `Recorded` once it is on disk, or could not be written: whoever may
    not act on what is not recorded acts on that. Without one it is tried again until it is
    written."""

    entry: LedgerEntry
    number: int = 0


@dataclass(frozen=True, slots=True)
class KeepCheckpoint:
    """Write our own signed checkpoint to the disk; answered by `CheckpointKept`."""

    size: int
    note: bytes


@dataclass(frozen=True, slots=True)
class KeepCosignature:
    """A witness's signature line under our checkpoint of this size."""

    size: int
    witness: PeerId
    line: bytes


@dataclass(frozen=True, slots=True)
class KeepHead:
    """Write the last checkpoint of a neighbour's log to the disk (empty: forget it); answered by
    `HeadKept`, before which it is not cosigned."""

    peer: PeerId
    note: bytes


@dataclass(frozen=True, slots=True)
class KeepAlarm:
    """Write our signed alarm about a neighbour's log to the disk."""

    peer: PeerId
    data: bytes


@dataclass(frozen=True, slots=True)
class DoubtLedger:
    """Our ledger is not what it was, in a sentence: nothing more is written into it."""

    sentence: str


@dataclass(frozen=True, slots=True)
class ProveConsistency:
    """Make the proof that our log of `new` entries begins with that of `old`; answered by
    `ConsistencyProved`."""

    peer: PeerId
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class RunAgent:
    """Do one thing that the agent of this domain wants, in the background; answered by `AgentDone`
    with the same number. An `Ask` goes to `experts` (None: to any), about the `situation` and
    what its owner has `said`, and is number `attempt` of its cycle."""

    number: int
    domain: str
    work: Work
    situation: Situation | None = None
    said: str = ""
    experts: frozenset[PeerId] | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StopAgent:
    """Give up what this number is about; no answer is wanted."""

    number: int


AgentEffect = RunAgent | StopAgent

LedgerEffect = (
    AppendToLedger
    | KeepCheckpoint
    | KeepCosignature
    | KeepHead
    | KeepAlarm
    | ProveConsistency
    | DoubtLedger
)
"""Performed in the background, those that wait together at once."""

TokenizerEffect = SealTokenizer | TokenizerFetched | TokenizerMissing

HaltEffect = (
    StopNow
    | Relay
    | PublishRecord
    | EndStreams
    | Persist
    | RevertChanges
    | StartAgain
    | SendFrame
    | Announce
    | RecordChecked
    | Penalise
)
"""To be performed in list order; none of them waits, a `Persist` runs in the background and comes
back as `Persisted`."""

NodeEffect = Effect | HaltEffect | TokenizerEffect | LedgerEffect | AgentEffect
"""Whatever `Node.handle` returns."""
