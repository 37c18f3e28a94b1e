"""Samples of what an expert signs of a session, and the chain of one (EXPERT-18)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from swarmllm import messages as m
from swarmllm.core.trust import transcript
from swarmllm.wire.codec import encode

DIGEST: Final = sha256(b"model").digest()
CONTROL: Final = bytes(range(8))
SESSION: Final = m.SessionRecord(7, DIGEST, 12, sha256(b"chain").digest())
SESSIONS: Final = (
    m.SignSession(7),
    m.SessionSigned(7, b"\1" * m.SESSION_SEALED_MAX),
    m.SessionSigned(7, b""),
    SESSION,
)


def broken_sessions() -> dict[str, bytes]:
    head = b"\x93\x15\x07\xc5\x01\x01"
    return {"more than a signed session takes": head + bytes(m.SESSION_SEALED_MAX + 1)}


def transcript_vectors(questions: Sequence[m.Score]) -> dict[str, object]:
    answers = (
        m.Scores(7, 1, 0, (b"\1", b"\2"), bytes.fromhex("0400ffff"), 120, 65_536, CONTROL),
        m.Scores(7, 2, 0, (b"\3", b"\4"), b"", 1, 2, bytes(8)),
        m.Scores(7, 3, 1, (b"\5",), b"\4\0", 0, 0, CONTROL),
    )
    rounds = list(zip(questions, answers, strict=True))
    chain = transcript.Chain(DIGEST, transcript.begin(7, DIGEST))
    links = [chain.link]
    for score, scores in rounds:
        chain.add(score, scores)
        links.append(chain.link)
    return {
        "what": "A session with this number and model digest: what was asked and answered, and the"
        " links of its chain, the first before anything was asked (EXPERT-18).",
        "session": 7,
        "model_digest": DIGEST.hex(),
        "rounds": [
            {"question": encode(score).hex(), "answer": encode(scores).hex()}
            for score, scores in rounds
        ],
        "links": [link.hex() for link in links],
    }
