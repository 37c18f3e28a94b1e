"""`swarmllm ledger alarms` and `acknowledge`: what this node found of its neighbours' logs, with
the proof, and that its owner has looked at it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.adapters.datadir import locked
from swarmllm.adapters.ledger import SqliteLedger
from swarmllm.adapters.record_files import moment
from swarmllm.assembly import LEDGER_FILE
from swarmllm.cli.guard import OK, run
from swarmllm.cli.ledger.sources import Source, opened, progress
from swarmllm.cli.output import answer, people, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.ledger.alarms import acknowledgement
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import ALARM_FORKED, ALARMS, AlarmAcknowledged, LedgerAlarm
from swarmllm.runtime.config import Config
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.runtime.local_api.client import NoNodeError, ask
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.runtime.service.record import Record
from swarmllm.wire.codec import decode
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.signed import open_signed


@dataclass(frozen=True, slots=True)
class Alarm:
    """`number` is that of its entry, `data` the alarm as its witness signed it; `seen_at_ms`: when
    the owner acknowledged it, None if not yet."""

    number: int
    data: bytes
    record: LedgerAlarm
    seen_at_ms: int | None = None

    @property
    def id(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def proves_itself(self) -> bool:
        """To anybody; else it is the word of the node that signed it."""
        return self.record.what == ALARM_FORKED

    def fields(self) -> Record:
        return {
            "id": self.id,
            "log": peer_id_of(self.record.log),
            "what": ALARMS[self.record.what],
            "at_ms": self.record.at_ms,
            "entry": self.number,
            "proves_itself": self.proves_itself,
            "held": self.record.held.decode("utf-8", "replace"),
            "shown": self.record.shown.decode("utf-8", "replace"),
            "acknowledged_ms": self.seen_at_ms,
            "record": self.data.hex(),
        }


def alarms(config: Config, named: str | None, *, as_json: bool) -> int:
    with opened(config, named) as source:
        found, name = alarms_in(source), source.name
    if as_json:
        print_record({"event": "alarms", "alarms": [one.fields() for one in found]})
        return OK
    if not found:
        answer().print(Line(f"No alarm is in {name}: no log of a neighbour was found changed."))
    for one in found:
        answer().print(_view(one))
    return OK


def acknowledge(config: Config, id: str, *, as_json: bool) -> int:
    """An act of this node's owner. It takes nothing away: the alarm stays, and the log that it is
    about is not cosigned again."""
    with opened(config, None) as source:
        one = _with_id(alarms_in(source), id)
    if one.seen_at_ms is None and not _by_node(config, one):
        _into_folder(config, one)
    log = peer_id_of(one.record.log)
    if as_json:
        known = one.seen_at_ms is not None
        print_record({"event": "acknowledged", "id": one.id, "log": log, "known": known})
    else:
        done = "was acknowledged already" if one.seen_at_ms is not None else "is acknowledged"
        said = (
            f"Alarm {one.id[:16]} about {log} {done}; it stays in the ledger, entry {one.number}."
        )
        people().print(Line(said, "green"), soft_wrap=True)
    return OK


def alarms_in(source: Source) -> tuple[Alarm, ...]:
    """In the order of their entries."""
    found: dict[bytes, Alarm] = {}
    with progress("reading the ledger") as tell:
        for number, data in source.ledger.leaves():
            if number % 1_000 == 0:
                tell(number, source.ledger.size)
            try:
                leaf = read_leaf(bytes(data))
                if leaf.kind == LedgerKind.ALARM:
                    record = open_signed(leaf.payload, (LedgerAlarm,)).record
                    digest = sha256(leaf.payload).digest()
                    found.setdefault(digest, Alarm(number, leaf.payload, record))
                elif leaf.kind == LedgerKind.ACKNOWLEDGED:
                    digest = decode(leaf.payload, (AlarmAcknowledged,)).digest
                    if digest in found and found[digest].seen_at_ms is None:
                        old = found[digest]
                        found[digest] = Alarm(old.number, old.data, old.record, leaf.at_ms)
            except RemoteError:
                continue  # Damaged: `ledger verify` says so.
    return tuple(found.values())


def _with_id(found: Sequence[Alarm], id: str) -> Alarm:
    digits = id.lower()
    if not 1 <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
        raise UsageError(
            f"{id[:80]!r} is no id of an alarm; `swarmllm ledger alarms` shows them, and their"
            " first digits are enough"
        )
    fits = [one for one in found if one.id.startswith(digits)]
    if len(fits) != 1:
        many = f"{len(fits)} alarms begin" if fits else "no alarm of this ledger begins"
        raise UsageError(f"{many} with {id[:80]!r}; `swarmllm ledger alarms` shows them")
    return fits[0]


def _by_node(config: Config, one: Alarm) -> bool:
    """Whether a node runs on the folder, which then has written it down."""
    is_running = True

    async def body() -> int:
        nonlocal is_running
        asked = {"log": peer_id_of(one.record.log), "alarm": one.id}
        try:
            await ask(config.data_dir, "ledger_acknowledge", QUESTION, **asked)
        except NoNodeError:
            is_running = False
        return OK

    if run(body) != OK:
        raise KeyboardInterrupt  # `run` ends when somebody asks it to; then so do we.
    return is_running


def _into_folder(config: Config, one: Alarm) -> None:
    entry = acknowledgement(one.record.log, bytes.fromhex(one.id))
    with locked(config.data_dir) as data, closing(SqliteLedger(data.path / LEDGER_FILE)) as ledger:
        ledger.write(LedgerWrites((leaf_of(entry, time.time_ns() // 1_000_000),)))


def _view(one: Alarm) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("alarm", one.id[:16])
    what = f"the ledger of {peer_id_of(one.record.log)} {ALARMS[one.record.what]}"
    seen = one.seen_at_ms
    table.add_row("what", Line(what, "bold red" if seen is None else ""))
    table.add_row("when", f"{moment(one.record.at_ms)}, entry {one.number} of this ledger")
    table.add_row("it had signed", Line(_checkpoint(one.record.held)))
    table.add_row("then it showed", Line(_checkpoint(one.record.shown)))
    proof = "these two prove it to anybody (--json has them whole)"
    word = "the word of the node that signed the alarm; ask the owner of the other one"
    table.add_row("proof", proof if one.proves_itself else word)
    done = "not yet: swarmllm ledger acknowledge " + one.id[:8]
    table.add_row("acknowledged", done if seen is None else moment(seen))
    return Group(table, "")


def _checkpoint(note: bytes) -> str:
    """Size and root of a signed note, which begins with its origin."""
    lines = note.decode("utf-8", "replace").split("\n")
    return f"{lines[1]} entries, root {lines[2]}" if len(lines) > 2 else "an empty note"
