"""Is this swarm halted? A state that only records can move, each of which proves itself, in
whatever order they come.

    H[key] = highest valid halt seq seen
    L[key] = highest lifted seq
    halted iff some H[key] > L[key]

Two version vectors and not one epoch number: joining them is the element-wise maximum, so order,
repetition and replay mean nothing, no clock is needed, and a HALT issued while a RESUME is on its
way has the higher seq and wins. The state *is* its records: H and L are computed from the signed
records held, so whoever has a state can prove it to anybody.

With a new charter H stays and L starts again from its `lift_base` (see `core.halt.charter`); so
states are ordered first by charter, then by vectors. Everything is a value: `validate` returns a
new state or says why not, and changes nothing.

The machine round this state (links, persistence, effects) is `core.halt.machine`; what is written
to disk is `core.halt.state_file`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, assert_never

from swarmllm.core.halt.charter import (
    NamedCharter,
    Rejected,
    charter_hash,
    charter_of,
    first_fault,
    is_private,
    key_ids,
    next_fault,
    retired_halt_keys,
)
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import (
    NO_HALT_DIGEST,
    SEQ_MAX,
    Charter,
    Halt,
    Live,
    Resume,
    Vectors,
    reason_name,
)
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import Verify
from swarmllm.wire.marks import marks_of, vector_of
from swarmllm.wire.signed import SignedRecord, good_signers, key_id, open_record

_DIGEST_DOMAIN: Final = b"swarmllm/ctl-digest/1\0"


@dataclass(frozen=True, slots=True)
class HaltState:
    """What a node holds of one swarm's halt records, all of them verified. `charters` is the
    chain from the first one; empty while only the swarm's id is known. `halts` has the highest halt
    of each key, `resumes` the records that L is made of.

    `stopped_here`: the owner stopped this node; `lost`: a former state is known to have been lost
    or unreadable.
    """

    swarm: bytes
    charters: tuple[SignedRecord, ...] = ()
    halts: tuple[SignedRecord, ...] = ()
    resumes: tuple[SignedRecord, ...] = ()
    stopped_here: bool = False
    lost: bool = False
    named: NamedCharter | None = field(default=None, compare=False)
    """What the invite said; nothing of it is kept with the state."""
    highs: dict[bytes, int] = field(init=False, compare=False, repr=False)
    """H: key id -> seq. Not to be changed, like the two below."""
    lifts: dict[bytes, int] = field(init=False, compare=False, repr=False)
    """L: key id -> seq."""
    vectors: Vectors = field(init=False, compare=False, repr=False)
    digest: bytes = field(init=False, compare=False, repr=False)
    """The 8 bytes that stand for (swarm, charter, H, L); `NO_HALT_DIGEST` for a swarm of one
    without any record."""

    def __post_init__(self) -> None:
        highs = {halt.key: halt.seq for halt in map(_halt_of, self.halts)}
        lifts: dict[bytes, int] = {}
        if self.charter is not None:
            keys = key_ids(self.charter.halt)
            for marks in (self.charter.lift_base, *(_resume_of(one).lifts for one in self.resumes)):
                for key, seq in vector_of(marks).items():
                    if key in keys:
                        lifts[key] = max(seq, lifts.get(key, 0))
        chained = charter_hash(self.charters[-1]) if self.charters else bytes(32)
        vectors = Vectors(self.swarm, self.version, chained, marks_of(highs), marks_of(lifts))
        silent = self.charter is not None and is_private(self.charter) and not highs and not lifts
        digest = NO_HALT_DIGEST if silent else sha256(_DIGEST_DOMAIN + encode(vectors)).digest()[:8]
        for name, value in (
            ("highs", highs),
            ("lifts", lifts),
            ("vectors", vectors),
            ("digest", digest),
        ):
            object.__setattr__(self, name, value)

    @property
    def charter(self) -> Charter | None:
        """The one in force."""
        return charter_of(self.charters[-1]) if self.charters else None

    @property
    def version(self) -> int:
        """Of the charter in force; 0 for none."""
        return len(self.charters)

    @property
    def lacks_named(self) -> bool:
        """Whether the charter that the invite names has not come yet."""
        return self.named is not None and self.version < self.named.version

    @property
    def standing(self) -> tuple[Halt, ...]:
        """The halts that nothing has lifted, by key id."""
        return tuple(
            halt for halt in map(_halt_of, self.halts) if halt.seq > self.lifts.get(halt.key, 0)
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why this node is halted, a sentence each; empty if it is not."""
        found = [
            f"halted by key {halt.key[:4].hex()} (reason: {reason_name(halt.reason_code)})"
            for halt in self.standing
        ]
        if self.stopped_here:
            found.append("stopped by the owner of this node")
        if self.lost:
            found.append("the record of former halts was lost or cannot be read")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Applied:
    """A valid record that brought news, and the state with it."""

    opened: SignedRecord
    state: HaltState


@dataclass(frozen=True, slots=True)
class Known:
    """Nothing new. Replays cost their sender nothing and us no signature check."""


Outcome = Applied | Known | Rejected


# --- the order of checks --------------------------------------------------------------------------


def validate(
    state: HaltState, data: bytes, verify: Verify, sender_version: int | None = None
) -> Outcome:
    """What becomes of a signed Halt, Resume or Charter in `data`.

    Cheapest first: length, encoding, type, swarm, role, whether it is new, and only then
    signatures. `sender_version` is the charter version that the sender is known to have: one that
    has ours, or an older one, cannot honestly hold what ours forbids.
    """
    try:
        opened = open_record(data)
    except RemoteError as fault:
        return Rejected(str(fault), penalise=True)
    return validate_opened(state, opened, verify, sender_version)


def validate_opened(
    state: HaltState, opened: SignedRecord, verify: Verify, sender_version: int | None = None
) -> Outcome:
    """The same, for a record whose length and encoding have been checked."""
    record = opened.record
    match record:
        case Charter():
            return _validate_charter(state, opened, record, verify)
        case Halt() | Resume() | Live():
            if record.swarm != state.swarm:
                name = type(record).__name__
                return Rejected(
                    f"{name} for swarm {record.swarm.hex()[:16]}, not {state.swarm.hex()[:16]}",
                    penalise=True,
                )
            if state.charter is None:
                return Rejected(
                    "the charter of this swarm has not come yet", penalise=False, ask=True
                )
            behind = sender_version is None or sender_version > state.version
            if isinstance(record, Halt):
                return _validate_halt(state, state.charter, opened, record, verify, behind)
            if isinstance(record, Resume):
                return _validate_resume(state, state.charter, opened, record, verify)
            return Rejected("a sign of life is no part of the state", penalise=False)
        case _:
            assert_never(record)


def is_urgent(state: HaltState, data: bytes) -> bool:
    """Whether this may be a HALT by a key that does not halt us yet: no budget holds that up."""
    try:
        order = open_record(data).record
    except RemoteError:
        return False
    if not isinstance(order, Halt) or any(halt.key == order.key for halt in state.standing):
        return False
    return order.seq > state.highs.get(order.key, 0)


def _validate_halt(
    state: HaltState,
    charter: Charter,
    opened: SignedRecord,
    halt: Halt,
    verify: Verify,
    behind: bool,
) -> Outcome:
    """No clock and no expiry here: whoever holds a halt key can stop the swarm at any time."""
    by_id = {key_id(key): key for key in charter.halt}
    if halt.key not in by_id:
        once = halt.key in retired_halt_keys(state.charters)
        return Rejected(
            f"key {halt.key.hex()} may not halt under charter {charter.version}",
            not (once or behind),
            ask=behind,
        )
    if halt.seq <= state.highs.get(halt.key, 0):
        return Known()
    try:
        signers = good_signers(opened, frozenset({by_id[halt.key]}), verify)
    except RemoteError as fault:
        return Rejected(str(fault), penalise=True)
    assert signers
    return Applied(opened, with_halt(state, opened))


def _validate_resume(
    state: HaltState, charter: Charter, opened: SignedRecord, resume: Resume, verify: Verify
) -> Outcome:
    lifts = vector_of(resume.lifts)
    if all(seq <= state.lifts.get(key, 0) for key, seq in lifts.items()):
        return Known()
    if resume.charter_version > charter.version:
        return Rejected(
            f"RESUME under charter {resume.charter_version}, which has not come yet",
            penalise=False,
            ask=True,
        )
    if resume.charter_version < charter.version:
        return Rejected(
            f"RESUME under charter {resume.charter_version}, but {charter.version} is in force:"
            " propose and sign it again",
            penalise=False,
        )
    for key in sorted(lifts.keys() - key_ids(charter.halt)):
        return Rejected(
            f"RESUME lifts {key.hex()}, which is no halt key of charter {charter.version}",
            penalise=True,
        )
    try:
        signers = good_signers(opened, frozenset(charter.resume), verify)
    except RemoteError as fault:
        return Rejected(str(fault), penalise=True)
    if len(signers) < charter.resume_threshold:
        return Rejected(
            f"RESUME with {len(signers)} of {charter.resume_threshold} signatures", penalise=True
        )
    return Applied(opened, with_resume(state, opened))


def _validate_charter(
    state: HaltState, opened: SignedRecord, charter: Charter, verify: Verify
) -> Outcome:
    if charter.version <= state.version:
        return Known()
    if state.named is not None and state.named.contradicts(opened):
        # Its sender may honestly have been given it by a root quorum that signed two.
        return Rejected(
            f"charter {charter.version} is not the one that the invite names", penalise=False
        )
    if state.charter is None:
        if charter.version != 1:
            return Rejected(f"charter {charter.version} before charter 1", penalise=False, ask=True)
        fault = first_fault(opened, state.swarm, verify)
    else:
        fault = next_fault(state.charters, opened, verify)
    return fault if fault is not None else Applied(opened, with_charter(state, opened))


# --- joining --------------------------------------------------------------------------------------


def with_halt(state: HaltState, opened: SignedRecord) -> HaltState:
    """The state with a verified halt; of each key the highest seq is kept."""
    held = {_halt_of(one).key: one for one in state.halts}
    key, seq = _halt_of(opened).key, _halt_of(opened).seq
    if seq > state.highs.get(key, 0):
        held[key] = opened
    return replace(state, halts=tuple(held[key] for key in sorted(held)))


def with_resume(state: HaltState, opened: SignedRecord) -> HaltState:
    """The state with a verified resume; for each key one record that lifts furthest is kept."""
    best: dict[bytes, tuple[int, bytes, SignedRecord]] = {}
    for one in (*state.resumes, opened):
        for key, seq in vector_of(_resume_of(one).lifts).items():
            if key not in best or (seq, one.data) > best[key][:2]:
                best[key] = (seq, one.data, one)
    kept = {data: one for _, data, one in best.values()}
    return replace(state, resumes=tuple(kept[data] for data in sorted(kept)))


def with_charter(state: HaltState, opened: SignedRecord) -> HaltState:
    """The state under the next charter: resumes of the old one are void, halts by keys that are
    gone are lifted for good."""
    keys = key_ids(charter_of(opened).halt)
    halts = tuple(one for one in state.halts if _halt_of(one).key in keys)
    return replace(state, charters=(*state.charters, opened), halts=halts, resumes=())


def join(one: HaltState, two: HaltState) -> HaltState:
    """What somebody who holds both holds: commutative, associative, idempotent. The two are of one
    swarm and one chain."""
    assert one.swarm == two.swarm, "states of different swarms have nothing to do with each other"
    state, other = (one, two) if one.version >= two.version else (two, one)
    keys = key_ids(state.charter.halt) if state.charter is not None else frozenset()
    for opened in other.halts:
        if _halt_of(opened).key in keys:
            state = with_halt(state, opened)
    for opened in other.resumes if other.version == state.version else ():
        state = with_resume(state, opened)
    return replace(
        state, stopped_here=one.stopped_here or two.stopped_here, lost=one.lost or two.lost
    )


# --- what one has and another lacks ---------------------------------------------------------------


def missing(state: HaltState, theirs: Vectors) -> list[bytes]:
    """The signed records that the sender of `theirs` lacks and can use, charters first."""
    if theirs.swarm != state.swarm or is_fork(state, theirs):
        return []
    found = [one.data for one in state.charters[theirs.charter_version :]]
    highs = vector_of(theirs.halts)
    found += [
        one.data for one in state.halts if _halt_of(one).seq > highs.get(_halt_of(one).key, 0)
    ]
    if theirs.charter_version <= state.version:
        lifts = vector_of(theirs.lifts) if theirs.charter_version == state.version else {}
        for one in state.resumes:
            if any(
                seq > lifts.get(key, 0) for key, seq in vector_of(_resume_of(one).lifts).items()
            ):
                found.append(one.data)
    return found


def lacks(state: HaltState, theirs: Vectors) -> bool:
    """Whether the sender of `theirs` has something that would be new to us."""
    if theirs.swarm != state.swarm or is_fork(state, theirs):
        return False
    if theirs.charter_version > state.version:
        return True
    keys = key_ids(state.charter.halt) if state.charter is not None else frozenset()
    more = any(
        seq > state.highs.get(key, 0) for key, seq in vector_of(theirs.halts).items() if key in keys
    )
    if theirs.charter_version < state.version:
        return more
    return more or any(
        seq > state.lifts.get(key, 0) for key, seq in vector_of(theirs.lifts).items()
    )


def is_fork(state: HaltState, theirs: Vectors) -> bool:
    """A root quorum signed two charters of one version: the two halves never settle, so they do no
    work for each other."""
    version = theirs.charter_version
    return (
        theirs.swarm == state.swarm
        and 0 < version <= state.version
        and charter_hash(state.charters[version - 1]) != theirs.charter_hash
    )


# --- what operators write -------------------------------------------------------------------------


def next_halt(state: HaltState, public_key: bytes, reason_code: int, unix_ms: int) -> Halt:
    """The order that `public_key` should sign now. UsageError if it may not halt this swarm.

    Its seq is the clock's milliseconds, or one more than any seen if that is larger: an operator
    who knows nothing of former halts still gets a new number, and a clock that is wrong costs
    nothing.
    """
    key = key_id(public_key)
    if state.charter is None:
        raise UsageError(
            "the charter of this swarm is not known yet;"
            " import it with `swarmllm halt import FILE`, or join first"
        )
    if public_key not in state.charter.halt:
        raise UsageError(
            f"key {key.hex()} may not halt this swarm under charter {state.version};"
            " use one of its halt keys"
        )
    seen = max(state.highs.get(key, 0), state.lifts.get(key, 0))
    if seen >= SEQ_MAX:
        raise UsageError(
            f"key {key.hex()} has used its last number;"
            " halt with another key and rotate this one out"
        )
    return Halt(
        state.swarm, key, min(SEQ_MAX, max(seen + 1, unix_ms)), reason_code, max(0, unix_ms)
    )


def next_resume(state: HaltState, unix_ms: int) -> Resume:
    """The proposal that lifts every halt that stands, and no other. UsageError if none does."""
    if not state.standing:
        raise UsageError("no halt stands in this swarm, so there is nothing to resume")
    lifts = marks_of({halt.key: halt.seq for halt in state.standing})
    return Resume(state.swarm, state.version, lifts, max(0, unix_ms))


def records_of(state: HaltState) -> Sequence[bytes]:
    """Everything held, in an order in which anybody can check it: what an export writes."""
    return [one.data for one in (*state.charters, *state.halts, *state.resumes)]


def _halt_of(opened: SignedRecord) -> Halt:
    assert isinstance(opened.record, Halt)
    return opened.record


def _resume_of(opened: SignedRecord) -> Resume:
    assert isinstance(opened.record, Resume)
    return opened.record
