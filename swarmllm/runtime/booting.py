"""Boots the kill switch first: the saved halt state is loaded and obeyed before a listener opens or
a worker starts.

A node that was halted when it was killed starts halted; one whose record of halts was lost or
cannot be read starts halted, too. The first state of a new folder is on disk before anybody can
reach us, so that from then on its loss can be told from its absence.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import trio

from swarmllm.core.effects import (
    EndStreams,
    HaltEffect,
    Penalise,
    PublishRecord,
    RecordChecked,
    Relay,
    SendFrame,
)
from swarmllm.core.halt.charter import (
    NamedCharter,
    Pin,
    Rejected,
    charter_hash,
    private_charter,
)
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import HaltState, Outcome
from swarmllm.core.halt.state_file import load
from swarmllm.core.inputs import RecordOffered
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import Charter
from swarmllm.runtime.halt_performer import HaltPerformer, HaltStore
from swarmllm.runtime.ports import Keyring
from swarmllm.wire.signed import open_record, sign_record

HALTED_NEXT: Final = "`swarmllm halt status` shows what ends it"

log = logging.getLogger("swarmllm.halt")


class Remembering(HaltStore, Protocol):
    """`adapters.halt_folder`."""

    def load(self) -> tuple[bytes | None, bytes | None, bytes | None]: ...


def pin_of(records: Sequence[bytes]) -> Pin:
    """The swarm of a file of records, which must begin with its first charter. LocalError if it
    does not."""
    first = open_record(records[0])
    if not isinstance(first.record, Charter) or first.record.version != 1:
        raise LocalError(
            "the file of the charter does not begin with a swarm's first charter;"
            " give the one that founded the swarm"
        )
    return Pin(charter_hash(first), tuple(records))


async def boot(
    store: Remembering,
    keyring: Keyring,
    pin: Pin | None,
    rng: random.Random,
) -> tuple[HaltPerformer, tuple[str, ...]]:
    """The kill switch, started, and what people should be told, a sentence each.

    UsageError if the folder belongs to another swarm or charter; LocalError if a record of the pin
    is not valid.
    """
    first, second, genesis = await trio.to_thread.run_sync(store.load)
    private = sign_record(private_charter(keyring.public_key), [(keyring.public_key, keyring.sign)])
    found = load(first, second, genesis, private, None if pin is None else pin.swarm)
    if pin is not None and pin.named is not None:
        found = replace(found, state=_under(found.state, pin.named))
    now = trio.current_time()
    machine = HaltMachine(
        found, keyring.public_key, keyring.verify, rng, round((time.time() - now) * 1000)
    )
    orders = HaltPerformer(machine, store)
    _perform(orders, machine.start(now))
    for check, record in enumerate(() if pin is None else pin.records):
        outcome = _perform(orders, machine.handle(RecordOffered(check, record), now))
        if isinstance(outcome, Rejected):
            raise LocalError(
                f"a record of the charter is not valid: {outcome.reason};"
                " ask its operators for the file again"
            )
    while (event := await orders.save_next()) is not None:
        _perform(orders, machine.handle(event, trio.current_time()))
        if not event.ok:
            break  # It is tried again while the node runs; an order to stop is obeyed all the same.
    halted = (f"This node writes no text: {why}; {HALTED_NEXT}" for why in machine.halted)
    return orders, (*found.remarks, *halted)


def _under(state: HaltState, named: NamedCharter) -> HaltState:
    """The state with the charter that it must come to. UsageError if it has another one already."""
    if any(map(named.contradicts, state.charters)):
        raise UsageError(
            f"charter {named.version} of this folder is not the one that the invite names"
            f" ({named.hash.hex()[:16]}); use another folder with --data-dir"
        )
    return replace(state, named=named)


def _perform(orders: HaltPerformer, effects: Sequence[HaltEffect]) -> Outcome | None:
    """Carry out what the kill switch wants before there is a network; returns what it found of a
    record that was offered."""
    outcome: Outcome | None = None
    for effect in effects:
        if isinstance(effect, RecordChecked):
            assert isinstance(effect.outcome, Outcome), f"{effect.outcome} of the kill switch"
            outcome = effect.outcome
        # Nobody is connected yet.
        elif not isinstance(effect, Penalise | SendFrame | Relay | PublishRecord | EndStreams):
            orders.perform(effect)
    return outcome
