"""The held-out text that a charter pins for the quality gate, as people name and see it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.cli.eval.plan import REPORT_BYTES_MAX
from swarmllm.core.governance.held_out import (
    DIGEST_BYTES,
    NAME_MAX,
    HeldOut,
    held_out_in,
    is_name,
    pinning,
)
from swarmllm.errors import UsageError
from swarmllm.messages import Charter
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.ext import HELD_OUT, addition, additions

NONE: Final = "none"


def with_held_out(charter: Charter, word: str | None) -> Charter:
    """The charter pinning what `word` says: NAME=REPORT, NAME=DIGEST, or `none` for nothing. None:
    what it pins stays."""
    if word is None:
        return charter
    kept = {kind: value for kind, value in additions(charter.ext).items() if kind != HELD_OUT}
    ext = b"".join(addition(kind, value) for kind, value in kept.items())
    return replace(charter, ext=ext if word == NONE else ext + pinning(_read(word)))


def _read(word: str) -> HeldOut:
    name, is_split, what = word.partition("=")
    if not is_split or not what:
        raise UsageError(
            f"--held-out {word[:60]!r} is not of the form NAME=REPORT; a report of `swarmllm eval"
            " --json` tells which text it is over"
        )
    if not is_name(name):
        raise UsageError(
            f"{name[:40]!r} is no name of held-out text; 1 to {NAME_MAX} bytes that can be printed"
        )
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * DIGEST_BYTES}}}", what):
        return HeldOut(name, bytes.fromhex(what))
    from swarmllm.cli.governance.quality_gate import texts_of  # Which takes numpy.

    data = read_bounded(user_path(what), REPORT_BYTES_MAX, "the report")
    return HeldOut(name, texts_of(data, what))


def held_out_fields(held: HeldOut | None) -> dict[str, str] | None:
    """As JSON fields; None where nothing is pinned."""
    return None if held is None else {"name": held.name, "digest": held.digest.hex()}


def held_out_rows(charter: Charter) -> list[tuple[str, str]]:
    """What it means, for people."""
    held = held_out_in(charter.ext)
    if held is None:
        return []
    said = f"a report for a phase has to be over the text {held.name} ({held.digest.hex()})"
    if not held.name:
        said = "pinned in a way that this version cannot read: no report for a phase will do"
    return [("quality gate", said)]
