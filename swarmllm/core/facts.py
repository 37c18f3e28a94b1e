"""Facts that the parts of a node tell each other: what one of them found out and others act upon.

They never leave the node. A part hears a fact the moment that another has told it: what follows
from it stands where the fact stood among the effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from swarmllm.core.settings.setting import Setting
from swarmllm.messages import (
    CapacityRecord,
    ExpertReply,
    ExpertRequest,
    PeerId,
    Score,
    Scores,
)


class Fact:
    """What all facts are, so that they can be told from effects."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TokensForbidden(Fact):
    """The kill switch stopped this node. `by_order`: of the swarm's operators, which reaches all
    peers by itself."""

    reasons: tuple[str, ...]
    by_order: bool


@dataclass(frozen=True, slots=True)
class HaltStateChanged(Fact):
    """The kill switch holds other records than before, or its owner has ordered something; whether
    this node is halted may be as it was."""


@dataclass(frozen=True, slots=True)
class TokensAllowed(Fact):
    """The kill switch lets this node make tokens: for the first time, or again."""


@dataclass(frozen=True, slots=True)
class PeerSettled(Fact):
    """The kill switch has heard from a peer, and may let us make tokens with it from now on."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerGone(Fact):
    """The last connection to a peer is gone."""

    peer: PeerId
    reason: str


class Heard(NamedTuple):
    """A capacity record that is news. `is_usable`: it offers an expert that can be mixed with
    ours."""

    peer: PeerId
    record: CapacityRecord
    is_usable: bool


@dataclass(frozen=True, slots=True)
class RecordsHeard(Fact):
    """What one message brought, in its order."""

    heard: tuple[Heard, ...]


@dataclass(frozen=True, slots=True)
class ExpertHeard(Fact):
    """Somebody whose record is known offers an expert that can be mixed with ours after all."""

    peer: PeerId
    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnExpertChanged(Fact):
    """There is news of our own expert: the engine is up, the engine is down, its last place was
    taken or one is free again, its addresses are others, its owner offers it to others or does not
    any more."""

    what: Literal["ready", "lost", "places", "addresses", "offer"]


@dataclass(frozen=True, slots=True)
class SettingChanged(Fact):
    """The swarm has set a setting, from `old` to `new`, in its own unit. What this node goes by
    differs if its owner has pinned it. Parts that read it at each decision need not hear this."""

    setting: Setting[Any]
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class AnswerEnded(Fact):
    """An answer of this node has ended. `is_whole`: it was written to its end, or its user wanted
    no more of it."""

    is_whole: bool
    tokens: int
    failovers: int
    request: int = 0


@dataclass(frozen=True, slots=True)
class TokenMeasured(Fact):
    """A token of an answer of this node has cost so much: seconds of its round. It was made of the
    lists of `used` experts; before the first one they take in the prompt."""

    cost_s: float
    used: int = 1
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class ExpertAsked(Fact):
    """For an answer of this node an expert was given so many tokens to compute."""

    tokens: int


@dataclass(frozen=True, slots=True)
class ExpertTold(Fact):
    """For an answer of this node another peer's expert is sent this, behind this fact. `receipt`:
    the name under which the answer's sessions are wanted (empty: they are not)."""

    peer: PeerId
    message: ExpertRequest
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class ExpertReplied(Fact):
    """Another peer's expert has replied, whether or not anybody still waits for it."""

    peer: PeerId
    reply: ExpertReply


@dataclass(frozen=True, slots=True)
class SessionAnswered(Fact):
    """Our own expert's answer to a question of a peer leaves."""

    peer: PeerId
    question: Score
    reply: Scores
