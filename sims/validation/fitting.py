"""A simulated swarm fitted to what one node knows of a real one.

Experts are as quick as the node has measured them, and as far away; replicas stay replicas. Of many
experts an even sample is taken. What a node cannot know is assumed, and each assumption is said in
`Fitted.notes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from swarmllm.core.validation.recording import Recording
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot
from swarmllm.sims.crowd import CONTEXT_MAX
from swarmllm.testing.world import LinkModel, Service, Spec

EXPERTS_MAX: Final = 16  # More take time, and show the same: an answer asks a handful.
STREAMS_MAX: Final = 6
PING_S: Final = 0.03  # Where none was measured.
STEP_S: Final = 0.1  # The same, of an expert that claims nothing: a small model on a laptop.
STEP_MIN_S: Final = 0.0005
LOSS: Final = 0.005  # Of messages, where nothing was recorded.
LOSS_MAX: Final = 0.1
LEAVES_MAX: Final = 1 / 60  # Of an expert, per second.
STALLS_MAX: Final = 1 / 20  # The same.
STALL_MIN_S: Final = 1.0  # Retransmissions alone hardly make a round that much longer ...
STALL_RATIO: Final = 4  # ... or times longer.
STALL_MAX_S: Final = 5.0  # Whoever says nothing for longer counts as gone.
TOKENS: Final = (8, 32)  # Of an answer: at least and at most.
PROMPT: Final = (4, 128)
SESSIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Fitted:
    """`experts` are other nodes', `own` is the asking node's (None: it has none). `streams` answers
    are written at once, `tokens` long after prompts of `prompt` tokens. Each expert leaves with a
    rate of `leaves` per second, and another one comes; with a rate of `stalls` it stands still for
    about `stall_s`, as a machine that sleeps or swaps does. `known`: the experts of the real
    swarm."""

    experts: tuple[Spec, ...]
    own: Spec | None
    link: LinkModel
    streams: int
    tokens: int
    prompt: int
    leaves: float
    known: int
    notes: tuple[str, ...]
    stalls: float = 0.0
    stall_s: float = 0.0


def fit(snapshot: Snapshot, recording: Recording, asked: int, k: int) -> Fitted:
    """`asked` experts are asked for a token, of which `k` are waited for."""
    others = [one for one in snapshot.experts if not one.own]
    own = next((one for one in snapshot.experts if one.own), None)
    taken = _evenly(sorted(others, key=_step_s))
    pings = [one.ping_us / 1e6 for one in taken if one.ping_us]
    usual_s = median(pings) if pings else PING_S
    near_s, far_s = min(pings, default=usual_s), max(pings, default=usual_s)
    stalls, stall_s = _stalls(recording, asked)
    loss = LOSS if stalls else _loss(recording, asked, k)
    link = LinkModel(max(1e-4, near_s / 2), (far_s - near_s) / 2, loss=loss)
    in_use = sum(max(0, one.sessions_max - one.sessions_free) for one in others)
    streams = max(1, snapshot.answers, round(in_use / max(1, asked)))
    tokens, prompt = _lengths(recording)
    return Fitted(
        tuple(_spec(one, usual_s, near_s, far_s) for one in taken),
        None if own is None else _spec(own, 0.0, 0.0, 0.0),
        link,
        min(STREAMS_MAX, streams),
        tokens,
        prompt,
        _leaves(recording),
        len(others),
        _notes(len(taken), len(others), bool(pings), streams, recording),
        stalls,
        stall_s,
    )


def _evenly(ordered: Sequence[ExpertFigures]) -> list[ExpertFigures]:
    """At most `EXPERTS_MAX` of them, the first and the last among these."""
    if len(ordered) <= EXPERTS_MAX:
        return list(ordered)
    last = len(ordered) - 1
    return [ordered[round(place * last / (EXPERTS_MAX - 1))] for place in range(EXPERTS_MAX)]


def _step_s(one: ExpertFigures) -> float:
    """What a round of one token takes at the expert itself: as measured, else as it claims."""
    if one.round_us:
        return max(STEP_MIN_S, (one.round_us - one.ping_us) / 1e6)
    return max(STEP_MIN_S, 16 / one.rate) if one.rate else STEP_S


def _spec(one: ExpertFigures, usual_s: float, near_s: float, far_s: float) -> Spec:
    ping_s = one.ping_us / 1e6 or usual_s
    span_s = far_s - near_s
    distance = min(1.0, max(0.0, (ping_s - near_s) / span_s)) if span_s > 0 else 0.0
    step_s = _step_s(one)
    # In the shares in which a laptop's expert takes them.
    service = Service(0.8 * step_s, 0.2 * step_s, 0.1 * step_s)
    return Spec(
        model=one.model,
        service=service,
        sessions_max=max(1, min(SESSIONS_MAX, one.sessions_max)),
        context_max=CONTEXT_MAX,
        place=(distance, distance),
    )


def _loss(recording: Recording, asked: int, k: int) -> float:
    """The share of messages that come late, from the share of rounds that did: a round is late if
    more of the experts than are asked as insurance are, each by its question or its answer."""
    rounds = sum(one.tokens for one in recording)
    if not rounds:
        return LOSS
    late = min(1.0, sum(one.late for one in recording) / rounds)
    enough = asked - k + 1
    of_expert = math.pow(late / math.comb(asked, enough), 1 / enough)
    return min(LOSS_MAX, of_expert / 2)


def _stalls(recording: Recording, asked: int) -> tuple[float, float]:
    """How often an expert stands still (1/s) and for how long (s), if some rounds take so much
    longer than others that messages that come late do not explain it: each late round is one that
    met a stall of one of those who were asked."""
    timed = [one for one in recording if one.p50_ms]
    rounds = sum(one.tokens for one in timed)
    late = sum(one.late for one in timed)
    if not late:
        return 0.0, 0.0
    usual_s = sum(one.p50_ms * one.tokens for one in timed) / rounds / 1000
    slowest_s = sum(one.p99_ms * one.tokens for one in timed) / rounds / 1000
    stall_s = slowest_s - usual_s
    if stall_s < max(STALL_MIN_S, STALL_RATIO * usual_s):
        return 0.0, 0.0
    return min(STALLS_MAX, late / (rounds * asked * usual_s)), min(STALL_MAX_S, stall_s)


def _lengths(recording: Recording) -> tuple[int, int]:
    """Tokens of an answer and of its prompt, within bounds."""
    ended = sum(one.ended for one in recording)
    answers = sum(one.answers for one in recording)
    tokens = sum(one.tokens for one in recording) / ended if ended else TOKENS[1]
    prompt = sum(one.prompt_tokens for one in recording) / answers if answers else 32
    return _within(tokens, TOKENS), _within(prompt, PROMPT)


def _within(value: float, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(bounds[1], round(value)))


def _leaves(recording: Recording) -> float:
    expert_minutes = sum(one.experts for one in recording)
    if not expert_minutes:
        return 0.0
    return min(LEAVES_MAX, sum(one.experts_went for one in recording) / expert_minutes / 60)


def _notes(
    taken: int, known: int, has_pings: bool, streams: int, recording: Recording
) -> tuple[str, ...]:
    found = []
    if taken < known:
        found.append(f"{taken} of {known} experts are simulated, drawn evenly by their speed")
    if taken and not has_pings:
        found.append(f"no round trip was measured yet; {1000 * PING_S:.0f} ms are assumed")
    if streams > STREAMS_MAX:
        found.append(f"{STREAMS_MAX} answers at once are simulated, where {streams} seem to be")
    if not any(one.tokens for one in recording):
        found.append(
            f"no token was recorded yet; {100 * LOSS:g} % late messages and nobody who leaves are"
            " assumed"
        )
    return tuple(found)
