"""How much each expert counts: mixture weights by expectation maximisation on the prompt.

The prompt is text from outside, so what each expert thought of it is evidence; what the ensemble sampled itself is none (its posterior
is a martingale that drifts to one expert at random), so the weights are frozen while an answer is generated. Because a text may turn
to another domain after its prompt, a uniform share is mixed in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from swarmllm.messages import PeerId

ROUNDS = 25  # Of EM; the weights move by less than 1e-3 after some 20 on prompts of any length tried.
PRIOR_COUNT = 0.5  # Tokens' worth of pseudo-evidence per expert: a prompt of a few tokens cannot silence anybody.
UNIFORM_SHARE = 0.1  # Always shared out evenly.
FLOOR_NATS = -30.0  # No single token counts for more evidence than this against an expert.


def weights(evidence: Mapping[PeerId, Mapping[int, float]], peers: list[PeerId]) -> list[float]:
    """Mixture weights of `peers`, in their order, summing to 1.

    `evidence[peer][position]` is the natural log-probability that the peer gave to the prompt's token at that position. Only positions
    that all peers with evidence have in common are compared; a peer without any gets the uniform share of one.
    """
    uniform = 1.0 / len(peers)
    most = max((len(evidence.get(p, ())) for p in peers), default=0)
    informed = [p for p in peers if len(evidence.get(p, ())) * 2 > most]  # A scrap of evidence must not shrink the shared part.
    shared = sorted(set.intersection(*(set(evidence[p]) for p in informed))) if len(informed) > 1 else []
    if not shared:
        return [uniform] * len(peers)
    logs = np.array([[max(FLOOR_NATS, evidence[p][t]) for t in shared] for p in informed])
    likelihood = np.exp(logs - logs.max(axis=0))
    count = len(informed)
    w = np.full(count, 1.0 / count)
    for _ in range(ROUNDS):
        joint = w[:, None] * likelihood
        w = ((joint / joint.sum(axis=0)).sum(axis=1) + PRIOR_COUNT) / (len(shared) + PRIOR_COUNT * count)
    mass = count / len(peers)  # Peers without evidence keep the rest.
    found = {p: float(x) * mass for p, x in zip(informed, w, strict=True)}
    return [(1 - UNIFORM_SHARE) * found.get(p, uniform) + UNIFORM_SHARE * uniform for p in peers]
