"""The ledger's writer: what waits to be written is written together, in a thread, with one flush.

Nothing waits for it. Whoever may not act on what is not recorded gets an answer to its number, "no"
included: a full disk, a damaged file or a read-only folder means that nothing is enacted. What the
kill switch leaves behind is only noted here; it has stopped everything long before, and is tried
again until there is room. Records of halts that were never written, because the node was killed or
the disk was full, are entered at the next start.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Final, assert_never

import trio

from swarmllm.core.effects import (
    AppendToLedger,
    DoubtLedger,
    KeepAlarm,
    KeepCheckpoint,
    KeepCosignature,
    KeepHead,
    LedgerEffect,
    ProveConsistency,
)
from swarmllm.core.inputs import (
    CheckpointKept,
    ConsistencyProved,
    HeadKept,
    LedgerFaulty,
    LedgerGrew,
    LedgerInput,
    LedgerOpened,
    Recorded,
)
from swarmllm.core.ledger.alarms import acknowledgement
from swarmllm.core.ledger.entry import LedgerEntry
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import LedgerAlarm, LedgerLeaf
from swarmllm.runtime.ports import Ledger, LedgerWrites
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import open_signed

GROUP_MAX: Final = 256  # Effects in one transaction.
# Effects that wait for a disk; beyond it those with a number are refused, others dropped and
# counted. A second of the hardest work is a tenth.
WAITING_MAX: Final = 4_096
RETRY_S: Final = (2.0, 60.0)  # After a failure, twice as long each time.
FAREWELL_S: Final = 0.5  # For what still waits when the node stops.

log = logging.getLogger("swarmllm.ledger")


class LedgerPerformer:
    """`open_ledger`, `look` and `audit` run in threads. `look` says at once, `audit` after having
    read the whole log, what is wrong with what is written (a sentence, or several). `held` are
    the entries that must be in the ledger at the start; `unix_ms` is the time that entries are
    given, for people; `warn` hears each fault in a sentence."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        look: Callable[[Ledger], str],
        audit: Callable[[], Sequence[str]],
        held: Callable[[], Sequence[LedgerEntry]],
        unix_ms: Callable[[], int],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.fault = ""  # Why nothing can be written, in a sentence.
        self.dropped = 0
        self._open, self._look, self._audit = open_ledger, look, audit
        self._held, self._unix_ms, self._warn = held, unix_ms, warn
        self._waiting: deque[LedgerEffect] = deque()
        self._bell = trio.Event()
        self._ledger: Ledger | None = None
        self._is_spoilt = False  # What is written already is not what it was.
        self._retry_s = RETRY_S[0]

    def perform(self, effect: LedgerEffect) -> None:
        """Put it behind what waits. Never waits, never raises."""
        if len(self._waiting) >= WAITING_MAX and not _wants_answer(effect):
            self.dropped += 1
            log.error("the ledger is %d entries behind; one was dropped", len(self._waiting))
            return
        self._waiting.append(effect)
        self._bell.set()

    async def run(self, feed: Callable[[LedgerInput], Awaitable[None]]) -> None:
        """Open the ledger and write, until cancelled; what waits then is still written. `feed`
        hears every answer."""
        try:
            async with trio.open_nursery() as nursery:
                while not await self._opened(feed):
                    await self._refuse_for(self._next_retry_s(), feed)
                nursery.start_soon(self._look_through, feed)
                while True:
                    if self._waiting and not self._is_spoilt:
                        await self._write(feed)
                    elif self._waiting:
                        await self._refuse_for(RETRY_S[1], feed)
                    else:
                        self._bell = trio.Event()
                        await self._bell.wait()
        finally:
            await self._say_farewell()

    # --- opening ----------------------------------------------------------------------------------

    async def _opened(self, feed: Callable[[LedgerInput], Awaitable[None]]) -> bool:
        held = list(self._held())
        try:
            opened, wrong, lacking, told = await trio.to_thread.run_sync(
                partial(open_with, self._open, self._look, held),
                abandon_on_cancel=True,  # type: ignore[call-arg]  # Some installed stubs are older than trio.
            )
        except LocalError as fault:
            await self._failed(fault, feed)
            return False
        self._ledger = opened
        queued = {one.entry for one in self._waiting if isinstance(one, AppendToLedger)}
        for entry in reversed(lacking):
            if entry not in queued:
                self._waiting.appendleft(AppendToLedger(entry))
        await self._recovered(feed)
        await feed(told)
        if wrong:
            await self._spoilt(wrong, feed)
        return True

    async def _look_through(self, feed: Callable[[LedgerInput], Awaitable[None]]) -> None:
        """The whole log, once, while the node runs."""
        try:
            wrong = await trio.to_thread.run_sync(
                self._audit,
                abandon_on_cancel=True,  # type: ignore[call-arg]  # As above.
            )
        except LocalError as fault:
            wrong = (str(fault),)
        if wrong and not self._is_spoilt:
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            await self._spoilt(f"{wrong[0]}{more}", feed)

    async def _spoilt(self, what: str, feed: Callable[[LedgerInput], Awaitable[None]]) -> None:
        """Nothing more is written upon what is wrong, and nothing of it is signed."""
        self._is_spoilt = True
        remedy = "restore it from a copy, and see `swarmllm ledger verify`"
        await self._failed(LocalError(f"{what}; {remedy}"), feed)

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self, feed: Callable[[LedgerInput], Awaitable[None]]) -> None:
        group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
        assert self._ledger is not None
        for doubt in [one for one in group if isinstance(one, DoubtLedger)][:1]:
            await self._spoilt(doubt.sentence, feed)
            self._keep(group)
            await self._answer(group, feed)
            return
        try:
            # Shielded: what has begun ends, and is not written a second time.
            with trio.CancelScope(shield=True):
                answers = await trio.to_thread.run_sync(
                    perform_group, self._ledger, group, self._unix_ms()
                )
        except LocalError as fault:
            self._keep(group)
            await self._answer(group, feed)
            await self._failed(fault, feed)
            await self._refuse_for(self._next_retry_s(), feed)
            return
        await self._recovered(feed)
        for answer in answers:
            await feed(answer)

    async def _refuse_for(
        self, seconds: float, feed: Callable[[LedgerInput], Awaitable[None]]
    ) -> None:
        """Nothing can be written for a while: whoever wants an answer has it at once."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            group = [*self._waiting]
            self._waiting.clear()
            self._keep(group)
            await self._answer(group, feed)
            self._bell = trio.Event()
            with trio.move_on_at(until):
                await self._bell.wait()

    def _keep(self, group: Sequence[LedgerEffect]) -> None:
        """Those that want no answer stay in front of what waits."""
        self._waiting.extendleft(
            one for one in reversed(group) if isinstance(one, AppendToLedger) and not one.number
        )

    async def _answer(
        self, group: Sequence[LedgerEffect], feed: Callable[[LedgerInput], Awaitable[None]]
    ) -> None:
        for one in group:
            answer = refusal(one)
            if isinstance(one, ProveConsistency) and self._ledger is not None:
                answer = await self._proof(self._ledger, one)
            if answer is not None:
                await feed(answer)

    async def _proof(self, ledger: Ledger, order: ProveConsistency) -> ConsistencyProved:
        """What cannot be written can still be read; of a spoilt ledger nothing is proved."""
        hashes = None
        if not self._is_spoilt:
            try:
                hashes = await trio.to_thread.run_sync(ledger.prove, order.old, order.new)
            except LocalError as fault:
                log.error("%s", fault)
        return ConsistencyProved(order.peer, order.old, order.new, hashes)

    async def _say_farewell(self) -> None:
        if self._ledger is None:
            return
        group = [] if self._is_spoilt else [*self._waiting]
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
            try:
                # Closed by the thread that writes: one that is given up on is not closed under.
                await trio.to_thread.run_sync(
                    partial(perform_last, self._ledger, group, self._unix_ms()),
                    abandon_on_cancel=True,  # type: ignore[call-arg]  # As above.
                )
            except LocalError as fault:
                log.error("%s", fault)

    # --- faults -----------------------------------------------------------------------------------

    async def _failed(
        self, fault: LocalError, feed: Callable[[LedgerInput], Awaitable[None]]
    ) -> None:
        if str(fault) != self.fault:
            self.fault = str(fault)
            log.error("%s", fault)
            self._warn(self.fault)
            await feed(LedgerFaulty(self.fault))

    async def _recovered(self, feed: Callable[[LedgerInput], Awaitable[None]]) -> None:
        self._retry_s = RETRY_S[0]
        if self.fault and not self._is_spoilt:
            self.fault = ""
            log.warning("the ledger can be written again")
            await feed(LedgerFaulty(""))

    def _next_retry_s(self) -> float:
        wait_s, self._retry_s = self._retry_s, min(2 * self._retry_s, RETRY_S[1])
        return wait_s


def leaf_of(entry: LedgerEntry, unix_ms: int) -> bytes:
    """The entry as it is hashed."""
    return encode(LedgerLeaf(int(entry.kind), unix_ms, entry.payload))


def open_with(
    open_ledger: Callable[[], Ledger],
    look: Callable[[Ledger], str],
    held: Sequence[LedgerEntry],
) -> tuple[Ledger, str, list[LedgerEntry], LedgerOpened]:
    """The ledger, what `look` says of it, which of the entries `held` it lacks, and what the node
    is told."""
    opened = open_ledger()
    lacking = [entry for entry in held if not opened.holds(entry.payload)]
    heads = tuple(sorted(opened.heads().items()))
    alarms = tuple(data for _, data in sorted(opened.alarms().items()))
    seen = tuple(sha256(data).digest() for data in alarms if _is_acknowledged(opened, data))
    told = LedgerOpened(opened.size, opened.root, opened.note, heads, alarms, seen)
    return opened, look(opened), lacking, told


def _is_acknowledged(ledger: Ledger, alarm: bytes) -> bool:
    try:
        log = open_signed(alarm, (LedgerAlarm,)).record.log
    except RemoteError:
        return False  # Damaged: the audit says so.
    return ledger.holds(acknowledgement(log, sha256(alarm).digest()).payload)


def perform_group(ledger: Ledger, group: Sequence[LedgerEffect], unix_ms: int) -> list[LedgerInput]:
    """The whole group in one transaction, and the answers to it. LocalError: nothing of it was
    written."""
    writes = LedgerWrites(
        tuple(leaf_of(one.entry, unix_ms) for one in group if isinstance(one, AppendToLedger)),
        tuple((one.size, one.note) for one in group if isinstance(one, KeepCheckpoint)),
        tuple(
            (one.size, one.witness, one.line) for one in group if isinstance(one, KeepCosignature)
        ),
        tuple((one.peer, one.note) for one in group if isinstance(one, KeepHead)),
        tuple((one.peer, one.data) for one in group if isinstance(one, KeepAlarm)),
    )
    if writes != LedgerWrites():
        ledger.write(writes)
    answers: list[LedgerInput] = []
    for one in group:
        match one:
            case AppendToLedger(entry=entry, number=number):
                if number:
                    answers.append(Recorded(entry.kind, number, ok=True))
            case KeepCheckpoint(size=size):
                answers.append(CheckpointKept(size, ok=True))
            case KeepHead(peer=peer, note=note):
                answers.append(HeadKept(peer, note, ok=True))
            case ProveConsistency(peer=peer, old=old, new=new):
                answers.append(ConsistencyProved(peer, old, new, ledger.prove(old, new)))
            case KeepCosignature() | KeepAlarm() | DoubtLedger():
                pass
            case _:
                assert_never(one)
    if writes.leaves:
        answers.append(LedgerGrew(ledger.size, ledger.root))
    return answers


def perform_last(ledger: Ledger, group: Sequence[LedgerEffect], unix_ms: int) -> None:
    """What still waits, and nothing after it. LocalError: it was not written; closed all the
    same."""
    try:
        if group:
            perform_group(ledger, group, unix_ms)
    finally:
        ledger.close()


def _wants_answer(effect: LedgerEffect) -> bool:
    return refusal(effect) is not None


def refusal(effect: LedgerEffect) -> LedgerInput | None:
    """The answer while nothing can be written; None: none is wanted."""
    match effect:
        case AppendToLedger(entry=entry, number=number):
            return Recorded(entry.kind, number, ok=False) if number else None
        case KeepCheckpoint(size=size):
            return CheckpointKept(size, ok=False)
        case KeepHead(peer=peer, note=note):
            return HeadKept(peer, note, ok=False)
        case ProveConsistency(peer=peer, old=old, new=new):
            return ConsistencyProved(peer, old, new, None)
        case KeepCosignature() | KeepAlarm() | DoubtLedger():
            return None
        case _:
            assert_never(effect)
