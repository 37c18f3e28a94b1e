"""The values that inputs, events and effects carry: session keys, the model card, engine load, sampling, and what an answer needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmllm.messages import PeerId


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session as the engine knows it: ids are the requester's own, so the requester is part of the key."""

    peer: PeerId
    session: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The local expert's model. Digests are SHA-256; `n_params` counts weights; `context_max` is tokens per session."""

    name: str
    digest: bytes
    vocab_fingerprint: bytes
    vocab_size: int
    n_params: int
    context_max: int
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is: waiting orders, sessions it could still take, and measured decode tokens/s over all sessions."""

    queue_depth: int
    sessions_free: int
    sessions_max: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the requester draws from the pooled distribution; the defaults draw from it unchanged.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off. The penalty looks at the last
    `penalty_last` tokens of prompt and answer. `seed` makes a run reproducible.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_last: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerateOrder:
    """What an answer needs: `k` experts per token plus `extra` more as insurance, `max_tokens`, and where to stop.

    `quality` is the share of tokens that all k are asked about, those at which the best expert alone is least sure; 1: every token,
    0: always one expert. `outside` are the stretches (start, end) of the prompt that the ensemble did not write itself, rising and
    apart; empty: all of it. `domain`: experts that claim it are believed more at first.
    """

    prompt: tuple[int, ...]
    outside: tuple[tuple[int, int], ...] = ()
    domain: str = ""
    k: int = 3
    extra: int = 1
    quality: float = 1.0
    max_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()
    vocab_size: int = 128_256
