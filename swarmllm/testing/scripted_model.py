"""An engine without a model: the cache rules of the real one over distributions drawn from a seed.

Pure and synchronous, so that the simulator, the step-driven tests and the trio double all share it.
Two models with one seed are replicas: they give the same bytes for the same text, whatever way it
reached them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_VOCABULARY,
    ExpertReply,
    Need,
    Refused,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
)
from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list, likeliest_id
from swarmllm.wire.sparse_encoding import encode_allowed, encode_logits
from swarmllm.wire.token_set import largest

SPREAD = 3.0  # Standard deviation of the logits: peaked enough that a greedy choice is clear.


@dataclass(slots=True)
class Held:
    """The tokens of one session; `digests` has one entry more."""

    tokens: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=lambda: [context.EMPTY])


class ScriptedModel:
    """`sessions_max` caches; the least recently used one is dropped for a new one, as its owner
    finds out by `Need`."""

    def __init__(
        self,
        name: str = "scripted",
        seed: int = 1,
        vocab_size: int = 512,
        context_max: int = 4096,
        sessions_max: int = 16,
    ) -> None:
        digest = context.extend(context.EMPTY, seed) * 4
        self.card = ModelCard(name, digest, bytes(32), vocab_size, 1_000_000, context_max)
        self.seed = seed
        self._sessions_max = sessions_max
        self._held: OrderedDict[SessionKey, Held] = OrderedDict()

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(0, self._sessions_max - len(self._held), self._sessions_max, 100.0)

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        """Of the token that follows the text with this digest; float32[vocab_size]."""
        rng = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        return (rng.standard_normal(self.card.vocab_size) * SPREAD).astype(np.float32)

    def list_after(self, digest: bytes, entries_max: int, tail_max: int) -> bytes:
        """The sparse list of the token that follows the text with this digest."""
        return encode_logits(self.logits(digest), entries_max, tail_max)

    def list_among(self, digest: bytes, allowed: bytes, entries_max: int) -> tuple[bytes, int]:
        """The same among the tokens of a set, and what a target log-probability says of the set."""
        found = encode_allowed(self.logits(digest), allowed, entries_max, 0)
        assert found is not None
        return found

    def score(self, key: SessionKey, request: Score) -> ExpertReply:
        """What a real engine answers that has time."""
        steps = request.steps if isinstance(request, ScoreDraft) else 0
        if request.base + len(request.tokens) + steps > self.card.context_max:
            return Refused(request.session, request.round, REFUSED_CONTEXT)
        held = self._held.get(key)
        if held is None:
            while len(self._held) >= self._sessions_max:
                self._held.popitem(last=False)
            held = self._held[key] = Held()
        self._held.move_to_end(key)
        if request.base > len(held.tokens):
            return Need(request.session, request.round, len(held.tokens))
        if held.digests[request.base] != request.context_hash:
            return Need(request.session, request.round, 0)
        del held.tokens[request.base :], held.digests[request.base + 1 :]
        for token in request.tokens:
            held.tokens.append(token)
            held.digests.append(context.extend(held.digests[-1], token))
        after = held.digests[request.base + 1 :]
        if isinstance(request, ScoreAllowed):
            return self._allowed(request, after[request.answer[0]])
        lists = tuple(
            self.list_after(after[i], request.entries_max, request.tail_max) for i in request.answer
        )
        for _ in range(steps):
            last = decode_list(lists[-1], request.entries_max, self.card.vocab_size)
            held.tokens.append(likeliest_id(last))
            held.digests.append(context.extend(held.digests[-1], held.tokens[-1]))
            after_it = self.list_after(held.digests[-1], request.entries_max, request.tail_max)
            lists = (*lists, after_it)
        targets = b"".join(
            self.target_after(after[i], request.tokens[i + 1]).to_bytes(2, "big")
            for i in request.targets
        )
        return Scores(
            request.session, request.round, request.epoch, lists, targets, 0, 1000, NO_HALT_DIGEST
        )

    def _allowed(self, request: ScoreAllowed, digest: bytes) -> ExpertReply:
        if largest(request.allowed) >= self.card.vocab_size:
            return Refused(request.session, request.round, REFUSED_VOCABULARY)
        data, mass = self.list_among(digest, request.allowed, request.entries_max)
        said = mass.to_bytes(2, "big")
        session, number, epoch = request.session, request.round, request.epoch
        return Scores(session, number, epoch, (data,), said, 0, 1000, NO_HALT_DIGEST)

    def close(self, key: SessionKey) -> None:
        self._held.pop(key, None)

    def forget(self) -> None:
        """All caches are gone, as with the process that held them."""
        self._held.clear()

    def target_after(self, digest: bytes, token: int) -> int:
        """-1024 times the log-probability of `token` after the text with this digest, at most
        65535."""
        logits = self.logits(digest).astype(np.float64)
        top = logits.max()
        nats = top + np.log(np.exp(logits - top).sum()) - logits[token]
        return min(65_535, round(float(nats) * 1024))
