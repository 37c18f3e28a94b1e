"""Fields of requests that several kinds of questions have, read and checked in one place."""

from __future__ import annotations

from collections.abc import Mapping

from swarmllm.errors import UsageError


def records_in(
    params: Mapping[str, object], kind: str, size_max: int, count_max: int
) -> list[bytes]:
    """The field `records`: records of this kind in hexadecimal, their number and their bytes
    bounded before they are decoded. UsageError."""
    found = params.get("records")
    if (
        not isinstance(found, list)
        or not 1 <= len(found) <= count_max
        or not all(isinstance(one, str) for one in found)
    ):
        raise UsageError(
            f"the field 'records' is a list of 1 to {count_max} {kind}s in hexadecimal; correct it"
        )
    if any(len(one) > 2 * size_max for one in found):
        raise UsageError(f"a {kind} has at most {size_max} bytes; one in 'records' is longer")
    try:
        return [bytes.fromhex(one) for one in found]
    except ValueError as fault:
        raise UsageError(
            f"a {kind} in 'records' is not hexadecimal ({fault}); correct it"
        ) from fault
