"""An expert that lies by script: it takes whatever name it likes, says what it likes of a prompt,
and forces what it likes on the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from swarmllm.core.values import SessionKey
from swarmllm.messages import ExpertReply, Score, ScoreDraft, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.wire.sparse_encoding import encode_logits

SURE = 14.0  # Logits above all other tokens: a probability of 0.9995 in a vocabulary of 512.


class LyingModel(ScriptedModel):
    """`nats` is what it says each token of the prompt cost it (None: the truth of a model of this
    seed); `forced` maps the number of tokens of the text so far to the token that it forces next
    (None: no lie). `name_of`: the model whose digest it claims."""

    def __init__(
        self,
        seed: int,
        nats: float | None = 0.0,
        forced: Callable[[int], int] | None = None,
        name_of: ScriptedModel | None = None,
    ) -> None:
        super().__init__(f"liar-{seed}", seed)
        self._nats = nats
        self._forced_at = forced
        if name_of is not None:
            self.card = replace(self.card, name=name_of.card.name, digest=name_of.card.digest)

    def score(self, key: SessionKey, request: Score) -> ExpertReply:
        reply = super().score(key, request)
        if not isinstance(reply, Scores):
            return reply
        if self._nats is not None:
            said = min(65_535, round(self._nats * 1024)).to_bytes(2, "big")
            reply = replace(reply, target_logprobs=said * len(request.targets))
        if self._forced_at is not None:
            steps = request.steps if isinstance(request, ScoreDraft) else 0
            ends = *request.answer, *(len(request.tokens) + step for step in range(steps))
            lists = tuple(self._forced(request.base + i + 1, request) for i in ends)
            reply = replace(reply, lists=lists)
        return reply

    def _forced(self, length: int, request: Score) -> bytes:
        assert self._forced_at is not None
        logits = np.zeros(self.card.vocab_size, dtype=np.float32)
        logits[self._forced_at(length)] = SURE
        return encode_logits(logits, request.entries_max, request.tail_max)
