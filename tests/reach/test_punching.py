"""Two peers behind NATs of their own meet through a relay, and without it where the NATs allow."""

from __future__ import annotations

import pytest

from tests.reach.lab import MISSING, built
from tests.reach.punching import measured

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


@pytest.mark.parametrize(
    ("caller", "hidden", "is_direct"),
    [
        ("home-a", "home-b", True),
        # Its router takes another port for each connection, which nobody can know before.
        ("office", "home-a", False),
    ],
)
def test_a_hole_is_punched_where_the_nats_allow_it_and_otherwise_the_relay_stays(
    caller: str, hidden: str, is_direct: bool
) -> None:
    with built("relay", caller, hidden) as lab:
        found = measured(lab, caller, hidden)
    assert found["direct"] == is_direct, found
    assert found["relayed_rtt_ms"] > 0 or is_direct
