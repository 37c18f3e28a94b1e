"""The values that inputs, events and effects carry: session keys, the model card, engine load,
sampling, and what an answer needs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Literal

from swarmllm.core.grammar import Grammar
from swarmllm.messages import CONTEXT_MAX, VOCABULARY_MAX, PeerId


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session as the engine knows it: ids are the requester's own, so the requester is part of
    the key."""

    peer: PeerId
    session: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The local expert's model. Digests are SHA-256, that of the chat format its first eight bytes
    (zeros: unknown); `n_params` counts weights; `context_max` is tokens per session."""

    name: str
    digest: bytes
    vocab_fingerprint: bytes
    vocab_size: int
    n_params: int
    context_max: int
    domains: tuple[str, ...] = ()
    chat_digest: bytes = bytes(8)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is: waiting orders, sessions it could still take, and measured decode
    tokens/s over all sessions."""

    queue_depth: int
    sessions_free: int
    sessions_max: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter of the sampling may be: from `low` (only above it, if `above`) to `high`.
    `usual` is what texts are drawn with where nobody says anything; None: the default, which leaves
    the distribution as it is. `hint` ends the sentence that refuses a value, and `about` is the
    help of its option. `advised`: its name among a GGUF file's `general.sampling`.
    """

    low: float
    high: float
    hint: str
    about: str
    usual: float | None = None
    above: bool = False
    advised: str = ""
    kind: type[int] | type[float] = float

    def as_metadata(self) -> dict[str, Parameter]:
        return {"parameter": self}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the requester draws from the pooled distribution; the defaults draw from it unchanged.
    `seed` makes a run reproducible.

    A parameter is declared here and nowhere else: options, requests and their checks are made of
    these fields (see `SAMPLING`).
    """

    temperature: float = field(
        default=1.0,
        metadata=Parameter(
            advised="temp",
            low=0.0,
            # Far beyond the last sensible value, where the distribution is all but uniform.
            high=100.0,
            hint="0 always takes the likeliest token, 1 leaves the odds alone",
            about="0 always takes the likeliest token.",
            usual=0.8,
        ).as_metadata(),
    )
    top_k: int = field(
        default=0,
        metadata=Parameter(
            advised="top_k",
            low=0,
            high=VOCABULARY_MAX,
            hint="0 switches it off",
            about="Draw from this many likeliest tokens (0: off).",
            kind=int,
        ).as_metadata(),
    )
    top_p: float = field(
        default=1.0,
        metadata=Parameter(
            advised="top_p",
            low=0.0,
            high=1.0,
            hint="1 switches it off",
            about="Draw from the likeliest tokens that together have this probability (1: off).",
            usual=0.95,
            above=True,
        ).as_metadata(),
    )
    min_p: float = field(
        default=0.0,
        metadata=Parameter(
            advised="min_p",
            low=0.0,
            high=1.0,
            hint="0 switches it off",
            about="Leave out tokens below this share of the likeliest one's probability (0: off).",
        ).as_metadata(),
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata=Parameter(
            advised="penalty_repeat",
            low=0.1,
            high=10.0,  # Published settings lie between 1 and 2.
            hint="1 switches it off",
            about="Above 1 discourages repetition (1: off).",
        ).as_metadata(),
    )
    penalty_last: int = field(
        default=64,
        metadata=Parameter(
            advised="penalty_last_n",
            low=0,
            high=CONTEXT_MAX,
            hint="it counts tokens",
            about="Tokens of prompt and answer, counted from the end,"
            " that the repetition penalty looks at.",
            kind=int,
        ).as_metadata(),
    )
    presence_penalty: float = field(
        default=0.0,
        metadata=Parameter(
            low=-2.0,
            high=2.0,
            hint="0 switches it off",
            about="Nats taken from each token that the answer has already (0: off).",
        ).as_metadata(),
    )
    frequency_penalty: float = field(
        default=0.0,
        metadata=Parameter(
            low=-2.0,
            high=2.0,
            hint="0 switches it off",
            about="Nats taken from a token for each time that the answer has it (0: off).",
        ).as_metadata(),
    )
    seed: int = 0
    bias: tuple[tuple[int, float], ...] = ()
    """Nats added to tokens by id, each id once."""


SAMPLING: Final[dict[str, Parameter]] = {
    f.name: f.metadata["parameter"] for f in fields(Sampling) if "parameter" in f.metadata
}
"""The parameters of the sampling that are one number each: all its fields but the seed, which says
nothing of how to draw, and the bias."""

USUAL_SAMPLING: Final = Sampling(
    **{
        name: parameter.kind(parameter.usual)
        for name, parameter in SAMPLING.items()
        if parameter.usual is not None
    }  # type: ignore[arg-type]
)
"""What a text is drawn with where nobody says anything. Not the distribution as it is: small models
ramble in its tail."""


Speculative = Literal["auto", "off", "local", "lookup", "remote"]
SPECULATIVE: Final[tuple[Speculative, ...]] = ("auto", "off", "local", "lookup", "remote")

K_USUAL: Final = 3
EXTRA_USUAL: Final = 1
QUALITY_USUAL: Final = 1.0
MAX_TOKENS_USUAL: Final = 128
"""What an answer takes where nobody says anything: orders, requests, settings and options all start
from these."""


@dataclass(frozen=True, slots=True)
class Only:
    """Which experts an answer asks: those whose model has this digest (empty: of any model), and
    of them our own alone, if `own`, or those that are `among` these (None: any)."""

    digest: bytes = b""
    own: bool = False
    among: frozenset[PeerId] | None = None


ALL: Final = Only()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What an answer needs: `k` experts per token plus `extra` more as insurance, `max_tokens`, and
    where to stop.

    `quality` is the share of tokens that all k are asked about, those at which the best expert
    alone is least sure; 1: every token, 0: always one expert. `outside` are the stretches (start,
    end) of the prompt that the ensemble did not write itself, rising and apart; empty: all of it.
    `domain`: experts that claim it are believed more at first. `chat_digest` (8 bytes): the chat
    format that the prompt is written in; experts that say another are believed less at first.
    Empty: it is plain text. `grammar`: the answer is a text of it, as long as `max_tokens` allows.
    `only`: whose experts are asked at all. `likeliest`: how many tokens of each pooled distribution
    are told, from the most probable on.
    `receipt`: the name under which its sessions are kept, signed by their experts (empty: they are
    not).
    `is_background`: nobody waits for it, so it gives way to whoever does. `speculation`: who may
    draft tokens that are asked about together (`core.decoding.speculation`).
    """

    prompt: tuple[int, ...]
    outside: tuple[tuple[int, int], ...] = ()
    domain: str = ""
    chat_digest: bytes = b""
    k: int = K_USUAL
    extra: int = EXTRA_USUAL
    quality: float = QUALITY_USUAL
    max_tokens: int = MAX_TOKENS_USUAL
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()
    vocab_size: int = 128_256
    grammar: Grammar | None = None
    only: Only = ALL
    likeliest: int = 0
    is_background: bool = False
    speculation: Speculative = "auto"
    receipt: str = ""
