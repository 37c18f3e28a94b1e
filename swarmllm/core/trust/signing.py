"""Session signing on the expert's side: it keeps a hash of what it was asked and has answered, and
signs that when it is asked to.

A session is signed once, and what it costs is bounded by that: one signature for each session that
was opened, and 32 bytes for each that is open.
"""

from __future__ import annotations

from collections.abc import Callable

from swarmllm.core.effects import Send
from swarmllm.core.facts import Fact, PeerGone, SessionAnswered, TokensForbidden
from swarmllm.core.inputs import AskingEnded, Input, Received
from swarmllm.core.part import Part, Told
from swarmllm.core.serving.admission import SESSIONS_PER_PEER_MAX
from swarmllm.core.trust.transcript import Chain, begin
from swarmllm.messages import (
    Close,
    Halted,
    Open,
    PeerId,
    SessionRecord,
    SessionSigned,
    SignSession,
)

Seal = Callable[[SessionRecord], bytes]


class SessionSigning(Part):
    """`seal` puts a record into an envelope under this node's key."""

    inputs = (
        *(Open, Close, SignSession, Halted),
        *(SessionAnswered, PeerGone, AskingEnded, TokensForbidden),
    )

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._chains: dict[PeerId, dict[int, Chain]] = {}

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case Received(peer=peer, message=Open(session=session, model_digest=digest)):
                self._open(peer, session, digest)
            case SessionAnswered(peer=peer, question=question, reply=reply):
                chain = self._chains.get(peer, {}).get(question.session)
                if chain is not None:
                    chain.add(question, reply)
            case Received(peer=peer, message=SignSession(session=session)):
                return [Send(peer, self._signed(peer, session))]
            case Received(peer=peer, message=Close(session=session)):
                self._chains.get(peer, {}).pop(session, None)
            case Received(peer=peer) | PeerGone(peer=peer) | AskingEnded(peer=peer):
                self._chains.pop(peer, None)
            case TokensForbidden():
                self._chains.clear()
            case _:
                pass
        return ()

    def _open(self, peer: PeerId, session: int, digest: bytes) -> None:
        """As in admission: with too many, the oldest goes."""
        chains = self._chains.setdefault(peer, {})
        if session not in chains and len(chains) >= SESSIONS_PER_PEER_MAX:
            del chains[next(iter(chains))]
        chains[session] = Chain(digest, begin(session, digest))

    def _signed(self, peer: PeerId, session: int) -> SessionSigned:
        chain = self._chains.get(peer, {}).pop(session, None)
        if chain is None or not chain.rounds:
            return SessionSigned(session, b"")
        record = SessionRecord(session, chain.model_digest, chain.rounds, chain.link)
        return SessionSigned(session, self._seal(record))
