"""The real network keeps the contract of the port."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from tests.adapters.libp2p.support import members
from tests.contracts.network_contract import Member, NetworkContract


class TestLibp2pNetwork(NetworkContract):
    def open_members(self, count: int) -> AbstractAsyncContextManager[Sequence[Member]]:
        return members(count)
