"""What one token costs the requester itself: everything between four replies on the wire and four
new requests on it.

Frames are cut, decoded, and given to the real `Node`, which pools, draws and orders the next round;
its orders are framed again. Only the network and the experts are missing: their replies were
encoded beforehand, from full-vocabulary distributions of realistic shape. The processor time of
this thread is what counts, so that other programs on the machine do not.

The same with drafts, where the first of the four experts is the requester's own: then the time of a
round, with all steps of its draft, is divided by the positions that were asked about.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.cli.bench.report import Measurement
from swarmllm.core.capacity.exchange import Sealing
from swarmllm.core.effects import Emit, NodeEffect, RunScore, Send
from swarmllm.core.events import Ended
from swarmllm.core.inputs import Asked, EngineReady, PeerConnected, Received, Scored
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.values import EngineLoad, GenerateRequest, ModelCard, Sampling
from swarmllm.messages import (
    FRAME_MAX,
    NO_HALT_DIGEST,
    CapacityRecord,
    PeerId,
    Score,
    Scores,
    Shuffle,
)
from swarmllm.wire.codec import EXPERT_REPLIES, decode, encode
from swarmllm.wire.framing import FrameReader, frame
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.sparse_encoding import encode_logits

VOCABULARY: Final = 128_256
ENTRIES: Final = 256
PROMPT: Final = tuple(range(1000, 1032))
# Different positions, repeated; encoding them is the experts' work and not measured.
DISTRIBUTIONS: Final = 12
GOAL_MS: Final = 2.0  # At K = 4.
GOAL_DRAFTED_MS: Final = 0.3  # A position, at K = 4.
ROUND_TRIP_S: Final = 0.2  # Long enough for long drafts.
STEP_S: Final = 0.002
SEED: Final = 7
DRAFTED_TIMES: Final = 4  # As many tokens: a round brings some.
WARM_UP: Final = 4


def measure(tokens: int, say: Callable[[str], None]) -> Iterator[Measurement]:
    """One measurement for each of K = 1, 2, 4 over an answer of `tokens` tokens."""
    say("preparing full-vocabulary distributions")
    lists = _encoded_lists(4)
    for k in (1, 2, 4):
        say(f"requester at K={k}")
        milliseconds = _answer(k, tokens, lists)
        goal = GOAL_MS if k == 4 else None
        details = {
            "p95_ms": round(float(np.percentile(milliseconds, 95)), 3),
            "vocabulary": VOCABULARY,
            "entries": ENTRIES,
        }
        yield Measurement(
            "requester's own time per token",
            median(milliseconds),
            "ms",
            _floor_ms(k),
            {"k": k},
            goal,
            details,
        )
    say("requester with drafts at K=4")
    found, positions = _drafted(tokens, lists)
    yield Measurement(
        "requester's own time per position of a draft",
        median(found),
        "ms",
        _floor_ms(4),
        {"k": 4, "positions": positions},
        GOAL_DRAFTED_MS,
        {"p95_ms": round(float(np.percentile(found, 95)), 3)},
    )


def _encoded_lists(experts: int) -> list[list[bytes]]:
    """`[expert][position]` sparse lists: a common Zipf-like ranking for each position, and each
    expert's own deviation."""
    rng = np.random.default_rng(SEED)
    ranks = -1.1 * np.log(np.arange(1, VOCABULARY + 1, dtype=np.float32))
    found: list[list[bytes]] = [[] for _ in range(experts)]
    for _ in range(DISTRIBUTIONS):
        common = ranks[rng.permutation(VOCABULARY)] + rng.normal(0, 1.0, VOCABULARY).astype(
            np.float32
        )
        for own in found:
            logits = common + rng.normal(0, 0.5, VOCABULARY).astype(np.float32)
            own.append(encode_logits(logits.astype(np.float32), ENTRIES, 0))
    return found


def _node(experts: int, *, is_expert: bool = False) -> tuple[Node, list[PeerId]]:
    """A requester that knows `experts` connected experts; with `is_expert` it is one, too."""
    fingerprint = sha256(b"vocabulary").digest()
    own, *peers = [peer_id_of(sha256(bytes([i])).digest()) for i in range(experts + 1)]
    known: dict[bytes, tuple[PeerId, CapacityRecord]] = {}
    node = Node(
        NodeConfig(vocab_fingerprint=fingerprint),
        own,
        1,
        random.Random(SEED),
        Sealing(encode, known.__getitem__),
    )
    if is_expert:
        card = ModelCard("own", sha256(own.encode()).digest(), fingerprint, VOCABULARY, 1, 1 << 16)
        node.handle(EngineReady(card, EngineLoad(0, 16, 16, 16 * 100.0)), 0.0)
    for i, peer in enumerate(peers):
        node.handle(PeerConnected(peer), 0.0)
        record = CapacityRecord(
            boot=1,
            seq=1,
            model=f"expert-{i}",
            model_digest=sha256(peer.encode()).digest(),
            vocab_fingerprint=fingerprint,
            n_params=1,
            context_max=1 << 16,
            rate=16 * 100,
            queue_depth=0,
            sessions_free=16,
            sessions_max=16,
            domains=(),
            addrs=(),
            ctl_digest=NO_HALT_DIGEST,
        )
        sealed = encode(record)
        known[sealed] = peer, record
        node.handle(Received(peer, Shuffle(NO_HALT_DIGEST, (0,), (sealed,), 0), 0), 0.0)
    return node, peers


def _answer(k: int, tokens: int, lists: list[list[bytes]]) -> list[float]:
    """Milliseconds of each token of one answer, the first one (which brings the prompt) left
    out."""
    node, peers = _node(k)
    order = GenerateRequest(
        PROMPT,
        k=k,
        extra=0,
        max_tokens=tokens + 1,
        sampling=Sampling(temperature=0.8, top_p=0.95, seed=SEED),
        vocab_size=VOCABULARY,
        speculation="off",  # One token a round: that is what is measured.
    )
    now, took = 1.0, list[float]()
    effects: list[NodeEffect] = node.handle(Asked(1, order), now)
    readers = {peer: FrameReader(FRAME_MAX) for peer in peers}
    while not (ended := [e for e in effects if isinstance(e, Emit) and isinstance(e.event, Ended)]):
        place = len(took) % DISTRIBUTIONS
        replies = [
            (e.peer, frame(_reply(e.message, lists[peers.index(e.peer)][place])))
            for e in _scores(effects)
        ]
        assert len(replies) == k, f"{len(replies)} experts were asked where {k} should be"
        now += 0.01
        began = time.thread_time()
        effects = []
        for peer, data in replies:
            for whole in readers[peer].feed(data):
                message = decode(whole, EXPERT_REPLIES)
                assert isinstance(message, Scores)
                effects += node.handle(Received(peer, message, len(data)), now)
        sent = [frame(e.message) for e in effects if isinstance(e, Send)]
        took.append((time.thread_time() - began) * 1000)
        assert sent
    assert [e.event.reason for e in ended if isinstance(e.event, Ended)] == ["length"]
    return took[-tokens:]  # Before these the prompt was told, and its hidden tokens in steps.


def _drafted(tokens: int, lists: list[list[bytes]]) -> tuple[list[float], int]:
    """Milliseconds of each position that a round with a draft asks about, and how many these are in
    the middle; the first rounds left out, in which it is learned what a draft is worth."""
    node, peers = _node(3, is_expert=True)
    order = GenerateRequest(
        PROMPT,
        k=4,
        extra=0,
        max_tokens=DRAFTED_TIMES * tokens,
        sampling=Sampling(temperature=0.7, top_p=0.95, seed=SEED),
        vocab_size=VOCABULARY,
    )
    took: list[float] = []
    sizes: list[int] = []
    now, spent = 1.0, 0.0
    waiting: list[tuple[PeerId, Score]] = []
    effects: list[NodeEffect] = node.handle(Asked(1, order), now)
    while True:
        own = [e for e in effects if isinstance(e, RunScore)]
        waiting += [
            (e.peer, e.message)
            for e in effects
            if isinstance(e, Send) and isinstance(e.message, Score)
        ]
        if not own and not waiting:
            return took[WARM_UP:], int(median(sizes[WARM_UP:]))
        if own:
            now += STEP_S
            replies = [_reply_at(one.request, lists[0]) for one in own]
            began = time.thread_time()
            effects = []
            for one, reply in zip(own, replies, strict=True):
                effects += node.handle(Scored(one.order, reply), now)
            spent += time.thread_time() - began
            continue
        now += ROUND_TRIP_S
        positions = len(waiting[0][1].answer)
        answers = [
            (peer, frame(_reply_at(asked, lists[1 + peers.index(peer)]))) for peer, asked in waiting
        ]
        waiting = []
        began = time.thread_time()
        effects = []
        for peer, data in answers:
            (whole,) = FrameReader(FRAME_MAX).feed(data)
            message = decode(whole, EXPERT_REPLIES)
            assert isinstance(message, Scores)
            effects += node.handle(Received(peer, message, len(data)), now)
        _ = [frame(e.message) for e in effects if isinstance(e, Send)]
        spent += time.thread_time() - began
        if positions > 1:
            took.append(1000 * spent / positions)
            sizes.append(positions)
        spent = 0.0


def _reply_at(request: Score, lists: list[bytes]) -> Scores:
    """What an expert says that has `lists` in turns, by place in the text."""
    found = tuple(lists[(request.base + index) % DISTRIBUTIONS] for index in request.answer)
    evidence = (2048).to_bytes(2, "big") * len(request.targets)
    return Scores(
        *(request.session, request.round, request.epoch, found, evidence, 0, 2000), NO_HALT_DIGEST
    )


def _scores(effects: Sequence[NodeEffect]) -> Iterator[Send]:
    return (e for e in effects if isinstance(e, Send) and isinstance(e.message, Score))


def _reply(request: object, sparse: bytes) -> Scores:
    assert isinstance(request, Score)
    evidence = (2048).to_bytes(2, "big") * len(request.targets)
    return Scores(
        request.session,
        request.round,
        request.epoch,
        (sparse,) * len(request.answer),
        evidence,
        0,
        5000,
        NO_HALT_DIGEST,
    )


def _floor_ms(k: int) -> float:
    """The least that any requester must do, as a few numpy calls on the same machine: merge K lists
    of 256 entries and draw one."""
    rng = np.random.default_rng(SEED)
    ids = [
        np.sort(rng.choice(VOCABULARY, ENTRIES, replace=False)).astype(np.int32) for _ in range(k)
    ]
    values: list[npt.NDArray[np.float32]] = [rng.random(ENTRIES, np.float32) for _ in range(k)]
    took = []
    for _ in range(200):
        began = time.thread_time()
        together, where = np.unique(np.concatenate(ids), return_inverse=True)
        mass = np.bincount(where, weights=np.exp(np.concatenate(values)), minlength=len(together))
        np.searchsorted(np.cumsum(mass), mass.sum() / 2)
        took.append((time.thread_time() - began) * 1000)
    return median(took)
