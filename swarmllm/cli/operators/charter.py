"""`swarmllm charter`: who may stop the swarm, who may start it again, written down and signed by
those who may change that.

A charter file carries the charters before it, so that whoever is asked to sign sees what changes
and whose signatures are still missing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from swarmllm.adapters.atomic_file import refuse_existing, replace_whole, write_new
from swarmllm.adapters.operator_keys import read_key, read_public, verify
from swarmllm.adapters.record_files import Sheet, draft, merged, read_sheets, render, with_signature
from swarmllm.cli.guard import FAILED, OK
from swarmllm.cli.operators import passphrase
from swarmllm.cli.operators.charter_terms import (
    GovernanceGiven,
    held_terms,
    named_digest,
    refuse_existing_terms,
    terms_fields,
    terms_of,
    terms_sentences,
    with_terms,
    write_terms,
)
from swarmllm.cli.operators.charter_view import (
    Gathered,
    charter_brief,
    charter_line,
    charter_table,
    root_signatures,
)
from swarmllm.cli.operators.halt_source import standing_of, state_in
from swarmllm.cli.operators.held_out import held_out_fields, held_out_rows, with_held_out
from swarmllm.cli.output import answer, complain, notice, print_record, shell_word
from swarmllm.cli.screen import Line
from swarmllm.core.governance.held_out import held_out_in
from swarmllm.core.halt.charter import (
    FEW_SIGNATURES,
    charter_hash,
    expired,
    first_fault,
    next_fault,
    successor,
)
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import ROLE_KEYS_MAX, Charter
from swarmllm.messages.governance import GovernanceTerms
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.halt_fields import ROLES
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.signed import SignedRecord, key_id, open_record

WHAT: Final = "the charter file"
NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a charter says, as far as it was given: keys by role as people name them, None for what
    stays (or its default)."""

    roles: Mapping[str, Sequence[str]]
    root_threshold: int | None = None
    resume_threshold: int | None = None
    revert: int | None = None
    beacon_ttl: int | None = None
    expires: str | None = None
    held_out: str | None = None


def create(terms: Terms, governing: GovernanceGiven, out: str, *, as_json: bool) -> int:
    path = user_path(out)
    refuse_existing(path, WHAT)
    refuse_existing_terms(path)
    keys: dict[str, Any] = {role: _keys(role, terms.roles.get(role) or ()) for role in ROLES}
    for role in ("root", "halt", "resume"):
        if not keys[role]:
            raise UsageError(f"a charter needs at least one {role} key; give it with --{role}")
    charter = Charter(
        version=1,
        prev_hash=bytes(32),
        **keys,
        root_threshold=2 if terms.root_threshold is None else terms.root_threshold,
        resume_threshold=2 if terms.resume_threshold is None else terms.resume_threshold,
        revert_changes=3 if terms.revert is None else terms.revert,
        beacon_ttl_s=terms.beacon_ttl or 0,
        lift_base=(),
        issued_ms=_now_ms(),
        expires_ms=_expires(terms.expires or NEVER),
    )
    governed = terms_of(governing, None, len(charter.voter))
    charter = with_held_out(with_terms(charter, governed), terms.held_out)
    _check(charter)
    sheets = (draft(charter),)
    write_terms(path, governed)
    write_new(path, render(sheets).encode(), WHAT)
    return _written(path, sheets, as_json=as_json)


def rotate(
    config: Config,
    file: str,
    terms: Terms,
    governing: GovernanceGiven,
    state_file: str | None,
    out: str,
    *,
    as_json: bool,
) -> int:
    """The charter after the one in `file`: what is not given stays as it is."""
    path = user_path(out)
    refuse_existing(path, WHAT)
    refuse_existing_terms(path)
    sheets = [sheet for sheet in charters_in(user_path(file)) if sheet.data]
    if not sheets:
        raise LocalError(
            f"the charter in {file} has no signature yet, so none can follow it;"
            f" sign it with `swarmllm charter sign {file}`"
        )
    head = open_record(sheets[-1].data)
    current = _charter(sheets[-1])
    lifts = _lifts(config, state_file, head, file)
    keys: dict[str, Any] = {
        role: _keys(role, terms.roles.get(role) or ()) or getattr(current, role) for role in ROLES
    }
    governed = terms_of(governing, held_terms(user_path(file), current), len(keys["voter"]))
    changed = with_terms(_changed(current, keys, terms), governed)
    if changed == current:
        raise UsageError(
            f"nothing would change in charter {current.version}; name the keys,"
            " thresholds or date that shall be others"
        )
    following = successor(head, lifts, replace(changed, issued_ms=_now_ms()))
    _check(following)
    written = (*sheets, draft(following))
    write_terms(path, governed)
    write_new(path, render(written).encode(), WHAT)
    for key in _losing_their_say(sheets, following, governed):
        notice(
            f"Key {key.hex()} halts no more and is retired by that, for good: it stays listed, and"
            " cannot vote. Name another key of its owner in its place."
        )
    return _written(path, written, as_json=as_json)


def _losing_their_say(
    sheets: Sequence[Sheet], following: Charter, governed: GovernanceTerms | None
) -> list[bytes]:
    """Ids of the voters and agents of the new charter that once were halt keys."""
    ever = frozenset(key_id(key) for sheet in sheets for key in _charter(sheet).halt)
    listed = (*following.voter, *(governed.agent if governed else ()))
    still = frozenset(map(key_id, following.halt))
    return sorted(key for key in map(key_id, listed) if key in ever - still)


def _changed(current: Charter, keys: Mapping[str, Any], terms: Terms) -> Charter:
    return replace(
        with_held_out(current, terms.held_out),
        **keys,
        root_threshold=current.root_threshold
        if terms.root_threshold is None
        else terms.root_threshold,
        resume_threshold=current.resume_threshold
        if terms.resume_threshold is None
        else terms.resume_threshold,
        revert_changes=current.revert_changes if terms.revert is None else terms.revert,
        beacon_ttl_s=current.beacon_ttl_s if terms.beacon_ttl is None else terms.beacon_ttl,
        expires_ms=current.expires_ms if terms.expires is None else _expires(terms.expires),
    )


def _lifts(
    config: Config, state_file: str | None, head: SignedRecord, file: str
) -> dict[bytes, int]:
    """What has been lifted under the charter in force: a rotation that forgot it would halt the
    swarm again."""
    if state_file is None:
        standing = standing_of(config)
        state, where = standing.state, standing.where
    else:
        where = state_file
        state = state_in(read_sheets(user_path(state_file)), where)
    if not state.charters or charter_hash(state.charters[-1]) != charter_hash(head):
        raise LocalError(
            f"{where} has charter {state.version} of swarm {state.swarm.hex()[:16]} in force,"
            f" and {file} ends with another one; give the file of the charter in force,"
            " and with --state the records that `swarmllm halt export` wrote in that swarm"
        )
    return state.lifts


def show(file: str, *, as_json: bool) -> int:
    path = user_path(file)
    return _shown(path, charters_in(path), as_json=as_json)


def sign(
    file: str,
    key_files: Sequence[str],
    merge_files: Sequence[str],
    passphrase_file: str | None,
    *,
    as_json: bool,
) -> int:
    """Add signatures to the last charter in the file, in place. UsageError for a key without the
    role root."""
    path = user_path(file)
    sheets = charters_in(path)
    last, before = sheets[-1], _charter(sheets[-2]) if len(sheets) > 1 else None
    if not key_files and not merge_files:
        raise UsageError(
            "nothing to sign with; give a key file with --key,"
            " or a signed copy of the file with --merge"
        )
    charter = _charter(last)
    allowed = {*charter.root, *(before.root if before is not None else ())}
    for name in merge_files:
        last = merged(last, charters_in(user_path(name))[-1])
    for name in key_files:
        key = read_key(user_path(name))
        if key.public_key not in allowed:
            raise UsageError(
                f"key {key.id.hex()} ({key.name}) has no role root in charter {charter.version};"
                " sign with a root key"
            )
        if key.public_key in last.signers:
            notice(f"{key.name} ({key.id.hex()}) has signed already.")
            continue
        last = with_signature(last, key.public_key, passphrase.unseal(key, passphrase_file))
    if stray := sorted(set(last.signers) - allowed):
        raise LocalError(
            f"key {key_id(stray[0]).hex()} has signed and has no role root in charter"
            f" {charter.version}; leave that copy out"
        )
    written = (*sheets[:-1], last)
    if written != sheets:
        replace_whole(path, render(written).encode(), WHAT)
    return _written(path, written, as_json=as_json)


def verify_files(files: Sequence[str], after: str | None, *, as_json: bool) -> int:
    """Whether the charters follow each other and have the signatures that they need. Exit code 1 if
    not."""
    sheets = _collected(files)
    trusted = charters_in(user_path(after)) if after else ()
    together = {_charter(sheet).version: sheet for sheet in trusted}
    for version, sheet in sheets.items():
        together[version] = merged(together[version], sheet) if version in together else sheet
    chain: list[SignedRecord] = []
    faults = 0
    for version in sorted(together):
        sheet = together[version]
        before = _charter(together[version - 1]) if version - 1 in together else None
        wrong = _fault_of(sheet, chain, is_given=after is not None and version == min(together))
        if sheet.data:
            chain.append(open_record(sheet.data))
        if version not in sheets:
            if wrong:
                raise LocalError(
                    f"charter {version} in {after} does not hold, so nothing can follow it: {wrong}"
                )
            continue
        faults += bool(wrong)
        gathered = root_signatures(sheet, before)
        if as_json:
            print_record(
                {"event": "verified", "version": version, "ok": not wrong, "fault": wrong}
                | _signatures(gathered)
            )
        else:
            # Which signatures are missing stands below.
            is_short = FEW_SIGNATURES in wrong
            why = "does not hold yet, since signatures are missing" if is_short else wrong
            said = Line(f"charter {version}: ").append(why or "holds", "red" if why else "green")
            answer().print(said, soft_wrap=True)
            for one in gathered:
                answer().print(f"  {one.sentence()}", soft_wrap=True)
    if faults:
        complain(
            f"{faults} of {len(sheets)} charters {'does' if faults == 1 else 'do'} not hold"
            if len(sheets) > 1
            else "the charter does not hold"
        )
    return FAILED if faults else OK


def _fault_of(sheet: Sheet, chain: Sequence[SignedRecord], *, is_given: bool) -> str:
    """What is wrong with a charter at the end of a chain; empty if nothing is. `is_given`: the
    chain begins with it, on trust."""
    charter = _charter(sheet)
    if not sheet.data:
        return "nobody has signed it yet"
    opened = open_record(sheet.data)
    if chain:
        found = next_fault(chain, opened, verify)
    elif charter.version == 1:
        found = first_fault(opened, charter_hash(opened), verify)
    elif is_given:
        found = None
    else:
        return "it cannot be checked without the charter before it; give that with --after"
    return found.reason if found is not None else ""


# --- what is in the files -------------------------------------------------------------------------


def charters_in(path: Path) -> tuple[Sheet, ...]:
    """The charters of a file, each one higher than the one before. LocalError if there is anything
    else, or none."""
    sheets = tuple(sheet for sheet in read_sheets(path) if isinstance(sheet.record, Charter))
    if not sheets:
        raise LocalError(
            f"{path} holds no charter; give a file that `swarmllm charter create` wrote"
        )
    for one, two in pairwise(sheets):
        if _charter(two).version != _charter(one).version + 1:
            raise LocalError(
                f"{path} has charter {_charter(two).version} after charter {_charter(one).version};"
                " one of them is missing"
            )
    return sheets


def _collected(files: Sequence[str]) -> dict[int, Sheet]:
    """The charters of all files by version, with the signatures of all copies."""
    found: dict[int, Sheet] = {}
    for name in files:
        for sheet in charters_in(user_path(name)):
            version = _charter(sheet).version
            found[version] = merged(found[version], sheet) if version in found else sheet
    return found


def _charter(sheet: Sheet) -> Charter:
    assert isinstance(sheet.record, Charter)
    return sheet.record


def _keys(role: str, words: Sequence[str]) -> tuple[bytes, ...]:
    keys: dict[bytes, str] = {}
    for word in words:
        key = read_public(word)
        if key in keys:
            raise UsageError(
                f"the {role} keys {keys[key]} and {word} are the same key,"
                " and each key counts once; give each key once"
            )
        keys[key] = word
    if len(keys) > ROLE_KEYS_MAX:
        raise UsageError(
            f"{len(keys)} {role} keys are more than the {ROLE_KEYS_MAX} that a charter can have;"
            " leave some out"
        )
    return tuple(sorted(keys))


def _check(charter: Charter) -> None:
    if wrong := charter.fault():
        raise UsageError(
            f"this cannot be a charter: {wrong}; give more keys or a smaller threshold"
        )
    if charter.resume_threshold == 1:
        notice(
            "One resume key alone will be able to start this swarm again (--resume-threshold 1)."
        )
    if expired(charter, _now_ms()):
        notice("The date to renew this charter by is in the past: nodes will remind of it at once.")


def _expires(text: str) -> int:
    """A date (UTC) in Unix ms; 0 for never."""
    if text == NEVER:
        return 0
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is None:
            raise ValueError
        return max(0, round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000))
    except ValueError:
        raise UsageError(
            f"--expires {text[:40]!r} is no date; write it as 2030-12-31, or {NEVER}"
        ) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _signatures(gathered: Sequence[Gathered]) -> dict[str, object]:
    return {
        "signatures": [one.record() for one in gathered],
        "missing": max(one.missing for one in gathered),
    }


def _written(path: Path, sheets: Sequence[Sheet], *, as_json: bool) -> int:
    """The last charter, after it was written or signed: people are told what is new."""
    if as_json:
        return _shown(path, sheets, as_json=True, only_last=True)
    charter, before = _charter(sheets[-1]), _charter(sheets[-2]) if len(sheets) > 1 else None
    try:
        held_terms(path, charter)
        fault = ""
    except LocalError as wrong:
        fault = str(wrong)
    answer().print(charter_brief(sheets[-1], before, fault))
    notice(f"`swarmllm charter show {shell_word(str(path))}` shows its keys and all that it says.")
    return OK


def _shown(path: Path, sheets: Sequence[Sheet], *, as_json: bool, only_last: bool = False) -> int:
    for at, sheet in enumerate(sheets):
        if only_last and at + 1 < len(sheets):
            continue
        before = _charter(sheets[at - 1]) if at else None
        is_last = at + 1 == len(sheets)
        if as_json:
            governed = _terms_record(path, _charter(sheet)) if is_last else {}
            print_record(charter_line(sheet, before) | governed | {"file": str(path)})
        else:
            rows = _terms_rows(path, _charter(sheet)) if is_last else []
            answer().print(charter_table(sheet, before, _now_ms(), rows))
    return OK


def _terms_record(path: Path, charter: Charter) -> dict[str, Any]:
    """`governance` None: the file with the terms is not there, or is another one."""
    digest = named_digest(charter)
    try:
        governed: dict[str, Any] | None = terms_fields(held_terms(path, charter))
    except LocalError as fault:
        complain(str(fault))
        governed = None
    held = held_out_fields(held_out_in(charter.ext))
    return {"governance": governed, "terms": digest.hex() or None, "held_out": held}


def _terms_rows(path: Path, charter: Charter) -> list[tuple[str, str]]:
    """Of the last charter in the file: the terms beside it are those that it names."""
    try:
        said = terms_sentences(held_terms(path, charter), len(charter.voter))
    except LocalError as fault:
        said = [("governance", str(fault))]
    return [*said, *held_out_rows(charter)]
