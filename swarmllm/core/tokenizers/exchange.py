"""The tokenizer exchange: a node with a model gives its tokenizer to peers that ask, a part at a
time and at a bounded pace; a node without one fetches it from a peer.

The asker pulls: one part is under way at a time, so a peer that gives nothing costs one wait, and
one that gives slowly its share of `PEER_S`. What arrives is bounded by what was announced first,
and is not looked at here: the digests are checked, and everything else, in a process of its own,
which tells us by `TokenizerJudged`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.capacity.exchange import Allowance, Rate
from swarmllm.core.effects import (
    NodeEffect,
    Penalise,
    SealTokenizer,
    SendFrame,
    TokenizerFetched,
    TokenizerMissing,
)
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    TimerFired,
    TokenizerJudged,
    TokenizerSealed,
    TokenizerSought,
)
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    PART_BYTES,
    SEALED_MAX,
    PeerId,
    TokenizerBusy,
    TokenizerFrame,
    TokenizerPart,
    TokenizerWanted,
)
from swarmllm.messages.declare import BOTH, TOKENIZER, kinds_on
from swarmllm.messages.tokenizer import RETRY_MAX_MS
from swarmllm.wire.codec import decode

FRAMES: Final[tuple[type[TokenizerFrame], ...]] = kinds_on(TOKENIZER, BOTH)

PARTS: Final = Rate(16, 8)  # Given to one peer: 256 KiB/s, and the first half megabyte at once.
PARTS_OF_ALL: Final = Rate(32, 16)  # Half a megabyte a second of our uplink, whoever asks.
PART_S: Final = 10.0  # Until a part is there; then another peer is asked.
PEER_S: Final = 180.0  # And the whole, from one peer: 8 MiB at 47 kB/s.
BUSY_MAX: Final = 60  # Times that a peer may put us off.
SEAL_MS: Final = 500  # Deflating takes a quarter of a second.
RETRY_MIN_S: Final = 0.05
NOBODY: Final = PeerId("")


@dataclass(slots=True)
class _Fetch:
    """`others` are left to ask. Times in seconds; `ask_at`: the next question waits until then."""

    fingerprint: bytes
    chat_digest: bytes
    others: deque[PeerId]
    peer: PeerId = NOBODY
    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    part_by: float = math.inf
    peer_by: float = math.inf
    ask_at: float = math.inf
    put_off: int = 0
    faults: list[str] = field(default_factory=list)
    is_whole: bool = False

    def matches(self, frame: TokenizerPart | TokenizerBusy) -> bool:
        return (frame.fingerprint, frame.chat_digest) == (self.fingerprint, self.chat_digest)


@dataclass(frozen=True, slots=True)
class TokenizerView:
    """Bytes of the tokenizer that is being fetched; 0 of 0 if none is."""

    fetched: int
    size: int


class TokenizerExchange:
    """`core.part.Part`. `own` are the digests (fingerprint, chat digest) of our own model's
    tokenizer; None: there is none to give."""

    channel: Final = TOKENIZER
    inputs: Final[tuple[type[Input], ...]] = (TokenizerSought, TokenizerSealed, TokenizerJudged)

    def __init__(self, own: tuple[bytes, bytes] | None = None) -> None:
        self._own = own
        self._sealed: bytes | None = None
        self._sealing = False
        # Peers with a stream, by what they may still have; bounded by the connections.
        self._peers: dict[PeerId, Allowance] = {}
        self._all = Allowance(PARTS_OF_ALL)
        self._fetch: _Fetch | None = None
        self._asked: set[PeerId] = set()  # On streams that are still up: parts may come late.

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect]:
        match event:
            case ChannelOpened(peer=peer):
                self._peers[peer] = Allowance(PARTS)
                return self._begin(now) if self._fetch is not None else []
            case ChannelClosed(peer=peer):
                return self._closed(peer, now)
            case FrameReceived(peer=peer, frame=frame):
                try:
                    return self._received(peer, decode(frame, FRAMES), now)
                except RemoteError as fault:
                    return [Penalise(peer, str(fault))]
            case TokenizerSought(fingerprint=fingerprint, chat_digest=chat_digest, peers=peers):
                self._fetch = _Fetch(fingerprint, chat_digest, deque(peers))
                return self._begin(now)
            case TokenizerSealed(data=data):
                self._sealing = False
                self._sealed = data if 0 < len(data) <= SEALED_MAX else None
                if self._sealed is None:
                    self._own = None  # It cannot be had, and asking again would not help.
                return []
            case TokenizerJudged(is_good=is_good):
                return self._judged(is_good, now)
            case TimerFired():
                return self._timer(now)
            case _:
                return []

    def next_deadline(self) -> float:
        fetch = self._fetch
        return math.inf if fetch is None else min(fetch.part_by, fetch.ask_at)

    def view(self, now: float) -> TokenizerView:
        fetch = self._fetch
        return TokenizerView(0, 0) if fetch is None else TokenizerView(len(fetch.data), fetch.size)

    def _received(self, peer: PeerId, frame: TokenizerFrame, now: float) -> list[NodeEffect]:
        match frame:
            case TokenizerWanted():
                return self._wanted(peer, frame, now)
            case TokenizerPart():
                return self._part(peer, frame, now)
            case TokenizerBusy():
                return self._busy(peer, frame, now)

    # --- giving -----------------------------------------------------------------------------------

    def _wanted(self, peer: PeerId, frame: TokenizerWanted, now: float) -> list[NodeEffect]:
        digests, allowance = (frame.fingerprint, frame.chat_digest), self._peers.get(peer)
        if allowance is None:
            return []  # Its stream has just ended.
        if digests != self._own:
            return [_frame(peer, TokenizerBusy(*digests, 0))]
        if self._sealed is None:
            wait = _frame(peer, TokenizerBusy(*digests, SEAL_MS))
            if self._sealing:
                return [wait]
            self._sealing = True
            return [SealTokenizer(), wait]
        if frame.offset >= len(self._sealed):
            wrong = f"wants a tokenizer of {len(self._sealed)} bytes from {frame.offset} on"
            return [Penalise(peer, wrong)]
        for one in (allowance, self._all):
            if (at := one.next_at(now)) > now:
                wait_ms = min(RETRY_MAX_MS, math.ceil((at - now) * 1000))
                return [_frame(peer, TokenizerBusy(*digests, wait_ms))]
        allowance.take(now)
        self._all.take(now)
        data = self._sealed[frame.offset : frame.offset + PART_BYTES]
        return [_frame(peer, TokenizerPart(*digests, len(self._sealed), frame.offset, data))]

    # --- fetching ---------------------------------------------------------------------------------

    def _begin(self, now: float) -> list[NodeEffect]:
        """Ask the next peer, if none is being asked."""
        fetch = self._fetch
        if fetch is None or fetch.peer or fetch.is_whole:
            return []
        while fetch.others:
            peer = fetch.others.popleft()
            if peer in self._peers:
                fetch.peer, fetch.peer_by, fetch.put_off = peer, now + PEER_S, 0
                fetch.data, fetch.size = bytearray(), 0
                self._asked.add(peer)
                return self._ask(fetch, now)
        why = "; ".join(fetch.faults[-3:]) or "none of those that have it is connected"
        self._fetch = None
        return [TokenizerMissing(why)]

    def _ask(self, fetch: _Fetch, now: float) -> list[NodeEffect]:
        fetch.part_by, fetch.ask_at = now + PART_S, math.inf
        wanted = TokenizerWanted(fetch.fingerprint, fetch.chat_digest, len(fetch.data))
        return [_frame(fetch.peer, wanted)]

    def _give_up(self, why: str, now: float) -> list[NodeEffect]:
        """On this peer; the next one is asked."""
        fetch = self._fetch
        assert fetch is not None
        fetch.faults.append(f"{fetch.peer[-8:]} {why}")
        fetch.peer, fetch.part_by, fetch.ask_at = NOBODY, math.inf, math.inf
        fetch.data, fetch.is_whole = bytearray(), False
        return self._begin(now)

    def _part(self, peer: PeerId, frame: TokenizerPart, now: float) -> list[NodeEffect]:
        fetch = self._fetch
        if peer not in self._asked:
            return [Penalise(peer, "a part of a tokenizer that nobody asked for")]
        if fetch is None or peer != fetch.peer or fetch.is_whole or not fetch.matches(frame):
            return []  # Late.
        at = len(fetch.data)
        fits = frame.offset == at and len(frame.data) == min(PART_BYTES, frame.size - at)
        if not fits or (at and frame.size != fetch.size):
            wrong = (
                f"sent {len(frame.data)} bytes from {frame.offset} of {frame.size},"
                " not the part that was asked for"
            )
            return [Penalise(peer, wrong), *self._give_up(wrong, now)]
        fetch.size = frame.size
        fetch.data += frame.data
        if len(fetch.data) < fetch.size:
            if now >= fetch.peer_by:
                return self._give_up(f"takes longer than {PEER_S:.0f} s", now)
            return self._ask(fetch, now)
        fetch.is_whole, fetch.part_by = True, math.inf
        return [TokenizerFetched(fetch.fingerprint, fetch.chat_digest, peer, bytes(fetch.data))]

    def _busy(self, peer: PeerId, frame: TokenizerBusy, now: float) -> list[NodeEffect]:
        fetch = self._fetch
        if fetch is None or peer != fetch.peer or fetch.is_whole or not fetch.matches(frame):
            return []
        fetch.put_off += 1
        if frame.retry_after_ms == 0:
            return self._give_up("has it no more", now)
        if fetch.put_off > BUSY_MAX or now >= fetch.peer_by:
            return self._give_up("puts us off again and again", now)
        fetch.part_by = math.inf
        fetch.ask_at = now + max(RETRY_MIN_S, frame.retry_after_ms / 1000)
        return []

    def _judged(self, is_good: bool, now: float) -> list[NodeEffect]:
        fetch = self._fetch
        if fetch is None or not fetch.is_whole:
            return []
        if is_good:
            self._fetch = None
            return []
        wrong = "sent a tokenizer that is not what its digests name"
        return [Penalise(fetch.peer, wrong), *self._give_up(wrong, now)]

    def _closed(self, peer: PeerId, now: float) -> list[NodeEffect]:
        self._peers.pop(peer, None)
        self._asked.discard(peer)
        fetch = self._fetch
        if fetch is None or fetch.peer != peer or fetch.is_whole:
            return []
        return self._give_up("is gone", now)

    def _timer(self, now: float) -> list[NodeEffect]:
        fetch = self._fetch
        if fetch is None:
            return []
        if now >= fetch.part_by:
            return self._give_up(f"sent nothing for {PART_S:.0f} s", now)
        return self._ask(fetch, now) if now >= fetch.ask_at else []


def _frame(peer: PeerId, frame: TokenizerFrame) -> SendFrame:
    return SendFrame(peer, frame, TOKENIZER)
