"""A host's ledger: on its disk, written as `runtime.ledger_performer` writes it, each entry some
milliseconds after it was ordered. A host that is killed before that has not written it; what its
halt state proves is entered at its next start."""

from __future__ import annotations

from typing import Any, Final, Protocol

from swarmllm.core.effects import AppendToLedger, LedgerEffect
from swarmllm.core.halt.entries import entries_of
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import LedgerGrew, LedgerInput
from swarmllm.errors import LocalError
from swarmllm.messages import LEDGER
from swarmllm.runtime.ledger_performer import open_with, perform_group, refusal
from swarmllm.testing.world.disk import STEP_S, Disk
from swarmllm.testing.world.event_queue import EventQueue

RETRY_S: Final = 2.0  # A full disk is tried again.


class LedgerHost(Protocol):
    """What a `Host` is, as far as its ledger is concerned."""

    disk: Disk
    life: int
    alive: bool
    channels: tuple[str, ...]
    boot_ms: int
    ledger_fault: str
    started_at: float
    halt_machine: HaltMachine | None

    def receive(self, event: Any) -> None: ...

    def receive_if(self, life: int, event: Any) -> None: ...


def open_ledger(host: LedgerHost, queue: EventQueue) -> None:
    """The host has started: what its ledger holds, and what that should hold besides."""
    held = [] if host.halt_machine is None else entries_of(host.halt_machine.state)
    _, _, lacking, told = open_with(lambda: host.disk.ledger, lambda _: "", held)
    if LEDGER in host.channels:
        queue.after(STEP_S, host.receive_if, host.life, told)
    for entry in lacking:
        write(host, queue, AppendToLedger(entry))


def write(host: LedgerHost, queue: EventQueue, effect: LedgerEffect) -> None:
    """Answered in a moment."""
    queue.after(STEP_S, _written, host, queue, host.life, effect)


def _written(host: LedgerHost, queue: EventQueue, life: int, effect: LedgerEffect) -> None:
    if life != host.life or not host.alive:
        return
    answers: list[LedgerInput] = []
    host.disk.ledger.is_full = host.disk.full
    if host.ledger_fault:  # Nothing is written upon what is wrong, or proved of it.
        if (no := refusal(effect)) is not None:
            host.receive(no)
        return
    try:
        answers = perform_group(host.disk.ledger, [effect], _unix_ms(host, queue))
    except LocalError:
        if (no := refusal(effect)) is not None:
            answers = [no]
        else:
            queue.after(RETRY_S, _written, host, queue, life, effect)
    for answer in answers:
        if LEDGER in host.channels or not isinstance(answer, LedgerGrew):
            host.receive(answer)


def _unix_ms(host: LedgerHost, queue: EventQueue) -> int:
    """Its wall clock."""
    return host.boot_ms + round(1000 * (queue.now - host.started_at))
