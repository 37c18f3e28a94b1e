"""What a node judges experts by: sessions signed with its real key, and what its store has kept."""

from __future__ import annotations

import pytest

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.core.trust.findings import ACCOUNTS
from swarmllm.core.trust.history import HISTORY, History
from swarmllm.core.trust.keeping import RECORDS, pack
from swarmllm.core.trust.reputation import Reputation, Terms
from swarmllm.core.trust.track_record import TrackRecord, TrackRecords
from swarmllm.errors import RemoteError
from swarmllm.messages import SESSION_SEALED_MAX, PeerId, SessionRecord
from swarmllm.runtime.trusting import track_records_of, trust_of
from swarmllm.testing.memory_store import MemoryStore
from tests.core.trust.test_history import ONE

RECORD = SessionRecord(2**32 - 1, bytes(range(32)), 2**32 - 1, bytes(32))
PEER, START_S = PeerId("one"), 1_800_000_000.0


def test_a_signed_session_is_read_by_anybody_and_changed_by_nobody() -> None:
    expert, requester = ephemeral_key(), ephemeral_key()
    trust = trust_of(expert, MemoryStore(), Terms(), 0.0)
    sealed = trust.seal(RECORD)
    assert len(sealed) <= SESSION_SEALED_MAX
    other = trust_of(requester, MemoryStore(), Terms(), 0.0)
    assert other.unseal(sealed) == (expert.peer, RECORD)
    with pytest.raises(RemoteError):
        other.unseal(sealed[:-1] + bytes((sealed[-1] ^ 1,)))


def test_what_was_found_comes_back_from_the_store() -> None:
    store, reputation = MemoryStore(), Reputation()
    reputation.proved(PEER, bytes(32), START_S, "it lies")
    store.save(ACCOUNTS, reputation.packed())
    records = TrackRecords([((PEER, bytes(32)), TrackRecord(audits=4.0))])
    store.save(RECORDS, pack(records, START_S))
    history = History()
    history.append(ONE)
    store.save(HISTORY, history.packed())
    trust = trust_of(ephemeral_key(), store, Terms(), START_S)
    assert list(History(trust.history)) == [ONE]
    assert trust.reputation.is_excluded(PEER, bytes(32), START_S + 60)
    assert track_records_of(store, START_S).of(PEER, bytes(32)).audits == 4.0
