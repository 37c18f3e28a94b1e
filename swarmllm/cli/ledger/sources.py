"""Where a ledger is read from: this node's folder, another one, or an exported file; also while the
node runs, and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.adapters.ledger import LedgerFile
from swarmllm.adapters.ledger_files import ExportedLedger
from swarmllm.adapters.operator_keys import verify
from swarmllm.assembly import LEDGER_FILE
from swarmllm.cli.waiting import Silence
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.checkpoint import (
    COSIGNED_MAX,
    Cosignature,
    SignedCheckpoint,
    open_checkpoint,
    open_cosignature,
    with_lines,
)

PROGRESS_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is what people call it; `folder` is where it lies, if it is a folder's."""

    name: str
    ledger: LedgerFile | ExportedLedger
    folder: Path | None


@contextmanager
def opened(config: Config, named: str | None) -> Iterator[Source]:
    """The ledger that the user named. LocalError or UsageError if there is none."""
    path = config.data_dir if named is None else user_path(named)
    if path.is_dir() or named is None:
        with LedgerFile(path / LEDGER_FILE) as ledger:
            yield Source(f"the ledger of {path}", ledger, path)
    elif path.name == LEDGER_FILE:
        with LedgerFile(path) as ledger:
            yield Source(f"the ledger {path}", ledger, path.parent)
    elif path.exists():
        with ExportedLedger(path) as exported:
            yield Source(f"the ledger in {path}", exported, None)
    else:
        raise UsageError(f"{path} does not exist; name a data folder or an exported ledger")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Whatever takes longer than two seconds tells how far it is."""
    with Silence(what, every_s=PROGRESS_S) as silence:
        yield lambda done, size: silence.now(f"{what}: {done} of {size} entries")


def last_checkpoint(source: Source) -> SignedCheckpoint | None:
    """The newest, with the lines of its witnesses; None if nothing was signed yet. LocalError if it
    is not valid."""
    notes = source.ledger.notes()
    if not notes:
        return None
    size, note = notes[-1]
    try:
        found = open_checkpoint(note, verify, COSIGNED_MAX)
        whole = with_lines(found.note, [*found.lines, *source.ledger.cosigned(size)])
        return open_checkpoint(whole, verify, COSIGNED_MAX)
    except RemoteError as fault:
        raise LocalError(
            f"the last checkpoint of {source.name} is not valid ({fault});"
            " see `swarmllm ledger verify`"
        ) from fault


def cosigners(signed: SignedCheckpoint) -> tuple[tuple[Cosignature, ...], tuple[str, ...]]:
    """Those whose cosignature is good, and what is wrong with others, a sentence each."""
    good, wrong = {}, []
    for line in signed.lines:
        try:
            found = open_cosignature(line, signed.checkpoint, verify)
        except RemoteError as fault:
            wrong.append(str(fault))
            continue
        if found is not None:
            good[found.witness] = found
    return tuple(good.values()), tuple(wrong)


def checkpoint_bytes(signed: SignedCheckpoint) -> bytes:
    """The note with all its lines, as it is given to others."""
    return with_lines(signed.note, signed.lines)
