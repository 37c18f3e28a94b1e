"""An entry as people and machines see it: its payload is decoded as the message that it is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from swarmllm.core.ledger.audit import kind_name, read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import DECLARED, Signed
from swarmllm.runtime.service.record import Record
from swarmllm.wire.codec import decode
from swarmllm.wire.signed import key_id

SHOWN_MAX: Final = 200  # Characters of one field.
_RECORDS: Final = tuple(kind for kind, one in DECLARED.items() if one.domain)


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` is the name of the message in it; `signers` are the ids of the keys that signed it."""

    number: int
    kind: str
    at_ms: int
    payload: bytes
    what: str
    fields: dict[str, Any]
    signers: tuple[str, ...]

    def record(self) -> Record:
        return {
            "event": "ledger_entry",
            "number": self.number,
            "kind": self.kind,
            "at_ms": self.at_ms,
            "what": self.what,
            "fields": self.fields,
            "signers": list(self.signers),
            "payload": self.payload.hex(),
        }

    def words(self) -> str:
        """In one line; whatever stands in it is written out where it is shown."""
        told = [
            f"{name} {_short(value)}"
            for name, value in self.fields.items()
            if _says_something(name, value)
        ]
        by = (
            [f"signed by {', '.join(signer[:8] for signer in self.signers)}"]
            if self.signers
            else []
        )
        return ", ".join([*told, *by])


def entry_of(number: int, data: bytes) -> Entry:
    """Of a later version, or damaged: with its bytes alone."""
    try:
        leaf = read_leaf(data)
    except RemoteError:
        return Entry(number, "damaged", 0, data, "", {}, ())
    message, signers = _opened(leaf.payload)
    what = "" if message is None else type(message).__name__
    found = (
        {}
        if message is None
        else {f.name: plain(getattr(message, f.name)) for f in fields(message)}
    )
    return Entry(number, kind_name(leaf.kind), leaf.at_ms, leaf.payload, what, found, signers)


def kinds_of(names: list[str]) -> frozenset[str]:
    """UsageError for a kind that there is not."""
    known = {kind_name(kind) for kind in LedgerKind}
    wanted = {name.strip().lower().replace("_", " ").replace("-", " ") for name in names}
    for name in sorted(wanted - known):
        raise UsageError(
            f"--kind {name!r} is no kind of entry; choose among {', '.join(sorted(known))}"
        )
    return frozenset(wanted)


def plain(value: object) -> Any:
    """JSON has no bytes and no tuples: hex and lists."""
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [plain(item) for item in value]
        case _:
            return value


def _opened(payload: bytes) -> tuple[Any, tuple[str, ...]]:
    try:
        message: Any = decode(payload, tuple(DECLARED))
        if not isinstance(message, Signed):
            return message, ()
        record: Any = decode(message.payload, _RECORDS)
        return record, tuple(key_id(one[:32]).hex() for one in message.signatures)
    except RemoteError:
        return None, ()


def _says_something(name: str, value: Any) -> bool:
    """Not so a hash of nothing but zeros, nor a time that is not set."""
    if isinstance(value, str):
        return bool(value.strip("0"))
    return value != [] and not (value == 0 and name.endswith(("_ms", "_s")))


def _short(value: Any) -> str:
    text = ", ".join(map(_short, value)) if isinstance(value, list) else str(value)
    if isinstance(value, str) and len(value) > 24 and all(c in "0123456789abcdef" for c in value):
        text = f"{value[:16]}…"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
