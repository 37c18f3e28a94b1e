"""Samples of memberships and of the frames that carry them (protocols/membership.md)."""

from __future__ import annotations

from typing import Final

from scripts.invite_samples import ENDS_MS, MADE_MS, SWARM
from swarmllm.messages.membership import (
    MEMBERSHIP_MAX,
    Admitted,
    Membership,
    NotAdmitted,
    Pass,
    TicketShown,
)

MEMBERSHIP: Final = Membership(SWARM, bytes(range(32)), 1, MADE_MS, ENDS_MS)
FRAMES: Final = (
    MEMBERSHIP,
    Pass(b"\1", b""),
    Pass(b"\1" * MEMBERSHIP_MAX, b"\2" * MEMBERSHIP_MAX),
    TicketShown(bytes(range(16))),
    Admitted(b"\1", b"\2"),
    NotAdmitted(2),
)
