"""What a charter grants an agent: how often it begins a cycle, what share of the experts' time it
may take, how many proposals a cycle may try, and what the objective weighs.

It stands in the terms of governance, as an addition in their `ext` (WIRE-7), so the root quorum has
signed it. What is not said is as in the design.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.agent.cycle import HOUR_S, Terms
from swarmllm.core.validation.objective import PARTS, WEIGHT_MAX
from swarmllm.wire.ext import AGENT_TERMS, addition, additions

INTERVAL_MIN, INTERVAL_MAX = 1, 24 * 60  # Minutes.
ATTEMPTS_MAX: Final = 16
SHARE_MAX: Final = 100  # Per thousand: a tenth of the experts' time, and not more.
_FORM: Final = struct.Struct(">HHHB")
_WEIGHT: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Grant:
    """Minutes; `share_permille` of the experts' time. `weights` of the objective that are not as
    usual."""

    interval_min: int = 60
    interval_max_min: int = INTERVAL_MAX
    share_permille: int = 50
    attempts: int = 4
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def terms(self) -> Terms:
        return Terms(
            interval_s=60.0 * self.interval_min,
            interval_max_s=60.0 * self.interval_max_min,
            soon_s=min(300.0, 60.0 * self.interval_min),
            window_s=min(HOUR_S, 60.0 * self.interval_min),
            attempts=self.attempts,
        )


USUAL: Final = Grant()


def grant_in(ext: bytes) -> Grant:
    """As usual, if the terms do not say it, or say it in a way that is not understood: an agent
    does not get more by what cannot be read."""
    found = additions(ext).get(AGENT_TERMS, b"")
    size = _FORM.size + _WEIGHT.size * len(PARTS)
    if len(found) != size:
        return USUAL
    interval, longest, share, attempts = _FORM.unpack(found[: _FORM.size])
    if not INTERVAL_MIN <= interval <= longest <= INTERVAL_MAX:
        return USUAL
    if share > SHARE_MAX or not 1 <= attempts <= ATTEMPTS_MAX:
        return USUAL
    weights = {
        part.name: _WEIGHT.unpack_from(found, _FORM.size + 4 * place)[0] / 1000
        for place, part in enumerate(PARTS)
    }
    if any(value > WEIGHT_MAX for value in weights.values()):
        return USUAL
    differ = {one.name: weights[one.name] for one in PARTS if weights[one.name] != one.weight}
    return Grant(interval, longest, share, attempts, differ)


def naming(grant: Grant) -> bytes:
    """What terms with this grant have in their `ext`."""
    packed = _FORM.pack(
        grant.interval_min, grant.interval_max_min, grant.share_permille, grant.attempts
    )
    weights = (round(1000 * grant.weights.get(part.name, part.weight)) for part in PARTS)
    return addition(AGENT_TERMS, packed + b"".join(map(_WEIGHT.pack, weights)))
