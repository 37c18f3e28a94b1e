"""Records that people hand in: each is checked at once, and whoever handed it in waits until it is
on disk, or hears why it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from swarmllm.core.effects import RecordKept
from swarmllm.core.inputs import RecordOffered

T = TypeVar("T")


class HandingIn:
    """One for all who hand in at once. `kept` is what performs `RecordKept`."""

    def __init__(self) -> None:
        self._checks = itertools.count(1)
        self._faults: dict[int, str | None] = {}  # By check; None: not told yet.
        self._told = trio.lowlevel.ParkingLot()

    def kept(self, effect: RecordKept) -> None:
        """The answer to one of them has come; nobody may wait for it any more."""
        if effect.check in self._faults:
            self._faults[effect.check] = effect.fault
            self._told.unpark_all()

    async def submit(
        self,
        records: Sequence[bytes],
        channel: str,
        check: Callable[[RecordOffered], tuple[T, bool]],
    ) -> tuple[list[T], str]:
        """What `check` found of each record (the second of the pair: it was taken), and why what
        was taken is not on disk; empty if it is."""
        offers = [RecordOffered(next(self._checks), one, None, channel) for one in records]
        self._faults |= {offer.check: None for offer in offers}
        try:
            found = [check(offer) for offer in offers]
            taken = [offer.check for offer, (_, ok) in zip(offers, found, strict=True) if ok]
            while any(self._faults[number] is None for number in taken):
                await self._told.park()
            fault = next((why for number in taken if (why := self._faults[number])), "")
        finally:
            for offer in offers:
                del self._faults[offer.check]
        return [one for one, _ in found], fault
