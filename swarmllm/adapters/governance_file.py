"""Governance records as a file that is carried by hand: the charters and halt records of a swarm,
its terms of governance, and proposals with all that was signed to them.

A voter signs on a machine that runs no node by such a file, and hands in what was signed by
another. As with files of halt records (`record_files`) the readable lines are written from the
records and never read: a file is accepted if, and only if, it is what we would write. Whether a
record counts is for governance to judge, wherever the file is read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, assert_never

from swarmllm.adapters.armour import armoured
from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.adapters.record_files import Sheet, moment, parse, render
from swarmllm.adapters.terms_file import BEGIN as TERMS_BEGIN
from swarmllm.adapters.terms_file import parse_terms, render_terms
from swarmllm.core.governance.admission import GOVERNING
from swarmllm.core.governance.mandate import read_terms
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages.governance import (
    PROPOSAL_RECORD_MAX,
    CanaryReport,
    GovernanceRecord,
    Proposal,
    Vote,
    Withdrawal,
)
from swarmllm.wire.signed import MultiSigned, key_id, open_signed

WHAT: Final = "the file of proposals"
# All that a node may hold: 1,280 proposals, of which few have more than some votes.
FILE_BYTES_MAX: Final = 16 << 20
RECORDS_MAX: Final = 16_384
_BEGIN: Final = "-----BEGIN SWARMLLM GOVERNANCE RECORD-----"
_END: Final = "-----END SWARMLLM GOVERNANCE RECORD-----"


@dataclass(frozen=True, slots=True)
class GovernanceFile:
    """`halts` are charters and halt records, charter 1 first; `terms` the encoding of the terms
    (empty: none); `cases` the records of each proposal as they were signed, the proposal first."""

    halts: tuple[Sheet, ...]
    terms: bytes
    cases: tuple[tuple[bytes, ...], ...]

    @property
    def records(self) -> tuple[bytes, ...]:
        """Terms and records in an order in which each can be checked."""
        flat = tuple(record for case in self.cases for record in case)
        return (self.terms, *flat) if self.terms else flat


def render_governance(file: GovernanceFile) -> str:
    """The text of a file with these records."""
    terms = render_terms(read_terms(file.terms)) if file.terms else ""
    records = "".join(_rendered(record) for case in file.cases for record in case)
    return render(file.halts) + terms + records


def read_governance(path: Path) -> GovernanceFile:
    """What a file holds; a file of halt records or of a charter alone is one, too. LocalError,
    naming the file and what is wrong with it."""
    return parse_governance(read_bounded(path, FILE_BYTES_MAX, WHAT), str(path))


def parse_governance(text: bytes, name: str) -> GovernanceFile:
    """The same of the text of a file called `name`."""
    plain = text.decode("latin-1").replace("\r\n", "\n")
    if plain and not plain.endswith("\n"):
        plain += "\n"
    at = _first(plain, TERMS_BEGIN, _BEGIN)
    halts = parse(plain[:at].encode("latin-1"), name)
    behind = _first(plain, _BEGIN)
    terms = parse_terms(plain[at:behind].encode("latin-1"), name) if at < behind else b""
    file = GovernanceFile(halts, terms, _grouped(_records(plain[behind:], name), name))
    if render_governance(file) != plain:
        raise LocalError(
            f"{name} is damaged or was changed: its readable lines do not belong to its records;"
            " ask for the file again"
        )
    return file


def opened(data: bytes) -> MultiSigned[GovernanceRecord]:
    """A record as it was signed; nobody has checked the signature. RemoteError if it is none."""
    if len(data) > PROPOSAL_RECORD_MAX:
        raise RemoteError(f"governance record of {len(data)} bytes exceeds {PROPOSAL_RECORD_MAX}")
    return open_signed(data, GOVERNING)


def titled(data: bytes) -> str:
    """A record in a few words, for people."""
    one = opened(data)
    by = key_id(one.signatures[0][:32]).hex()[:16]
    match one.record:
        case Proposal():
            return f"PROPOSAL {case_of(one).hex()[:16]} of key {by}"
        case Vote(yes=yes, proposal=proposal):
            return f"VOTE {'yes' if yes else 'no'} of key {by} on proposal {proposal.hex()[:16]}"
        case Withdrawal(proposal=proposal):
            return f"WITHDRAWAL of proposal {proposal.hex()[:16]} by key {by}"
        case CanaryReport(proposal=proposal):
            return f"CANARY REPORT of key {by} on proposal {proposal.hex()[:16]}"


def case_of(one: MultiSigned[GovernanceRecord]) -> bytes:
    """The id of the proposal that a record is, or is about."""
    record = one.record
    return sha256(one.payload).digest() if isinstance(record, Proposal) else record.proposal


def _first(text: str, *edges: str) -> int:
    """Where the first block of these begins; the end of the text if there is none."""
    return min((at for edge in edges if (at := text.find(edge)) >= 0), default=len(text))


def _records(text: str, name: str) -> list[bytes]:
    found: list[bytes] = []
    for block in text.split(f"{_BEGIN}\n")[1:]:
        if len(found) >= RECORDS_MAX:
            raise LocalError(
                f"{name} holds more than {RECORDS_MAX} records, and no node has so many;"
                " give another file"
            )
        letters, end, _ = block.partition("\n\n")[2].partition(f"\n{_END}\n")
        if not end:
            raise LocalError(f"{name} is cut short; ask for the whole file")
        try:
            data = base64.b64decode(letters.replace("\n", ""), validate=True)
            opened(data)
        except (binascii.Error, ValueError, RemoteError) as fault:
            number = len(found) + 1
            raise LocalError(
                f"{name} holds no valid record {number} of governance ({fault});"
                " ask for the file again"
            ) from fault
        found.append(data)
    return found


def _grouped(records: Sequence[bytes], name: str) -> tuple[tuple[bytes, ...], ...]:
    """Each proposal with what was signed to it, which stands behind it."""
    cases: dict[bytes, list[bytes]] = {}
    for data in records:
        one = opened(data)
        id = case_of(one)
        if not isinstance(one.record, Proposal) and id not in cases:
            raise LocalError(
                f"{name} has a {type(one.record).__name__.lower()} about proposal"
                f" {id.hex()[:16]}, and not the proposal before it; ask for the file again"
            )
        cases.setdefault(id, []).append(data)
    return tuple(tuple(found) for found in cases.values())


def _rendered(data: bytes) -> str:
    lines = [*_described(opened(data)), ("Check", sha256(data).hexdigest()[:16])]
    return armoured(_BEGIN, lines, data, _END)


def _described(one: MultiSigned[GovernanceRecord]) -> list[tuple[str, str]]:
    """The readable lines. Actions stand in them as they were encoded: words for them may change
    with the version, and this text may not."""
    record = one.record
    lines = [
        ("Type", type(record).__name__.upper()),
        ("Swarm", record.swarm.hex()),
        ("Charter", str(record.charter_version)),
        ("Proposal", case_of(one).hex()),
    ]
    match record:
        case Proposal():
            lines += [("Author", record.author.hex()), ("Action", record.action.hex())]
        case Vote():
            lines += [("Key", record.key.hex()), ("Vote", "yes" if record.yes else "no")]
        case Withdrawal():
            lines += [("Key", record.key.hex())]
        case CanaryReport():
            lines += [("Key", record.key.hex()), ("Worse", "yes" if record.worse else "no")]
        case _:
            assert_never(record)
    lines.append(("Issued", moment(record.issued_ms)))
    return [*lines, *(("Signed-By", key_id(entry[:32]).hex()) for entry in one.signatures)]
