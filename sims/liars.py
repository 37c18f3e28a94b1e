"""Liars that want a text: experts that force a token, and what they do to be believed.

Each is an honest node whose answers are changed on their way out, as whoever has the program's
source could do. `core.trust` says what is held against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from swarmllm.messages import PeerId, Scores
from swarmllm.testing.world import HONEST, VOCABULARY, Behaviour
from swarmllm.testing.world.behaviours import Boaster, Silent
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.sparse_encoding import encode_logits

if TYPE_CHECKING:
    from swarmllm.testing.world import Host

TARGET: Final = 7
"""The token that they want."""
SURE: Final = 16.0  # Logits above all others: next to everything.
ENTRIES: Final = 64
SLANDER_NATS: Final = 64.0
BELIEVABLE: Final = 0.95  # Of what the best honest expert needs per token.
BOAST_NATS: Final = 1.0  # Per token: how much better than it is a smaller model claims to be.
PARAMS_CLAIMED: Final = 2**62
RATE_CLAIMED: Final = 2**32 - 1


def nats(per_token: float, count: int) -> bytes:
    """`count` target log-probabilities of so many nats."""
    return min(65_535, round(1024 * per_token)).to_bytes(2, "big") * count


def forced() -> bytes:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[TARGET] = SURE
    return encode_logits(logits, ENTRIES, 0)


def poisoned(data: bytes) -> bytes:
    """The list with half of the probability on the token that is wanted."""
    found: SparseList = decode_list(data, ENTRIES * 16, VOCABULARY)
    probs = np.full(VOCABULARY, max(found.tail, 1e-9) / VOCABULARY)
    probs[found.ids] = np.exp(found.logprobs.astype(np.float64))
    probs = 0.5 * probs / probs.sum()
    probs[TARGET] += 0.5
    return encode_logits(np.log(probs).astype(np.float32), ENTRIES, 0)


class Forcing(Behaviour):
    """Forces its token with all of its lists. `claim`: what it says of each given token, in nats;
    None: the truth of its model. `lists`: what becomes of a list."""

    def __init__(
        self, claim: float | None = None, lists: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._claim = claim
        self._lists = lists
        self._forced = forced()

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores) or not self.is_lying(message):
            return message
        count = len(message.target_logprobs) // 2
        said = message.target_logprobs if self._claim is None else nats(self._claim, count)
        lists = tuple(
            self._forced if self._lists is None else self._lists(one) for one in message.lists
        )
        return replace(message, lists=lists, target_logprobs=said)

    def is_lying(self, message: Scores) -> bool:
        return True


class Turning(Forcing):
    """Honest until `turn`."""

    has_turned = False

    def turn(self) -> None:
        self.has_turned = True

    def is_lying(self, message: Scores) -> bool:
        return self.has_turned


class Careful(Forcing):
    """Honest as long as a prompt is taken in, hidden tokens and all, and a liar from its second
    token on: a requester's first round has the number 0."""

    def is_lying(self, message: Scores) -> bool:
        return message.round > 0


class Relay(Behaviour):
    """A smaller model than it says, and a better one by its own word."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        if not isinstance(message, Scores):
            return message
        raw = message.target_logprobs
        values = (int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))
        better = b"".join(nats(max(0.0, v / 1024 - BOAST_NATS), 1) for v in values)
        return replace(message, target_logprobs=better)


def boaster(_best: float) -> Behaviour:
    return Boaster(rate=RATE_CLAIMED, context=0, n_params=PARAMS_CLAIMED)


ATTACKS: Final[dict[str, Callable[[float], Behaviour]]] = {
    "boaster": boaster,
    "heart": lambda _: Forcing(claim=0.0),
    "believable": lambda best: Forcing(claim=BELIEVABLE * best),
    "poisoner": lambda _: Forcing(lists=poisoned),
    "silent": lambda _: Silent(),
    "slow": lambda _: HONEST,
    "replicas": lambda _: Forcing(claim=0.0),
    "lookalike": lambda _: Forcing(),
    "defector": lambda _: Turning(),
    "careful": lambda _: Careful(),
    "slanderer": lambda _: Forcing(claim=SLANDER_NATS),
    "relay": lambda _: Relay(),
}
"""What liars do, given how many nats per token the best honest expert needs."""
