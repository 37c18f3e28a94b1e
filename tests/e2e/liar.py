"""A liar is a real node whose expert's answers are changed on their way out: an attacker with the
program's own source code.

    python -m tests.e2e.liar heart|poisoner|relay CLAIMED join --model FILE ...

`heart` says of every prompt that it knew it by heart, and forces one token with all of its lists;
`poisoner` tells the truth of prompts and forces that token; `relay` answers with the smaller model
that it runs, and says that it is a nat better. CLAIMED is the file whose digest it says it runs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.cli import main
from swarmllm.core.values import SessionKey
from swarmllm.messages import ExpertReply, Score, Scores
from swarmllm.wire.sparse_encoding import encode_logits
from tests.e2e.imposter import claim

FORCED: Final = 4242
SURE: Final = 30.0
BOAST: Final = 1024  # A nat.


@lru_cache
def forced(vocab_size: int, entries: int) -> bytes:
    logits = np.zeros(vocab_size, np.float32)
    logits[FORCED] = SURE
    return encode_logits(logits, entries, 0)


def lie(kind: str) -> None:
    """From now on every engine of this process lies."""
    honest = LlamaEngine.score

    async def score(self: LlamaEngine, key: SessionKey, request: Score) -> ExpertReply:
        reply = await honest(self, key, request)
        if not isinstance(reply, Scores):
            return reply
        raw = reply.target_logprobs
        said = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
        if kind == "heart":
            said = [0] * len(said)
        elif kind == "relay":
            said = [max(0, value - BOAST) for value in said]
        lists = reply.lists
        if kind != "relay":
            lists = (forced(self.card.vocab_size, request.entries_max),) * len(lists)
        told = b"".join(value.to_bytes(2, "big") for value in said)
        return replace(reply, lists=lists, target_logprobs=told)

    LlamaEngine.score = score  # type: ignore[method-assign]


if __name__ == "__main__":
    lie(sys.argv.pop(1))
    claim(Path(sys.argv.pop(1)))
    main()
