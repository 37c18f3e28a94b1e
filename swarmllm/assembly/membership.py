"""The door of a closed swarm, made of the settings and of what is kept in the data folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.store import SqliteStore
from swarmllm.assembly.invite import Accepted
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.membership.part import OWN_PASS, TICKETS, Identity, Letter, Members
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages.membership import MEMBER_FRAME_MAX, Pass
from swarmllm.wire.codec import decode

_WHAT: Final = "the membership"


def members_of(
    joined: Accepted, keyring: KeyFile, machine: HaltMachine, store: SqliteStore
) -> tuple[Members, ...]:
    """The part that lets members in, or none where the swarm is open. LocalError for a file that
    holds no membership; blocks."""
    config, letter = joined.config, None
    if not config.closed:
        return ()
    own_pass = store.load(OWN_PASS) or b""
    if config.membership:
        own_pass = _read(Path(config.membership))
    if joined.invited is not None and joined.invited.invite.ticket:
        letter = Letter(joined.invited.peer, joined.invited.invite.ticket)
    return (
        Members(
            Identity(keyring.public_key, keyring.sign, keyring.verify),
            machine,
            own_pass=own_pass,
            tickets=store.load(TICKETS) or b"",
            letter=letter,
            unix_ms_at_zero=round((time.time() - trio.current_time()) * 1000),
        ),
    )


def _read(path: Path) -> bytes:
    data = read_bounded(path, MEMBER_FRAME_MAX, _WHAT)
    try:
        decode(data, (Pass,))
    except RemoteError as fault:
        raise LocalError(
            f"{path} holds no membership ({fault}); use the file that `swarmllm members sign` wrote"
        ) from fault
    return data
