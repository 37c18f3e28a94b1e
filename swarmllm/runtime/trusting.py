"""What a node judges experts by: its own key, its secret random numbers, and what it has kept."""

from __future__ import annotations

import random

from swarmllm.core.trust.audits import Trust
from swarmllm.core.trust.findings import ACCOUNTS
from swarmllm.core.trust.history import HISTORY
from swarmllm.core.trust.keeping import RECORDS, unpack
from swarmllm.core.trust.reputation import Reputation, Terms
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.messages import SESSION_SEALED_MAX, PeerId, SessionRecord
from swarmllm.runtime.ports import Keyring, Store
from swarmllm.wire.envelope import seal, unseal


def trust_of(keyring: Keyring, store: Store, terms: Terms, unix_at_zero_s: float) -> Trust:
    """As it was kept. The positions that are looked at are drawn from the system's randomness, so
    that nobody can know them."""

    def own(record: SessionRecord) -> bytes:
        return seal(record, keyring.public_key, keyring.sign)

    def others(sealed: bytes) -> tuple[PeerId, SessionRecord]:
        return unseal(sealed, (SessionRecord,), keyring.verify, SESSION_SEALED_MAX)

    reputation = Reputation(terms, store.load(ACCOUNTS) or b"", unix_at_zero_s)
    history = store.load(HISTORY) or b""
    return Trust(reputation, random.SystemRandom(), own, others, unix_at_zero_s, history)


def track_records_of(store: Store, now_s: float) -> TrackRecords:
    """What was seen of other experts before this start, as it counts now."""
    return TrackRecords(unpack(store.load(RECORDS) or b"", now_s))
