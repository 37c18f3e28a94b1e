"""Bounds of a grammar's text, seen before anything compiles it: a schema from a client is hostile
input, and a few bytes (`a{1000000}`) can cost a compiler minutes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from swarmllm.core.grammar import GrammarSource
from swarmllm.core.tool_calls import offer_of
from swarmllm.errors import UsageError

DEPTH_MAX: Final = 32  # Published schemas stay under 12.
VALUES_MAX: Final = 10_000  # Objects, lists and plain values of a schema, all together.
# Of one regular expression: the product of its repetitions, so that nested ones count.
REPEAT_MAX: Final = 10_000
# Of a bound; ranges are written as expressions digit by digit. Where nobody chose a bound, schemas
# from TypeScript have 2^53 - 1 and those from Rust 2^64 - 1.
NUMBER_MAX: Final = 2**64
COUNT_MAX: Final = 10_000  # Lengths and numbers of items.
MULTIPLE_MAX: Final = 1_000  # An automaton of so many states.
SUBSETS_MAX: Final = 256  # Alternatives that are combined with each other: their product.

_REPEAT: Final = re.compile(r"\{(\d*),?(\d*)\}|[*+]")
_COUNTS: Final = frozenset(
    ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
)
_RANGES: Final = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))


def check_bounds(source: GrammarSource) -> Any:
    """The schema of a `json_schema`, the offer of `tool_calls`, None for other kinds. UsageError
    for what is too large, or no JSON."""
    source.check()
    match source.kind:
        case "json_schema":
            schema = _parsed(source.text)
            _check_schema(schema)
            return schema
        case "tool_calls":
            offer = offer_of(source.text)
            for _, schema in offer.tools:
                _check_schema(schema)
            if offer.form is not None:
                _check_schema(offer.form)
            return offer
        case "regex" | "lark":
            _check_repeats(source.text)
        case "json_object":
            pass
    return None


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except RecursionError:
        raise UsageError(f"the schema is nested deeper than {DEPTH_MAX} levels") from None
    except ValueError as error:
        raise UsageError(f"the schema is no JSON: {error}") from None
    if not isinstance(found, (dict, bool)):
        raise UsageError(f"a schema is a JSON object, not {type(found).__name__}")
    return found


def _check_schema(schema: Any) -> None:
    alternatives = 1
    for number, (key, value, depth) in enumerate(_walk(schema)):
        if number >= VALUES_MAX:
            raise UsageError(f"the schema holds more than {VALUES_MAX} values; shorten it")
        if depth > DEPTH_MAX:
            raise UsageError(f"the schema is nested deeper than {DEPTH_MAX} levels")
        if key in {"pattern", "patternProperties"}:
            for pattern in value if isinstance(value, dict) else [value]:
                _check_repeats(str(pattern))
        if key == "allOf" and isinstance(value, list):
            alternatives *= max(1, *(_choices(one) for one in value)) if value else 1
            if len(value) > 1 and math.prod(map(_choices, value)) > SUBSETS_MAX:
                raise UsageError(
                    f"the schema combines more than {SUBSETS_MAX} alternatives in an allOf"
                )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(key, value)
    if alternatives > SUBSETS_MAX:
        raise UsageError(f"the schema combines more than {SUBSETS_MAX} alternatives in allOf")


def _check_number(key: str, value: float) -> None:
    limits = [
        limit
        for keys, limit in ((_COUNTS, COUNT_MAX), (_RANGES, NUMBER_MAX))
        if key in keys and abs(value) > limit
    ]
    if key == "multipleOf" and (not 0 < value <= MULTIPLE_MAX):
        limits.append(MULTIPLE_MAX)
    if limits:
        raise UsageError(
            f"{key} {value:g} of the schema is beyond {limits[0]:g}; choose a smaller one"
        )


def _choices(schema: Any) -> int:
    """How many ways a part of an allOf can be met, at the least."""
    found = 1
    for key, value, _ in _walk(schema):
        if key in {"anyOf", "oneOf"} and isinstance(value, list):
            found *= max(1, len(value))
            if found > SUBSETS_MAX:
                break
    return found


def _check_repeats(pattern: str) -> None:
    product = 1
    for low, high in _REPEAT.findall(pattern):
        product *= max(1, *(int(number[:9]) for number in (low, high) if number), 1)
        if product > REPEAT_MAX:
            raise UsageError(
                f"the repetitions of the expression {pattern[:40]!r} multiply to more than"
                f" {REPEAT_MAX}; choose smaller ones"
            )


def _walk(value: Any) -> Iterator[tuple[str, Any, int]]:
    """(key, value, depth) of every value within, each once; a list's values have its key."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        key, found, depth = waiting.pop()
        yield key, found, depth
        if depth > DEPTH_MAX:
            continue
        if isinstance(found, dict):
            waiting += ((name, one, depth + 1) for name, one in found.items())
        elif isinstance(found, list):
            waiting += (("", one, depth + 1) for one in found)
