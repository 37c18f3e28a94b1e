"""Hooks for schemathesis: a body that the OpenAPI file allows is refused for nothing but what its
fields say of each other, or of this node, which no schema can tell."""

from __future__ import annotations

import re
from typing import Any, Final

import schemathesis

EXPLAINED: Final = (
    r"tool_choice needs tools",
    r"tool_choice names .*, which is none of the tools",
    r"tools hold two of one name",
    r"best_of cannot be served unless it is n",
    r"echo cannot be served (beside logprobs|for token ids)",
    r"stream_options needs stream to be true",
    r"top_logprobs needs logprobs to be true",
    r"(response_format|text\.format) of the type json_schema needs the schema",
    r"prompt asks for [0-9]+ choices; there can be 8",
    r"the parameters of the tool .* are no JSON schema of an object",
    r"the grammar .*",
    r"the prompt has [0-9]+ tokens.*",
    r"token id [0-9]+ of the prompt is outside .*",
    r"input has nothing that could be answered",
    r"the bias .* of token [0-9]+ makes no sense: .*",  # An id beyond this node's vocabulary.
    r"the domain .* has more than 16 bytes; no expert can claim it",  # Schemas count characters.
)


@schemathesis.check
def refused_only_for_what_no_schema_tells(
    ctx: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case[Any],
) -> bool | None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return True
    if response.status_code == 400:
        said: Any = response.json()["error"]["message"]
        assert any(re.fullmatch(one, said, re.S) for one in EXPLAINED), said
    return None
