"""Fields that several of OpenAI's routes have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from swarmllm.api.choice import Choice
from swarmllm.api.problem import invalid

STOPS_MAX: Final = 4
# What chat and responses take beside the question, and what changes nothing here.
HARMLESS: Final = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    )
)


def stops_of(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > STOPS_MAX:
        raise invalid("stop", f"has {len(stops)} strings; there can be {STOPS_MAX}")
    if not all(stops):
        raise invalid("stop", "holds an empty string")
    return list(stops)


def bias_of(found: dict[str, float]) -> list[list[float]]:
    """Pairs of a token id and nats."""
    pairs: dict[int, float] = {}
    for name, nats in found.items():
        if not name.isascii() or not name.isdigit() or len(name) > 9:
            raise invalid("logit_bias", f"names {name[:20]!r}, which is no token id")
        if not -100 <= nats <= 100:
            raise invalid("logit_bias", f"of token {name} is {nats:g}; it is from -100 to 100")
        pairs[int(name)] = nats
    return [[token, nats] for token, nats in pairs.items()]


def fingerprint(choices: Sequence[Choice]) -> dict[str, Any]:
    """`system_fingerprint`: equal where the same models answered."""
    models = sorted({name for choice in choices for name in choice.experts})
    digest = hashlib.sha256("\n".join(models).encode()).hexdigest()
    return {"system_fingerprint": f"fp_{digest[:10]}"}
