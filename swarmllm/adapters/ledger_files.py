"""Ledgers and proofs as files that can be mailed, and checked by whoever has them.

An exported ledger is JSON lines: a first one with its checkpoint (a signed note, with the lines of
witnesses), then one for each entry.

    {"swarmllm_ledger": 1, "entries": 42, "checkpoint": "swarmllm/ledger/12D3KooW...\\n40\\n..."}
    {"number": 0, "leaf": "k1LNAQ..."}

A proof of one entry is a C2SP tlog-proof (c2sp.org/tlog-proof@v1) with the entry itself as its
extra data, so that it says all by itself.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.core.ledger.audit import LEAF_MAX, Audit, read_leaf
from swarmllm.core.ledger.merkle import Frontier, inclusion_proof, leaf_hash, verify_inclusion
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import LOG_SIZE_MAX, PROOF_HASHES_MAX
from swarmllm.wire.checkpoint import COSIGNED_MAX, SignedCheckpoint, open_checkpoint
from swarmllm.wire.envelope import Verify

FORMAT: Final = 1
LINE_MAX: Final = 4 * COSIGNED_MAX  # Characters of one line: a note, with every letter escaped.
PROOF_MAX: Final = COSIGNED_MAX + 16_384
PROOF_HEAD: Final = "c2sp.org/tlog-proof@v1"

Show = Callable[[int, int], None]
"""Hears how many entries of how many are done."""


def silent(_done: int, _all: int) -> None:
    """Shows nothing."""


# --- whole ledgers --------------------------------------------------------------------------------


def export_lines(size: int, note: bytes, leaves: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    """The lines of the file. `note` is empty if nothing was signed yet."""
    head = {"swarmllm_ledger": FORMAT, "entries": size, "checkpoint": note.decode()}
    yield json.dumps(head, ensure_ascii=True) + "\n"
    for number, leaf in leaves:
        yield json.dumps({"number": number, "leaf": base64.b64encode(leaf).decode()}) + "\n"


class ExportedLedger:
    """An exported file, read from its beginning to its end each time; nothing in it is believed."""

    def __init__(self, path: Path) -> None:
        """LocalError if it is none."""
        self._path = path
        with self._open() as file:
            head = self._record(file, 1)
        size, note = head.get("entries"), head.get("checkpoint")
        if head.get("swarmllm_ledger") != FORMAT:
            raise LocalError(f"{path} is no ledger that `swarmllm ledger export` wrote")
        if type(size) is not int or not 0 <= size <= LOG_SIZE_MAX or not isinstance(note, str):
            raise LocalError(f"{path} is damaged: its first line makes no sense")
        self.size = size
        self._note = note.encode("utf-8", "replace")

    def __enter__(self) -> ExportedLedger:
        return self

    def __exit__(self, *_: object) -> None:
        """Each reading closes what it opened."""

    def leaves(self, first: int = 0, count: int = -1) -> Iterator[tuple[int, bytes]]:
        with self._open() as file:
            self._record(file, 1)
            for at in range(self.size):
                if count >= 0 and at >= first + count:
                    return
                record = self._record(file, at + 2)
                if record.get("number") != at:
                    raise LocalError(f"{self._path} is damaged: entry {at} is not in line {at + 2}")
                if at >= first:
                    yield at, self._leaf(record.get("leaf"), at)

    def notes(self) -> tuple[tuple[int, bytes], ...]:
        if not self._note:
            return ()
        try:
            return ((int(self._note.split(b"\n")[1]), self._note),)
        except (IndexError, ValueError):
            return ((0, self._note),)

    def cosigned(self, _size: int) -> tuple[str, ...]:
        """They stand in the note."""
        return ()

    def heads(self) -> tuple[tuple[str, bytes], ...]:
        """What a node holds of others is not exported."""
        return ()

    alarms = heads

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        nodes: dict[tuple[int, int], bytes] = {}
        grown = Frontier()
        for _, leaf in self.leaves(0, size):
            for level, at, hashed in grown.append(leaf_hash(leaf)):
                nodes[level, at] = hashed
        return tuple(inclusion_proof(index, size, lambda level, at: nodes[level, at]))

    def audit(
        self, verify: Verify, show: Show = silent, more: Sequence[bytes] = ()
    ) -> tuple[Audit, tuple[str, ...]]:
        faults: list[str] = []
        checkpoints = []
        for size, note in (*self.notes(), *((0, note) for note in more)):
            try:
                checkpoints.append(open_checkpoint(note, verify, COSIGNED_MAX).checkpoint)
            except RemoteError as fault:
                faults.append(f"the checkpoint of {size} entries is not valid ({fault})")
        audit = Audit(checkpoints)
        try:
            for number, leaf in self.leaves():
                audit.leaf(leaf)
                if number % 1_000 == 0:
                    show(number, self.size)
        except LocalError as fault:
            faults.append(str(fault))
        return audit, (*faults, *audit.faults())

    def _open(self) -> IO[bytes]:
        try:
            return open(self._path, "rb")
        except OSError as error:
            raise LocalError(f"cannot read the ledger {self._path} ({error.strerror})") from error

    def _record(self, file: IO[bytes], number: int) -> dict[str, Any]:
        line = file.readline(LINE_MAX + 1)
        wrong = f"{self._path} is damaged: line {number}"
        if len(line) > LINE_MAX:
            raise LocalError(f"{wrong} has more than {LINE_MAX} bytes")
        if not line:
            raise LocalError(f"{wrong} is missing")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise LocalError(f"{wrong} is no JSON object")
        return found

    def _leaf(self, text: object, at: int) -> bytes:
        try:
            data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            data = b""
        if not 1 <= len(data) <= LEAF_MAX:
            raise LocalError(f"{self._path} is damaged: entry {at} is no entry")
        return data


# --- proofs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryProof:
    """That `leaf` is entry `number` of the log of a checkpoint."""

    number: int
    leaf: bytes
    hashes: tuple[bytes, ...]
    note: bytes

    def text(self) -> bytes:
        lines = [
            PROOF_HEAD,
            f"extra {base64.b64encode(self.leaf).decode()}",
            f"index {self.number}",
            *(base64.b64encode(one).decode() for one in self.hashes),
            "",
        ]
        return "".join(line + "\n" for line in lines).encode() + self.note


def is_proof(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(PROOF_HEAD)) == PROOF_HEAD.encode()
    except OSError:
        return False


def read_proof(path: Path) -> EntryProof:
    """LocalError for anything but a proof of ours, in the one form that we write."""
    data = read_bounded(path, PROOF_MAX, "the proof")
    try:
        head, _, note = data.partition(b"\n\n")
        lines = head.decode("ascii").split("\n")
        if lines[0] != PROOF_HEAD or not lines[1].startswith("extra "):
            raise ValueError("it is no proof with its entry")
        if not lines[2].startswith("index ") or len(lines) - 3 > PROOF_HASHES_MAX:
            raise ValueError("it has no index, or too many hashes")
        hashes = tuple(base64.b64decode(line, validate=True) for line in lines[3:])
        leaf = base64.b64decode(lines[1][6:], validate=True)
        found = EntryProof(int(lines[2][6:]), leaf, hashes, note)
    except (ValueError, IndexError) as error:
        raise LocalError(f"{path} is no proof that `swarmllm ledger prove` wrote") from error
    if found.text() != data or not 1 <= len(leaf) <= LEAF_MAX:
        raise LocalError(f"{path} is damaged: it is not written as proofs are")
    return found


def check_proof(proof: EntryProof, verify: Verify) -> SignedCheckpoint:
    """The checkpoint under which the entry stands. RemoteError if it does not."""
    found = open_checkpoint(proof.note, verify, COSIGNED_MAX)
    read_leaf(proof.leaf)
    at = found.checkpoint
    if not verify_inclusion(proof.number, at.size, leaf_hash(proof.leaf), proof.hashes, at.root):
        raise RemoteError(
            f"entry {proof.number} is not in the log of {at.size} entries that was signed"
        )
    return found
