"""The double keeps the contract, and fails like a full disk when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.errors import LocalError
from swarmllm.testing.memory_store import MemoryStore
from tests.contracts.store_contract import Make, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return MemoryStore

    def test_a_full_store_refuses_and_keeps_the_old_value(self) -> None:
        store = MemoryStore()
        store.save("a", b"old")
        store.is_full = True
        with pytest.raises(LocalError):
            store.save("a", b"new")
        assert (store.load("a"), store.saved) == (b"old", ["a"])
