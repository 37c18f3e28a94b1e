"""Forged records of governance: what no host may count, whoever hands it over."""

from __future__ import annotations

from typing import Final

from swarmllm.core.settings.table import BY_CODE, SHUFFLE_INTERVAL
from swarmllm.messages.governance import (
    NO_BASE,
    CanaryReport,
    Proposal,
    SetSetting,
    Vote,
    Withdrawal,
)
from swarmllm.testing.operators import Founders, Operator
from swarmllm.testing.world.government import REPORT, Government
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

# Of few settings, so that proposals meet; the one that costs the world its time is left alone.
CODES: Final = tuple(sorted(code for code in BY_CODE if code != SHUFFLE_INTERVAL.code))[:5]


def forged_records(government: Government, target: bytes, number: int) -> tuple[bytes, ...]:
    """What no host may count: a spoilt signature, strangers, votes taken from another proposal,
    swarm or charter, reports by no agent, a vote in another's name."""
    swarm, voter = government.founders.swarm, government.voters[number % len(government.voters)]
    stranger = Operator("stranger")

    def signed(record: object, by: Operator) -> bytes:
        return sign_record(record, [(by.public_key, by.sign)])

    moved = signed(Vote(swarm, 1, bytes(32), voter.id, 1, 0), voter).replace(bytes(32), target, 1)
    action = encode(SetSetting(CODES[0], number % 5))
    made = Proposal(
        *(swarm, 1, stranger.id, 1 + number, 3, action, NO_BASE, 1, bytes(8), REPORT, "", 0)
    )
    spoilt = [
        one[:-1] + bytes((one[-1] ^ 1,))
        for one in (signed(Vote(swarm, 1, target, by.id, 1, 0), by) for by in government.voters)
    ]
    late = [signed(Vote(swarm, 2, target, by.id, 1, 0), by) for by in government.voters]
    others = Founders("others").swarm
    strange = [signed(Vote(others, 1, target, by.id, 1, 0), by) for by in government.voters]
    crowd = [Operator(f"stranger {i}") for i in range(5)]
    return (
        *spoilt,
        *late,
        *strange,
        *(signed(Vote(swarm, 1, target, one.id, 1, 0), one) for one in crowd),
        moved,
        signed(made, stranger),
        signed(Vote(swarm, 1, target, voter.id, 1, 0), stranger),
        signed(CanaryReport(swarm, 1, target, stranger.id, 1, 9, 9, 1, 9, 0), stranger),
        signed(CanaryReport(swarm, 1, target, voter.id, 1, 9, 9, 1, 9, 0), voter),
        signed(Withdrawal(swarm, 1, target, stranger.id, 0), stranger),
    )
