"""Capacity records under a node's own key: what it seals verifies elsewhere, and nothing else
does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swarmllm.errors import RemoteError
from swarmllm.messages import RECORD_MAX, ExpertRecord
from swarmllm.runtime.sealing import sealing_with
from swarmllm.wire.envelope import seal
from tests.runtime.little_swarm import key
from tests.runtime.puppet import RECORD

AUTHOR, OTHER = key(5), key(6)


def test_what_is_sealed_verifies_elsewhere() -> None:
    sealed = sealing_with(AUTHOR).seal(RECORD)
    assert sealing_with(OTHER).unseal(sealed) == (AUTHOR.peer, RECORD)


BAD = {
    "forged": seal(RECORD, AUTHOR.public_key, OTHER.sign),
    "junk": b"\xff" * 40,
    "empty": b"",
    "oversize": sealing_with(AUTHOR).seal(RECORD) + bytes(RECORD_MAX),
    "for another purpose": seal(
        ExpertRecord(1, "m", bytes(32), bytes(32), 1, ()), AUTHOR.public_key, AUTHOR.sign
    ),
    "contradicts itself": sealing_with(AUTHOR).seal(
        replace(RECORD, sessions_free=2, sessions_max=1)
    ),
    "unprintable": sealing_with(AUTHOR).seal(replace(RECORD, model="a\u202fb\u2060")),
}


@pytest.mark.parametrize("bad", BAD)
def test_everything_else_is_a_peer_fault(bad: str) -> None:
    with pytest.raises(RemoteError):
        sealing_with(OTHER).unseal(BAD[bad])
