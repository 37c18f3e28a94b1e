"""`swarmllm members sign`: a root key of the charter says that a node belongs to the closed swarm,
and perhaps that it may let others in.

One root key is enough: see `core.membership.passes`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from swarmllm.adapters.atomic_file import refuse_existing, write_new
from swarmllm.adapters.operator_keys import read_key
from swarmllm.adapters.record_files import read_sheets
from swarmllm.cli.guard import OK
from swarmllm.cli.invite.commands import duration_s
from swarmllm.cli.operators import passphrase
from swarmllm.cli.operators.halt_source import state_in
from swarmllm.cli.output import notice, print_record
from swarmllm.core.membership.passes import LIFE_MS
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.membership import Membership, Pass
from swarmllm.runtime.invited import moment
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import public_key_of
from swarmllm.wire.signed import sign_record

WHAT: Final = "the membership"


def sign_member(
    peer: str,
    charter: str,
    key_file: str,
    out: str,
    expires: str,
    passphrase_file: str | None,
    *,
    may_invite: bool,
    as_json: bool,
) -> int:
    """Write the file that the node is started with. UsageError for a key that is no root key."""
    path: Path = user_path(out)
    refuse_existing(path, WHAT)
    member, life_ms = _member(peer), duration_s(expires) * 1000
    if life_ms > LIFE_MS:
        raise UsageError(f"--expires {expires[:40]!r} is longer than a membership may be, a year")
    state = state_in(read_sheets(user_path(charter)), charter)
    key = read_key(user_path(key_file))
    if state.charter is None or key.public_key not in state.charter.root:
        raise UsageError(
            f"key {key.id.hex()} ({key.name}) has no role root in charter {state.version}; sign"
            " with a root key"
        )
    now_ms = time.time_ns() // 1_000_000
    record = Membership(state.swarm, member, int(may_invite), now_ms, now_ms + life_ms)
    signed = sign_record(record, [(key.public_key, passphrase.unseal(key, passphrase_file))])
    write_new(path, encode(Pass(signed, b"")), WHAT)
    if as_json:
        print_record(
            record_of(
                "membership",
                peer=peer,
                swarm=state.swarm.hex(),
                may_invite=may_invite,
                expires_ms=record.expires_ms,
                file=str(path),
            )
        )
    else:
        right = " and may let others in" if may_invite else ""
        notice(f"{peer} belongs to the swarm until {moment(record.expires_ms)}{right}: {path}")
    return OK


def _member(peer: str) -> bytes:
    try:
        return public_key_of(PeerId(peer))
    except RemoteError as fault:
        raise UsageError(f"{fault}; `swarmllm status` shows a node's") from fault
