"""Voices: holders of one model digest that report the same evidence share one weight.

A digest is a name, and anybody may take it. What holders of one model say of the same tokens
differs by rounding only, so those who agree share the weight that their model earns, and who says
otherwise speaks for itself alone: it gains nothing by the name, and takes nothing from those who
have it by right. It does not matter who answered first.

Each voice is worth what its most modest member claims. So nobody is drawn up by whoever it agrees
with, nor down by more than `AGREE_NATS` per token. Where this node runs the model itself, what our
own expert says is the truth about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from swarmllm.core.decoding.gate import Gate
from swarmllm.messages import PeerId

# Per token, on average: back ends of one model differ by some hundredths, models by whole nats.
AGREE_NATS: Final = 0.1
CONTRADICT_NATS: Final = 0.5  # Per token: no two back ends of one model differ by so much.
CONTRADICT_MIN: Final = 8  # Tokens: on fewer, one rare token decides.


def voices(holders: Sequence[PeerId], gate: Gate, own: PeerId | None) -> dict[PeerId, PeerId]:
    """The leader of the voice that each of these holders of one model belongs to; it is a member
    itself.

    Those who have said nothing yet are counted with most of the others, until they say otherwise.
    """
    informed = sorted(
        (p for p in holders if gate.is_informed(p)), key=lambda p: (p != own, gate.mean(p), p)
    )
    found: dict[PeerId, PeerId] = {}
    sizes: dict[PeerId, int] = {}
    for peer in informed:
        leader = next((one for one in sizes if gate.distance(one, peer) <= AGREE_NATS), peer)
        found[peer] = leader
        sizes[leader] = sizes.get(leader, 0) + 1
    silent = [p for p in holders if p not in found]
    if silent:
        home = own if own in sizes else max(sizes, key=lambda p: sizes[p], default=min(silent))
        assert home is not None
        found |= dict.fromkeys(silent, home)
    return found


def unconfirmed(
    known: Mapping[PeerId, int], models: Mapping[PeerId, bytes], gate: Gate
) -> dict[PeerId, float]:
    """By how much each of these voices claims to be better, in nats per token, than a voice of the
    same model that at least as many known holders share: one model says one thing, and the more
    modest is believed. `known`: how many known holders each voice has, of those that are
    credible."""
    found: dict[PeerId, float] = {}
    for voice in sorted(known):
        others = [
            gate.mean(voice) - gate.mean(other)
            for other in sorted(known)
            if other != voice and models[other] == models[voice] and known[other] >= known[voice]
            if gate.is_informed(voice) and gate.is_informed(other)
        ]
        found[voice] = max([0.0, *others])
    return found


def contradicted(holders: Sequence[PeerId], gate: Gate, own: PeerId | None) -> list[PeerId]:
    """Those who say of the text what our own expert, which is the same model, shows to be
    untrue."""
    if own is None or own not in holders or not gate.is_informed(own):
        return []
    others = [
        p
        for p in holders
        if p != own and gate.is_informed(p) and gate.common(own, p) >= CONTRADICT_MIN
    ]
    return [p for p in others if gate.distance(own, p) > CONTRADICT_NATS]
