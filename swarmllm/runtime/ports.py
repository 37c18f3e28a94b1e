"""The ports: what the driver needs from the world. A Protocol stands here because two
implementations do: the real one in `adapters` and a double in `testing`; both pass the same
contract test (`tests/contracts/`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.effects import NodeEffect
from swarmllm.core.grammar import Grammar, GrammarSource
from swarmllm.core.inputs import EngineLoadChanged, EngineLost, EngineReady, Input, NetworkInput
from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.core.vocabulary import Span, Vocabulary
from swarmllm.messages import (
    LEDGER_FRAME_MAX,
    TOKENIZER_FRAME_MAX,
    ExpertMessage,
    ExpertReply,
    Halted,
    PeerId,
    Score,
)
from swarmllm.messages.declare import GOV, HALT, LEDGER, MEMBER, TOKENIZER
from swarmllm.messages.goodbye import OTHER
from swarmllm.messages.governance import GOV_FRAME_MAX, TERMS_MAX
from swarmllm.messages.halt import CHARTER_RECORD_MAX, HALT_FRAME_MAX
from swarmllm.messages.membership import MEMBER_FRAME_MAX

HALT_PROTOCOL: Final = "/swarmllm/halt/2"
TOKENIZER_PROTOCOL: Final = "/swarmllm/tokenizer/1"
GOV_PROTOCOL: Final = "/swarmllm/gov/1"
LEDGER_PROTOCOL: Final = "/swarmllm/ledger/1"
MEMBER_PROTOCOL: Final = "/swarmllm/member/1"


class Machine(Protocol):
    """What the driver drives: `core.node.Node`, or a test's puppet."""

    def handle(self, event: Input, now: float) -> Sequence[NodeEffect]: ...

    def next_deadline(self) -> float: ...


class Door(Protocol):
    """Where the network brings what comes on a channel, the moment it arrives: synchronous calls
    within the event loop, past every queue, because an order to stop must not wait behind the work
    that it stops. Each takes under 1 ms and never raises."""

    def opened(self, peer: PeerId) -> None:
        """A stream of the channel to the peer is up (both ways), in place of any before."""

    def closed(self, peer: PeerId) -> None: ...

    def received(self, peer: PeerId, frame: bytes) -> None:
        """One frame, without its length, of at most the channel's `frame_max` bytes."""

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        """A record on the channel's topic, of at most its `record_max` bytes: whether to pass it
        on."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A protocol between peers beside the expert protocol: one stream to each peer, kept open, and
    one gossip topic (empty: none).

    Sizes are bytes. `urgent` streams have the right of way over all others of a connection: the
    kill switch's. Budgets per peer are the network's own (`NetworkLimits`), one of each for every
    channel.
    """

    name: str
    protocol: str
    topic: str
    frame_max: int
    record_max: int
    door: Door
    urgent: bool = False


def halt_channel(door: Door, swarm: str) -> Channel:
    """The kill switch's. `swarm` is the id of the charter's swarm in hexadecimal, or the swarm's
    name: nodes of one name under different charters would else be handed orders that are none of
    theirs."""
    return Channel(
        HALT,
        HALT_PROTOCOL,
        f"/swarmllm/{swarm}/halt/2",
        HALT_FRAME_MAX,
        CHARTER_RECORD_MAX,
        door,
        urgent=True,
    )


def tokenizer_channel(door: Door) -> Channel:
    """That of tokenizers for peers without a model. No topic: nothing of it is told to all."""
    return Channel(TOKENIZER, TOKENIZER_PROTOCOL, "", TOKENIZER_FRAME_MAX, 0, door)


def governance_channel(door: Door, swarm: str) -> Channel:
    """That of proposals and votes; `swarm` as in `halt_channel`."""
    return Channel(GOV, GOV_PROTOCOL, f"/swarmllm/{swarm}/gov/1", GOV_FRAME_MAX, TERMS_MAX, door)


def ledger_channel(door: Door) -> Channel:
    """That by which neighbours witness each other's logs."""
    return Channel(LEDGER, LEDGER_PROTOCOL, "", LEDGER_FRAME_MAX, 0, door)


def member_channel(door: Door) -> Channel:
    """That on which peers of a closed swarm show each other that they belong to it."""
    return Channel(MEMBER, MEMBER_PROTOCOL, "", MEMBER_FRAME_MAX, 0, door)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a network counts: `crowding`, connections that ended so far because there was no room
    for all that peers wanted, by the bound that ended them; `connections` now, by their kind; bytes
    of gossip so far; `relay`, what a relay lends and has carried, empty where this node is none;
    `punching`, how often a relay gave way to a direct connection."""

    crowding: Mapping[str, int] = field(default_factory=dict)
    connections: Mapping[str, int] = field(default_factory=dict)
    gossip_sent_bytes: int = 0
    gossip_received_bytes: int = 0
    relay: Mapping[str, int] = field(default_factory=dict)
    punching: Mapping[str, int] = field(default_factory=dict)


class Network(Protocol):
    """Connections, streams, gossip and DHT. Lives inside `async with`; nothing is sent or accepted
    outside."""

    @property
    def peer(self) -> PeerId: ...

    @property
    def addrs(self) -> tuple[str, ...]:
        """The multiaddrs that we announce, each with `/p2p/<peer>`."""

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[NetworkInput]:
        """What happened, in order. Bounded: a consumer that stops reading makes the network stop
        reading its peers."""

    def send(self, peer: PeerId, message: ExpertMessage) -> None:
        """Requests go out on our own stream to the peer, replies on the peer's stream to us. Never
        blocks, never raises: not connected, or a full queue, shows as `PeerLost`."""

    def send_frame(
        self, channel: str, peer: PeerId, frame: bytes, *, droppable: bool = False
    ) -> None:
        """Queue one frame (without its length) on the channel's stream to the peer; see
        `core.halt.link.Outbox`. Never blocks, never raises. `droppable`: may be left out when the
        peer is slow."""

    def publish(self, channel: str, record: bytes) -> None:
        """One signed record on the channel's topic, without waiting."""

    def end_streams(self, message: Halted) -> None:
        """On every expert stream, both ways: drop what is queued and send this instead."""

    def dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None: ...

    def hang_up(self, peer: PeerId, reason: str, goodbye: int = OTHER) -> None:
        """`goodbye` is the code that the peer reads (`messages.goodbye`)."""

    def penalise(self, peer: PeerId, reason: str) -> None:
        """One strike; the third disconnects the peer and refuses it for ten minutes."""

    def advertise(self, key: bytes, record: bytes) -> None:
        """Provide `key` (32 bytes) in the DHT and put the signed record under our own peer id; in
        the background. With an empty record: provide it no more."""

    def look_up(self, key: bytes) -> None:
        """Find providers of `key` in the background; each shows as `AddressesFound`."""


class Engine(Protocol):
    """The model in its worker process. Lives inside `async with`."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[EngineReady | EngineLoadChanged | EngineLost]: ...

    @property
    def load(self) -> EngineLoad: ...

    async def score(self, key: SessionKey, request: Score) -> ExpertReply:
        """Never raises for want of room or for a divergent context: Busy, Need and Refused are
        answers. `REFUSED_ENGINE` when the worker is down. Cancelling the call drops the work if it
        has not begun."""

    def close(self, key: SessionKey) -> None: ...

    def stop(self) -> None:
        """No token more, from now on, be the worker in the middle of a batch or not; whoever is
        still busy after 50 ms is killed. Also before the engine is entered: then nothing is
        computed until `resume`."""

    def resume(self) -> None: ...


class Keyring(Protocol):
    """The node's Ed25519 identity."""

    @property
    def peer(self) -> PeerId: ...

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool: ...


KEY_BYTES_MAX: Final = 128  # Of a store's key in UTF-8: a kind and a peer id need 70.
# The largest value, all saved addresses, is a few hundred KiB; longer things are files.
VALUE_BYTES_MAX: Final = 1 << 20


class Store(Protocol):
    """Small durable values, within the two bounds above. `save` returns when the value would
    survive a power cut; LocalError when it cannot (a full disk), and then the old value is still
    there."""

    def load(self, key: str) -> bytes | None: ...

    def save(self, key: str, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class LedgerWrites:
    """What is written into a ledger together: all of it or nothing. `leaves` as they are hashed;
    `checkpoints` (size, note) and `cosignatures` (size, witness, line) of our own log; `heads` the
    notes of others' logs (empty: forget), `alarms` what we signed about them."""

    leaves: tuple[bytes, ...] = ()
    checkpoints: tuple[tuple[int, bytes], ...] = ()
    cosignatures: tuple[tuple[int, PeerId, bytes], ...] = ()
    heads: tuple[tuple[PeerId, bytes], ...] = ()
    alarms: tuple[tuple[PeerId, bytes], ...] = ()


class Ledger(Protocol):
    """An append-only log with its Merkle tree, on disk. Called from any thread, one call at a
    time."""

    @property
    def size(self) -> int: ...

    @property
    def root(self) -> bytes: ...

    def write(self, writes: LedgerWrites) -> None:
        """Durable when it returns. LocalError if it cannot be, and then nothing was written."""

    def holds(self, payload: bytes) -> bool:
        """Whether some entry has this payload."""

    def prove(self, old: int, new: int) -> tuple[bytes, ...] | None:
        """The consistency proof of two sizes; None if the log never had so many entries."""

    def root_at(self, size: int) -> bytes | None:
        """The root of the first `size` entries; None if there are not so many."""

    @property
    def note(self) -> bytes:
        """Our last checkpoint; empty if there is none."""

    def heads(self) -> dict[PeerId, bytes]:
        """The last checkpoints of others' logs."""

    def alarms(self) -> dict[PeerId, bytes]:
        """What we signed about others' logs."""

    def close(self) -> None: ...


class Grammars(Protocol):
    """Compiles what an answer must be (`core.grammar`)."""

    async def compile(self, source: GrammarSource, vocabulary: Vocabulary) -> Grammar:
        """UsageError, one sentence, for a source that cannot be understood or costs too much. It
        does not hold up the event loop."""


class Text(Protocol):
    """The text side of the models in the swarm: a vocabulary and its tokenizer."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Only once `ready` has returned."""

    async def ready(self) -> Vocabulary:
        """The vocabulary, as soon as it is known: a node without a model learns that of the swarm
        after its start. LocalError if that takes too long."""

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        """The ids of a conversation, as the model's chat template writes it, up to where the
        assistant's next message begins. Control tokens come from the template alone. UsageError if
        the template refuses the conversation; LocalError if it fails or takes too long.
        """

    async def encode(self, text: str | Sequence[Span], *, add_bos: bool = False) -> list[int]:
        """The ids of one text, given whole or in spans; `str` is one span without control tokens.

        Spans are encoded as one text: words go across their borders, and so does nothing else: a
        control token is parsed within one span (or several neighbours) that says `parse_special`.
        `add_bos`: BOS in front if texts of this vocabulary have one, exactly once, also where the
        text spells it. UsageError for a text that is not valid UTF-8; LocalError if the tokenizer
        fails.
        """
