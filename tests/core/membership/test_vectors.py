"""The published passes are what this implementation says of them.

Cites protocols/membership.md (MEM)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmllm.core.membership.passes import judged
from swarmllm.messages.membership import Pass
from swarmllm.testing.operators import verify
from tests import ROOT

VECTORS = json.loads((ROOT / "protocols/vectors/membership.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("case", "is_good"),
    [(case, kind == "valid") for kind in ("valid", "invalid") for case in VECTORS[kind]],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_published_pass_is_good_or_not(case: Any, is_good: bool) -> None:  # MEM-1, MEM-2
    shown = Pass(bytes.fromhex(case["membership"]), bytes.fromhex(case["delegation"]))
    names = (VECTORS[name] for name in ("member", "swarm", "root"))
    member, swarm, root = map(bytes.fromhex, names)
    found = judged(shown, member, swarm, frozenset({root}), VECTORS["unix_ms"], verify)
    assert (found.fault == "") is is_good, found
