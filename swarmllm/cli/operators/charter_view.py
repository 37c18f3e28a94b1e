"""A charter and its signatures as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from rich.table import Table

from swarmllm.adapters.record_files import Sheet, moment
from swarmllm.cli.screen import Line
from swarmllm.core.halt.charter import expired
from swarmllm.messages import SEQ_MAX, Charter
from swarmllm.runtime.service.halt_fields import ROLES, charter_fields
from swarmllm.runtime.service.record import Record
from swarmllm.wire.marks import vector_of
from swarmllm.wire.signed import key_id

_MEANING: Final = {
    "root": "may change the charter, {} together",
    "halt": "may stop the swarm, each alone",
    "resume": "may start it again, {} together",
    "voter": "may vote on proposals",
    "beacon": "may send signs of life",
}


@dataclass(frozen=True, slots=True)
class Gathered:
    """Signatures of the role's keys: who signed, who else may, and how many are needed."""

    role: str
    signed: tuple[bytes, ...]
    others: tuple[bytes, ...]
    needed: int

    @property
    def missing(self) -> int:
        return max(0, self.needed - len(self.signed))

    def record(self) -> Record:
        ids = {
            "signed": [key_id(key).hex() for key in self.signed],
            "others": [key_id(key).hex() for key in self.others],
        }
        return {"role": self.role, **ids, "needed": self.needed, "missing": self.missing}

    def sentence(self) -> str:
        have = f"{len(self.signed)} of {self.needed} signatures of {self.role}"
        if not self.missing:
            return have
        may = ", ".join(key_id(key).hex()[:8] for key in self.others)
        return f"{have}: {self.missing} missing, of {may}"


def gathered(sheet: Sheet, role: str, keys: Sequence[bytes], needed: int) -> Gathered:
    signed = tuple(key for key in sheet.signers if key in keys)
    return Gathered(role, signed, tuple(key for key in keys if key not in signed), needed)


def root_signatures(sheet: Sheet, before: Charter | None) -> tuple[Gathered, ...]:
    """What a charter needs: the root threshold of the charter before it, and its own."""
    charter = sheet.record
    assert isinstance(charter, Charter)
    own = gathered(
        sheet, f"the root keys of charter {charter.version}", charter.root, charter.root_threshold
    )
    if before is None:
        return (own,)
    return (
        gathered(
            sheet, f"the root keys of charter {before.version}", before.root, before.root_threshold
        ),
        own,
    )


def charter_line(sheet: Sheet, before: Charter | None) -> Record:
    """The `charter` record of `--json`."""
    charter = sheet.record
    assert isinstance(charter, Charter)
    ids = {role: [key_id(key).hex() for key in getattr(charter, role)] for role in ROLES}
    return {
        "event": "charter",
        **charter_fields(charter),
        "hash": sha256(sheet.payload).hexdigest(),
        "swarm": sha256(sheet.payload).hexdigest() if charter.version == 1 else None,
        "follows": charter.prev_hash.hex() if charter.version > 1 else None,
        "key_ids": ids,
        "lift_base": {key.hex(): seq for key, seq in vector_of(charter.lift_base).items()},
        "signatures": [one.record() for one in root_signatures(sheet, before)],
    }


def charter_brief(sheet: Sheet, before: Charter | None, fault: str) -> Table:
    """What changes by writing or signing a charter: its name, how many keys it has, who has signed.
    `fault`: of the terms of governance beside it."""
    charter = sheet.record
    assert isinstance(charter, Charter)
    together = {"root": charter.root_threshold, "resume": charter.resume_threshold}
    keys = [
        f"{role} {len(getattr(charter, role))}"
        + (f" ({together[role]} together)" if role in together else "")
        for role in ROLES
        if getattr(charter, role)
    ]
    table = _begun(sheet, charter)
    table.add_row("keys", ", ".join(keys))
    if fault:
        table.add_row("governance", Line(fault, "yellow"))
    return _signed(table, sheet, before)


def _begun(sheet: Sheet, charter: Charter) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("charter", f"{charter.version}, written {moment(charter.issued_ms)}")
    is_first = charter.version == 1
    table.add_row(
        "swarm" if is_first else "follows",
        sha256(sheet.payload).hexdigest() if is_first else charter.prev_hash.hex(),
    )
    return table


def _signed(table: Table, sheet: Sheet, before: Charter | None) -> Table:
    for one in root_signatures(sheet, before):
        table.add_row("signed", Line(one.sentence(), style="yellow" if one.missing else "green"))
    return table


def charter_table(
    sheet: Sheet,
    before: Charter | None,
    now_ms: int,
    governance: Sequence[tuple[str, str]] = (),
) -> Table:
    """`governance`: what its terms say, a row each."""
    charter = sheet.record
    assert isinstance(charter, Charter)
    table = _begun(sheet, charter)
    thresholds = {"root": charter.root_threshold, "resume": charter.resume_threshold}
    for role in ROLES:
        keys = getattr(charter, role)
        if not keys:
            continue
        table.add_row(role, _MEANING[role].format(f"{thresholds.get(role, 1)} of {len(keys)}"))
        for key in keys:
            table.add_row("", Line(f"{key_id(key).hex()}  {key.hex()}", style="dim"))
    table.add_row(
        "a halt", f"takes back the last {charter.revert_changes} changes that the agent made"
    )
    if charter.beacon_ttl_s:
        table.add_row(
            "beacons",
            f"without a sign of life for {charter.beacon_ttl_s} s, nodes stop by themselves",
        )
    for key, seq in vector_of(charter.lift_base).items():
        table.add_row("lifted", f"{key.hex()} {'for good' if seq == SEQ_MAX else f'up to {seq}'}")
    if charter.expires_ms:
        late = expired(charter, now_ms)
        by = moment(charter.expires_ms)
        table.add_row(
            "renew by", Line(f"{by} (past: it still holds; renew it)", "yellow") if late else by
        )
    for name, said in governance:
        table.add_row(name, said)
    return _signed(table, sheet, before)
