"""`swarmllm bench ledger`: what an entry costs beside the flush of the disk, and how long a whole
log takes to verify.

The entry is written in the same way with and without a flush, and beside that a plain file is
written and flushed. The least for verifying is one SHA-256 for each leaf and each inner node.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.ledger import LedgerFile, SqliteLedger
from swarmllm.cli.bench.report import Measurement, Report, table
from swarmllm.cli.guard import OK
from swarmllm.cli.output import answer, people
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.errors import UsageError
from swarmllm.runtime.ledger_performer import GROUP_MAX, leaf_of
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.wire.checkpoint import Checkpoint, sign_checkpoint

ENTRIES_MAX: Final = 2_000_000
PAYLOAD_BYTES: Final = 300  # A signed halt has 250, a vote 300, a charter up to 4,096.
SINGLES: Final = 200  # Entries that are written alone, each beside a plain write.
PROOFS: Final = 200
APPEND_GOAL_MS, VERIFY_GOAL_S = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`folder` is on the disk to measure; None: the one of temporary files."""

    entries: int
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not 1_000 <= self.entries <= ENTRIES_MAX:
            raise UsageError(
                f"--entries is {self.entries}, and it must be from 1000 to {ENTRIES_MAX}"
            )


def bench_ledger(plan: Plan, *, as_json: bool) -> int:
    report = Report(as_json=as_json)
    with people().status("starting") as status:
        for measurement in measure(plan, status.update):
            report.add(measurement)
    if not as_json:
        answer().print(table(report.measurements))
    return OK


def measure(plan: Plan, say: Callable[[str], None]) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(prefix="swarmllm-ledger-", dir=plan.folder) as folder:
        path = Path(folder) / "ledger.sqlite"
        leaves = _leaves(plan.entries)
        with closing(SqliteLedger(path)) as ledger:
            yield _filled(ledger, leaves, say)
            yield _beside_fsync(Path(folder), say)
            yield _proofs(ledger)
            key = ephemeral_key()
            at = Checkpoint(key.peer, ledger.size, ledger.root)
            note = sign_checkpoint(at, key.public_key, key.sign)
            ledger.write(LedgerWrites(checkpoints=((ledger.size, note),)))
        yield _verified(path, key.verify, say)


def _leaves(count: int) -> list[bytes]:
    rng = random.Random(1)
    return [
        leaf_of(LedgerEntry(LedgerKind.GOVERNANCE, rng.randbytes(PAYLOAD_BYTES)), number)
        for number in range(count)
    ]


def _filled(ledger: SqliteLedger, leaves: list[bytes], say: Callable[[str], None]) -> Measurement:
    """In groups, as a node that is busy writes."""
    began = time.perf_counter()
    for at in range(0, len(leaves), GROUP_MAX):
        ledger.write(LedgerWrites(tuple(leaves[at : at + GROUP_MAX])))
        if at % (64 * GROUP_MAX) == 0:
            say(f"writing: {at} of {len(leaves)} entries")
    each_ms = 1_000 * (time.perf_counter() - began) / len(leaves)
    began = time.perf_counter()
    for leaf in leaves:
        sha256(sha256(leaf).digest())
    least_ms = 1_000 * (time.perf_counter() - began) / len(leaves)
    parameters = {"entries": len(leaves), "in_groups_of": GROUP_MAX}
    return Measurement("append", each_ms, "ms", least_ms, parameters, APPEND_GOAL_MS)


def _beside_fsync(path: Path, say: Callable[[str], None]) -> Measurement:
    """What one entry alone takes besides the flush: the same on the same disk, without it. Beside
    that, with it, and a plain write and fsync of as much, all in turns, so that whatever else the
    machine does meets all three."""
    say("one entry at a time, with and without a flush")
    took: dict[str, list[float]] = {"without": [], "with": [], "plain": []}
    fd = os.open(path / "plain", os.O_WRONLY | os.O_CREAT, 0o600)
    with (
        closing(SqliteLedger(path / "without.sqlite", flushes=False)) as without,
        closing(SqliteLedger(path / "with.sqlite")) as flushed,
        os.fdopen(fd, "wb", buffering=0) as plain,
    ):

        def plainly(leaf: bytes) -> None:
            plain.write(leaf)
            os.fsync(fd)

        for leaf in _leaves(SINGLES):
            for name, write in (
                ("without", lambda one: without.write(LedgerWrites((one,)))),
                ("with", lambda one: flushed.write(LedgerWrites((one,)))),
                ("plain", plainly),
            ):
                began = time.perf_counter()
                write(leaf)
                took[name].append(1_000 * (time.perf_counter() - began))
    median = {name: statistics.median(found) for name, found in took.items()}
    parameters = {
        "with_flush_ms": round(median["with"], 3),
        "plain_fsync_ms": round(median["plain"], 3),
    }
    return Measurement(
        "append beside fsync", median["without"], "ms", 0.0, parameters, APPEND_GOAL_MS
    )


def _proofs(ledger: SqliteLedger) -> Measurement:
    rng = random.Random(2)
    took = []
    for _ in range(PROOFS):
        old = rng.randrange(1, ledger.size)
        began = time.perf_counter()
        ledger.prove(old, ledger.size)
        took.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(ledger.size.bit_length() * PROOFS):
        sha256(bytes(65)).digest()
    least_ms = 1_000 * (time.perf_counter() - began) / PROOFS
    parameters = {"entries": ledger.size}
    return Measurement(
        "consistency proof", 1_000 * statistics.median(took), "ms", least_ms, parameters
    )


def _verified(
    path: Path, verify: Callable[[bytes, bytes, bytes], bool], say: Callable[[str], None]
) -> Measurement:
    with LedgerFile(path) as file:
        began = time.perf_counter()
        audit, wrong = file.audit(verify, lambda done, size: say(f"verifying: {done} of {size}"))
        took_s = time.perf_counter() - began
        assert not wrong, wrong
    began = time.perf_counter()
    for _ in range(audit.size):
        sha256(bytes(PAYLOAD_BYTES)).digest()
        sha256(bytes(65)).digest()
    least_s = time.perf_counter() - began
    # The goal is for a hundred thousand.
    goal_s = VERIFY_GOAL_S * audit.size / 100_000
    return Measurement("verify", took_s, "s", least_s, {"entries": audit.size}, goal_s)
