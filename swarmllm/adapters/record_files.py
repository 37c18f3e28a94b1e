"""Halt records as files that can be mailed, read by people, and carried by hand to where no
network goes.

    -----BEGIN SWARMLLM SIGNED RECORD-----
    Type: HALT
    Swarm: 5d1c…
    …
    Check: 9f8b3c…

    base64 of the record, 64 characters a line
    -----END SWARMLLM SIGNED RECORD-----

The readable lines are written from the record and never read as anything else: a file is accepted
if, and only if, it is what we would write for the records in it. So no line can say something that
the record does not, and not one byte can differ. A file is one or more such blocks in order,
charters first; an UNSIGNED block holds a record that nobody has signed yet.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, assert_never

from swarmllm.adapters.armour import armoured
from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.adapters.operator_keys import verify
from swarmllm.core.halt.charter import CHARTERS_MAX
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import (
    CHARTER_RECORD_MAX,
    ROLE_KEYS_MAX,
    Charter,
    Halt,
    Live,
    Resume,
)
from swarmllm.wire import codec
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.envelope import Sign
from swarmllm.wire.marks import vector_of
from swarmllm.wire.signed import (
    HALT_DOMAINS,
    add_signature,
    key_id,
    merge,
    open_record,
    sign_record,
)

RECORDS_MAX: Final = CHARTERS_MAX + 2 * ROLE_KEYS_MAX + 1  # A whole halt state, and a proposal.
# So many records of 4 KiB, in base64 and with their readable lines, have 0.8 MiB.
FILE_BYTES_MAX: Final = 1 << 20

_SIGNED, _UNSIGNED = "SIGNED", "UNSIGNED"
# A HALT is made and signed in one step.
_DRAFTS: Final[tuple[type[Resume | Charter], ...]] = (Resume, Charter)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One record in a file. `data` is the signed record, empty while nobody has signed; `payload`
    the record's own encoding."""

    record: Halt | Resume | Charter
    payload: bytes
    data: bytes
    signers: tuple[bytes, ...]


def draft(record: Resume | Charter) -> Sheet:
    """A record that nobody has signed. LocalError if it breaks its own bounds."""
    return Sheet(record, codec.encode(record), b"", ())


def sheet_of(data: bytes) -> Sheet:
    """A signed record. RemoteError if it is none, of a kind that is not carried in files, or with a
    bad signature."""
    opened = open_record(data)
    if isinstance(opened.record, Live):
        raise RemoteError("a beacon's sign of life means nothing in a file")
    domain = HALT_DOMAINS[type(opened.record)]
    for entry in opened.signatures:
        if not is_sound(entry[:32], entry[32:]) or not verify(
            entry[:32], domain + opened.payload, entry[32:]
        ):
            raise RemoteError(
                f"{type(opened.record).__name__}: bad signature of key {key_id(entry[:32]).hex()}"
            )
    return Sheet(opened.record, opened.payload, data, opened.signers)


def with_signature(sheet: Sheet, public_key: bytes, sign: Sign) -> Sheet:
    """The sheet signed by one more key. LocalError if it would be too large."""
    data = (
        add_signature(sheet.data, public_key, sign)
        if sheet.data
        else sign_record(sheet.record, [(public_key, sign)])
    )
    return sheet_of(data)


def merged(one: Sheet, two: Sheet) -> Sheet:
    """The same record with the signatures of both. LocalError if they are different records."""
    if one.payload != two.payload:
        raise LocalError(
            "the files hold different records, so their signatures do not add up;"
            " sign copies of one and the same file"
        )
    if not one.data or not two.data:
        return one if one.data else two
    return sheet_of(merge(one.data, two.data))


# --- files ----------------------------------------------------------------------------------------


def read_sheets(path: Path) -> tuple[Sheet, ...]:
    """The records in a file. LocalError, naming the file and what is wrong with it."""
    return parse(read_bounded(path, FILE_BYTES_MAX, "the file of records"), str(path))


def parse(text: bytes, name: str) -> tuple[Sheet, ...]:
    """The records in the text of a file called `name`. LocalError for any text that `render` would
    not write.

    Mail may have made every line end in CR LF, or taken the last line end away; nothing else may
    differ.
    """
    if len(text) > FILE_BYTES_MAX:
        raise LocalError(
            f"{name} has {len(text)} bytes, and no file of records has more than {FILE_BYTES_MAX};"
            " give another file"
        )
    plain = text.decode("latin-1")
    if "\r\n" in plain:
        if plain.count("\r\n") != plain.count("\n"):
            raise LocalError(
                f"{name} is damaged: its lines end in different ways; ask for the file again"
            )
        plain = plain.replace("\r\n", "\n")
    if plain and not plain.endswith("\n"):
        plain += "\n"
    sheets: list[Sheet] = []
    lines = plain.split("\n")[:-1]
    at = 0
    while at < len(lines):
        if len(sheets) >= RECORDS_MAX:
            raise LocalError(
                f"{name} holds more than {RECORDS_MAX} records, and no halt state has so many;"
                " give another file"
            )
        at, sheet = _block(lines, at, f"{name}, record {len(sheets) + 1}" if sheets else name)
        sheets.append(sheet)
    if not sheets:
        raise LocalError(f"{name} is empty; give a file that swarmllm wrote")
    if render(sheets) != plain:
        raise LocalError(
            f"{name} is damaged or was changed: its readable lines do not belong to its records;"
            " ask for the file again"
        )
    return tuple(sheets)


def _block(lines: Sequence[str], at: int, name: str) -> tuple[int, Sheet]:
    """The record whose block begins at line `at`, and where the next one begins."""
    kind = next((kind for kind in (_SIGNED, _UNSIGNED) if lines[at] == _edge("BEGIN", kind)), None)
    if kind is None:
        raise LocalError(
            f"{name} does not begin with {_edge('BEGIN', _SIGNED)};"
            " give a file that swarmllm wrote, as it is"
        )
    try:
        end = lines.index(_edge("END", kind), at)
        body = lines.index("", at, end) + 1
    except ValueError:
        raise LocalError(f"{name} is cut short; ask for the whole file") from None
    letters = "".join(lines[body:end])
    if len(letters) > 4 * (CHARTER_RECORD_MAX // 3 + 1):
        raise LocalError(
            f"{name} has {len(letters)} characters of base64, more than any record;"
            " give another file"
        )
    try:
        data = base64.b64decode(letters, validate=True)
        return end + 1, sheet_of(data) if kind == _SIGNED else _draft_of(data)
    except (binascii.Error, ValueError) as error:
        raise LocalError(
            f"{name} is damaged: its base64 is broken; ask for the file again"
        ) from error
    except RemoteError as fault:
        raise LocalError(
            f"{name} holds no valid record ({fault}); ask for the file again"
        ) from fault


def _draft_of(payload: bytes) -> Sheet:
    record = codec.decode(payload, _DRAFTS)
    return Sheet(record, payload, b"", ())


def render(sheets: Sequence[Sheet]) -> str:
    """The text of a file with these records."""
    return "".join(map(_rendered, sheets))


def _rendered(sheet: Sheet) -> str:
    kind = _SIGNED if sheet.data else _UNSIGNED
    data = sheet.data or sheet.payload
    lines = [*_described(sheet), ("Check", sha256(data).hexdigest()[:16])]
    return armoured(_edge("BEGIN", kind), lines, data, _edge("END", kind))


def _edge(edge: str, kind: str) -> str:
    return f"-----{edge} SWARMLLM {kind} RECORD-----"


def _described(sheet: Sheet) -> list[tuple[str, str]]:
    """The readable lines, all of them taken from the record."""
    record = sheet.record
    lines = [("Type", type(record).__name__.upper())]
    match record:
        case Halt():
            lines += [
                ("Swarm", record.swarm.hex()),
                ("Key", record.key.hex()),
                ("Order", str(record.seq)),
            ]
            # Its name may change with the version, and this text may not.
            lines += [("Reason-Code", str(record.reason_code))]
        case Resume():
            lines += [("Swarm", record.swarm.hex()), ("Charter", str(record.charter_version))]
            lines += [
                ("Lifts", f"{key.hex()} up to {seq}")
                for key, seq in vector_of(record.lifts).items()
            ]
        case Charter():
            first = record.version == 1
            lines += [("Version", str(record.version)), ("Hash", sha256(sheet.payload).hexdigest())]
            lines += [
                (
                    "Swarm" if first else "Follows",
                    (sha256(sheet.payload).digest() if first else record.prev_hash).hex(),
                )
            ]
        case _:
            assert_never(record)
    lines.append(("Issued", moment(record.issued_ms)))
    return lines + [("Signed-By", key_id(key).hex()) for key in sheet.signers]


def moment(unix_ms: int) -> str:
    """A time for people, in UTC; far outside the calendar, the number itself."""
    try:
        return (
            datetime.fromtimestamp(unix_ms // 1000, UTC).replace(tzinfo=None).isoformat(" ")
            + " UTC"
        )
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"
