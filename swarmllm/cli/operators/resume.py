"""`swarmllm resume`: a proposal that goes from hand to hand until enough people have signed it, and
only then starts anything.

A proposal's file holds the charters and the halts that it would lift before the RESUME itself. So
whoever signs, on a machine that has never seen the swarm, is shown what was stopped, by whom and
why, and whose signatures are missing; all of it checked there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

from swarmllm.adapters.atomic_file import refuse_existing, replace_whole, write_new
from swarmllm.adapters.operator_keys import read_key
from swarmllm.adapters.record_files import (
    Sheet,
    draft,
    merged,
    moment,
    read_sheets,
    render,
    sheet_of,
    with_signature,
)
from swarmllm.cli.guard import OK
from swarmllm.cli.operators import passphrase
from swarmllm.cli.operators.charter_view import Gathered, gathered
from swarmllm.cli.operators.halt_source import (
    Standing,
    refuse_other_swarm,
    standing_if_any,
    standing_of,
    state_in,
)
from swarmllm.cli.operators.publishing import deliver, told
from swarmllm.cli.output import answer, notice, people, print_record
from swarmllm.cli.screen import Line
from swarmllm.core.halt.state import HaltState, next_resume
from swarmllm.errors import HaltedError, LocalError, UsageError
from swarmllm.messages import Resume, reason_name
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import NoNodeError
from swarmllm.runtime.service.halt_fields import halts_fields
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.marks import vector_of

WHAT: Final = "the proposal"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A file: what proves the state that it speaks of, that state, and the RESUME at its end."""

    path: Path
    before: tuple[Sheet, ...]
    state: HaltState
    sheet: Sheet

    @property
    def resume(self) -> Resume:
        assert isinstance(self.sheet.record, Resume)
        return self.sheet.record

    @property
    def signatures(self) -> Gathered:
        charter = self.state.charter
        assert charter is not None
        return gathered(self.sheet, "the resume keys", charter.resume, charter.resume_threshold)


def propose(config: Config, out: str, from_file: str | None, *, as_json: bool) -> int:
    """Write the RESUME that lifts everything that stands. UsageError if nothing does."""
    path = user_path(out)
    refuse_existing(path, WHAT)
    state = (
        standing_of(config).state
        if from_file is None
        else state_in(read_sheets(user_path(from_file)), from_file)
    )
    sheet = draft(next_resume(state, time.time_ns() // 1_000_000))
    lifted = {halt.key for halt in state.standing}
    kept = [
        *state.charters,
        *(one for one in state.halts if getattr(one.record, "key", b"") in lifted),
    ]
    proposal = Proposal(path, tuple(sheet_of(one.data) for one in kept), state, sheet)
    write_new(path, _text(proposal), WHAT)
    return _shown(proposal, as_json=as_json)


def sign(
    file: str,
    key_files: Sequence[str],
    merge_files: Sequence[str],
    passphrase_file: str | None,
    *,
    as_json: bool,
) -> int:
    """Add signatures to the proposal, in place. UsageError for a key without the role resume."""
    proposal = read_proposal(user_path(file))
    if not key_files and not merge_files:
        raise UsageError(
            "nothing to sign with; give a key file with --key,"
            " or a signed copy of the file with --merge"
        )
    charter = proposal.state.charter
    assert charter is not None
    sheet = proposal.sheet
    for name in merge_files:
        sheet = merged(sheet, read_proposal(user_path(name)).sheet)
    for name in key_files:
        key = read_key(user_path(name))
        if key.public_key not in charter.resume:
            raise UsageError(
                f"key {key.id.hex()} ({key.name}) has no role resume in charter {charter.version};"
                " sign with a resume key"
            )
        if key.public_key in sheet.signers:
            notice(f"{key.name} ({key.id.hex()}) has signed already.")
            continue
        if not as_json:
            people().print(_table(proposal, with_signatures=False))
        sheet = with_signature(sheet, key.public_key, passphrase.unseal(key, passphrase_file))
    signed = Proposal(proposal.path, proposal.before, proposal.state, sheet)
    if sheet != proposal.sheet:
        replace_whole(signed.path, _text(signed), WHAT)
    return _shown(signed, as_json=as_json, only_signatures=True)


def publish(config: Config, files: Sequence[str], wait_s: float, *, as_json: bool) -> int:
    """Hand on the RESUME; copies that were signed apart are put together. HaltedError if a newer
    halt stands all the same."""
    proposals = [read_proposal(user_path(name)) for name in files]
    first = proposals[0]
    sheet = first.sheet
    for other in proposals[1:]:
        sheet = merged(sheet, other.sheet)
    whole = Proposal(first.path, first.before, first.state, sheet)
    if whole.signatures.missing:
        raise LocalError(
            f"{first.path} has {whole.signatures.sentence()};"
            f" let them sign it with `swarmllm resume sign {first.path} --key FILE`"
        )
    standing = standing_if_any(config)
    if standing is None:  # The file's own proof is all there is to go by.
        standing = Standing(first.state, str(first.path))
    refuse_other_swarm(standing.state, first.before, str(first.path))
    if standing.status is None and not config.peers:
        raise NoNodeError(
            f"no node runs on {config.data_dir} to publish through; start one with `swarmllm join`,"
            " or name peers with --peer"
        )
    delivery = deliver(
        config, [sheet.data], wait_s, as_json=as_json, peers=config.peers, state=standing.state
    )
    told(delivery, "The resume", as_json=as_json)
    if as_json:
        counted: Record = {
            "peers": delivery.peers,
            "acknowledged": delivery.acknowledged,
            "ms": delivery.ms,
        }
        print_record(
            {"event": "published", "type": "resume", "swarm": whole.resume.swarm.hex()}
            | whole.signatures.record()
            | counted
        )
    lifts = vector_of(whole.resume.lifts)
    newer = [halt for halt in standing.state.standing if halt.seq > lifts.get(halt.key, 0)]
    if newer:
        raise HaltedError(
            f"the swarm stays halted by order {newer[0].seq} of key {newer[0].key.hex()},"
            " which is newer than this proposal; propose again with `swarmllm resume propose`"
        )
    return OK


# --- the file -------------------------------------------------------------------------------------


def read_proposal(path: Path) -> Proposal:
    """The proposal in a file, and the proof of what it speaks of. LocalError if it is none, or if
    the two do not belong together."""
    sheets = read_sheets(path)
    last = sheets[-1]
    if not isinstance(last.record, Resume) or any(
        isinstance(sheet.record, Resume) for sheet in sheets[:-1]
    ):
        raise LocalError(
            f"{path} is no proposal to resume; give a file that `swarmllm resume propose` wrote"
        )
    state = state_in(sheets[:-1], str(path))
    charter = state.charter
    assert charter is not None
    if last.record.swarm != state.swarm or last.record.charter_version != state.version:
        raise LocalError(
            f"{path} proposes to resume under another charter than it shows;"
            " propose again with `swarmllm resume propose`"
        )
    if state.highs != vector_of(last.record.lifts):
        raise LocalError(
            f"{path} lifts other halts than it shows; propose again with `swarmllm resume propose`"
        )
    proposal = Proposal(path, sheets[:-1], state, last)
    if stray := set(last.signers) - set(charter.resume):
        raise LocalError(
            f"{path} is signed by {min(stray).hex()[:16]}…,"
            f" which is no resume key of charter {charter.version}; propose again"
        )
    return proposal


def _text(proposal: Proposal) -> bytes:
    return render([*proposal.before, proposal.sheet]).encode()


def _shown(proposal: Proposal, *, as_json: bool, only_signatures: bool = False) -> int:
    if as_json:
        halts = halts_fields(proposal.state.standing)
        head = {
            "event": "proposal",
            "file": str(proposal.path),
            "swarm": proposal.resume.swarm.hex(),
        }
        print_record(
            head
            | {"charter_version": proposal.resume.charter_version, "lifts": halts}
            | proposal.signatures.record()
        )
    elif only_signatures:
        style = "yellow" if proposal.signatures.missing else "green"
        answer().print(Line(proposal.signatures.sentence(), style=style), soft_wrap=True)
    else:
        answer().print(_table(proposal, with_signatures=True))
    return OK


def _table(proposal: Proposal, *, with_signatures: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("swarm", proposal.resume.swarm.hex())
    for halt in proposal.state.standing:
        what = (
            f"order {halt.seq} of key {halt.key.hex()}, reason: {reason_name(halt.reason_code)},"
            f" {moment(halt.issued_ms)}"
        )
        table.add_row("lifts", what)
    if with_signatures:
        table.add_row("file", Line(str(proposal.path)))
        table.add_row(
            "signed",
            Line(
                proposal.signatures.sentence(),
                style="yellow" if proposal.signatures.missing else "green",
            ),
        )
    return table
