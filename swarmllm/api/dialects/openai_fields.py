"""Fields that several of OpenAI's routes have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from swarmllm.api.body import EITHER, PARTS, TEXT, Body, drawn
from swarmllm.api.choice import Choice
from swarmllm.core.decoding.sampling import BIASES_MAX
from swarmllm.core.tool_calls import TOOL_NAME
from swarmllm.runtime.service.stop_strings import STOP_CHARS_MAX

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


Stop = Annotated[str, Field(min_length=1, max_length=STOP_CHARS_MAX)]
Stops = Annotated[
    Annotated[Stop, TEXT] | Annotated[list[Stop], Field(max_length=STOPS_MAX), PARTS], EITHER
]
TokenId = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")]
Bias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=BIASES_MAX, json_schema_extra={"additionalProperties": False}),
]
ToolName = Annotated[str, Field(pattern=f"^{TOOL_NAME}$")]
Penalty = Annotated[float, drawn("presence_penalty")]  # The other one has the same bounds.


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def stops_of(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop or ())


def bias_of(found: dict[str, float]) -> list[list[float]]:
    """Pairs of a token id and nats."""
    return [[int(name), nats] for name, nats in found.items()]


def fingerprint(choices: Sequence[Choice]) -> dict[str, Any]:
    """`system_fingerprint`: equal where the same models answered."""
    models = sorted({name for choice in choices for name in choice.experts})
    digest = hashlib.sha256("\n".join(models).encode()).hexdigest()
    return {"system_fingerprint": f"fp_{digest[:10]}"}
