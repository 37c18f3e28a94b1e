"""What a node remembers of the kill switch over restarts: one byte string with a checksum, kept in
two copies beside a marker.

Three files, written in this order, each whole (write aside, fsync, rename, fsync the folder): the
first copy, the second copy, and `genesis`, which is made once and then only says that there was a
state. So at any moment at least one copy is whole, and a folder that lost both is told from one
that never had any. Whatever cannot be read halts the node: it may have held a halt.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from swarmllm.core.halt.charter import CHARTERS_MAX, charter_hash, is_private
from swarmllm.core.halt.state import Applied, HaltState, validate
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import CHARTER_RECORD_MAX, ROLE_KEYS_MAX
from swarmllm.wire.signed import open_record

FIRST_COPY: Final = "halt-1.state"
SECOND_COPY: Final = "halt-2.state"
GENESIS: Final = "halt.genesis"
GENESIS_MAGIC: Final = b"swarmllm-genesis-1\n"

_MAGIC: Final = b"swarmllm-halt-1\n"
_STOPPED_HERE: Final = 1
_LOST: Final = 2
_CHECKSUM_BYTES: Final = 32
_HEAD_BYTES: Final = len(_MAGIC) + 8 + 1 + 32 + 3
STATE_BYTES_MAX: Final = (
    _HEAD_BYTES + (CHARTERS_MAX + 2 * ROLE_KEYS_MAX) * (2 + CHARTER_RECORD_MAX) + _CHECKSUM_BYTES
)
"""No saved state is longer: whoever reads a copy may stop there."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a node starts with. `generation` counts the states ever saved; `remarks` are for people,
    a sentence each."""

    state: HaltState
    generation: int
    remarks: tuple[str, ...] = ()
    is_new: bool = False


class _Unreadable(Exception):
    """A copy that is not what `pack_state` wrote; its text says why."""


def pack_state(state: HaltState, generation: int) -> bytes:
    """The state as one copy holds it."""
    groups = (state.charters, state.halts, state.resumes)
    flags = _STOPPED_HERE * state.stopped_here | _LOST * state.lost
    parts = [
        _MAGIC,
        generation.to_bytes(8, "big"),
        bytes((flags,)),
        state.swarm,
        bytes(len(group) for group in groups),
    ]
    for group in groups:
        for one in group:
            parts += [len(one.data).to_bytes(2, "big"), one.data]
    body = b"".join(parts)
    return body + sha256(body).digest()


def pack_genesis(swarm: bytes) -> bytes:
    """The marker of a folder that holds, or held, a state of this swarm."""
    return GENESIS_MAGIC + swarm


def load(
    first: bytes | None,
    second: bytes | None,
    genesis: bytes | None,
    private: bytes,
    pinned: bytes | None = None,
) -> Boot:
    """The state to start with, from the contents of the three files (None: no such file).

    `private` is the node's own signed `private_charter`, in force where nothing else is; `pinned`
    is the id of the swarm that the user named. UsageError if the folder belongs to another swarm
    than that and holds anything that would be lost with it.
    """
    own = open_record(private)
    swarm_of_own = charter_hash(own)
    readings = [_read(name, data) for name, data in ((FIRST_COPY, first), (SECOND_COPY, second))]
    remarks = tuple(remark for reading in readings for remark in reading.remarks)
    whole = [reading for reading in readings if reading.generation]
    if whole:
        # The first copy where both are equal.
        best = max(whole, key=lambda reading: reading.generation)
        return _pin(Boot(best.state, best.generation, remarks), pinned)
    if genesis is None and first is None and second is None:
        chain = (own,) if pinned in (None, swarm_of_own) else ()
        return Boot(HaltState(pinned or swarm_of_own, chain), 0, is_new=True)
    marked = (
        genesis[len(GENESIS_MAGIC) :]
        if genesis is not None and genesis.startswith(GENESIS_MAGIC)
        else b""
    )
    swarm = pinned or (marked if len(marked) == 32 else swarm_of_own)
    chain = (own,) if swarm == swarm_of_own else ()
    if not remarks:
        remarks = (
            f"{FIRST_COPY} and {SECOND_COPY} are gone, and {GENESIS} says that they were there",
        )
    return Boot(HaltState(swarm, chain, lost=True), 0, remarks)


def _pin(boot: Boot, pinned: bytes | None) -> Boot:
    """A swarm of one that never halted may join another swarm; a state that means something may not
    be dropped for it."""
    state = boot.state
    if pinned in (None, state.swarm):
        return boot
    if (
        state.charter is not None
        and is_private(state.charter)
        and not state.highs
        and not state.stopped_here
        and not state.lost
    ):
        return Boot(HaltState(pinned or state.swarm), boot.generation, boot.remarks)
    raise UsageError(
        f"the data folder belongs to swarm {state.swarm.hex()[:16]},"
        f" not to {(pinned or b'').hex()[:16]}; use another folder with --data-dir"
    )


def _read(name: str, data: bytes | None) -> Boot:
    """One copy. `lost` with generation 0 for one that is missing or unreadable; the second of these
    leaves a remark."""
    nothing = HaltState(bytes(32), lost=True)
    if data is None:
        return Boot(nothing, 0)
    try:
        return _unpack(data)
    except _Unreadable as fault:
        return Boot(nothing, 0, (f"{name} cannot be read: {fault}",))


def _unpack(data: bytes) -> Boot:
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if len(data) > STATE_BYTES_MAX or len(data) < _HEAD_BYTES + _CHECKSUM_BYTES:
        raise _Unreadable(f"{len(data)} bytes")
    if not body.startswith(_MAGIC):
        raise _Unreadable("it was not written by this version of swarmllm")
    if sha256(body).digest() != checksum:
        raise _Unreadable("its checksum does not match")
    at = len(_MAGIC)
    generation, flags, swarm = (
        int.from_bytes(body[at : at + 8], "big"),
        body[at + 8],
        body[at + 9 : at + 41],
    )
    counts, at = body[at + 41 : at + 44], at + 44
    state = HaltState(swarm)
    for _ in range(sum(counts)):
        size = int.from_bytes(body[at : at + 2], "big")
        state = _restore(state, body[at + 2 : at + 2 + size])
        at += 2 + size
    groups = (state.charters, state.halts, state.resumes)
    if at != len(body) or generation == 0 or bytes(len(group) for group in groups) != bytes(counts):
        raise _Unreadable("its parts do not fit together")
    restored = HaltState(
        swarm, *groups, stopped_here=bool(flags & _STOPPED_HERE), lost=bool(flags & _LOST)
    )
    return Boot(restored, generation)


def _restore(state: HaltState, data: bytes) -> HaltState:
    """With one more record, by the same rules as from the network, but for the signatures: the
    checksum vouches for them."""
    try:
        outcome = validate(state, data, lambda _key, _message, _signature: True)
    except RemoteError as fault:
        raise _Unreadable(str(fault)) from None
    if not isinstance(outcome, Applied):
        raise _Unreadable("a record in it contradicts the others")
    return outcome.state
