"""Capacity records under the node's own key, and those of others under theirs."""

from __future__ import annotations

from swarmllm.core.capacity import check
from swarmllm.core.shuffling import Sealing
from swarmllm.messages import RECORD_MAX, CapacityRecord, PeerId
from swarmllm.runtime.ports import Keyring
from swarmllm.wire.envelope import seal, unseal


def sealing_with(keyring: Keyring) -> Sealing:
    def own(record: CapacityRecord) -> bytes:
        return seal(record, keyring.public_key, keyring.sign)

    def others(sealed: bytes) -> tuple[PeerId, CapacityRecord]:
        author, record = unseal(sealed, (CapacityRecord,), keyring.verify, RECORD_MAX)
        check(author, record)
        return author, record

    return Sealing(own, others)
