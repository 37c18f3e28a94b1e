"""Messages of the ledger: its leaves, what some of them hold, and the frames of
`/swarmllm/ledger` by which neighbours witness each other's logs (protocols/ledger.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import U63, Digest, Range, Size
from swarmllm.messages.declare import BOTH, LEDGER, message

# Bytes of what one entry holds: the longest signed record, a charter, fits.
PAYLOAD_MAX: Final = 4_096
KINDS_MAX: Final = 255
# Entries of a log; at one a second, for 34 years.
LOG_SIZE_MAX: Final = 2**30
# Of a consistency proof between logs of so many entries: C2SP allows as many.
PROOF_HASHES_MAX: Final = 63
# Bytes of a checkpoint with its log's own signature; ours have 290.
NOTE_MAX: Final = 512
# Bytes of a frame of /swarmllm/ledger/1 without its length: a proof of 63 hashes has 2.2 KiB.
LEDGER_FRAME_MAX: Final = 4_096
REASON_MAX: Final = 200
REASONS_MAX: Final = 8

LogSize = Annotated[int, Range(1, LOG_SIZE_MAX)]
Note = Annotated[bytes, Size(1, NOTE_MAX)]


@message(code=82)
class LedgerLeaf:
    """One entry as it is hashed. `kind` is a `core.ledger.entry.LedgerKind`; `at_ms` (Unix time) is
    for people and decides nothing."""

    kind: Annotated[int, Range(1, KINDS_MAX)]
    at_ms: U63
    payload: Annotated[bytes, Size(1, PAYLOAD_MAX)]


@message(code=83)
class HaltedHere:
    """Why this node makes no token, a sentence each."""

    reasons: Annotated[tuple[Annotated[str, Size(1, REASON_MAX)], ...], Size(1, REASONS_MAX)]


@message(code=84)
class ResumedHere:
    """Nothing halts this node any more. `halts_lifted`: of how many keys orders had been
    lifted by then."""

    halts_lifted: Annotated[int, Range(0, 255)]


@message(code=85)
class OwnerCommand:
    """What the owner ordered, such as `stop`."""

    name: Annotated[str, Size(1, 64)]


ALARM_FORKED: Final = 1
ALARM_SHRANK: Final = 2
ALARM_UNPROVEN: Final = 3
ALARMS: Final = {
    ALARM_FORKED: "forked: it signed two histories",
    ALARM_SHRANK: "shrank: it has fewer entries than it signed before",
    ALARM_UNPROVEN: "does not prove that it only grew",
}
ALARM_MAX: Final = 1_536


@message(code=86, domain=b"swarmllm/ledger-alarm/1\0", size_max=ALARM_MAX)
class LedgerAlarm:
    """A witness found this of the log of the peer with this public key. `held` is the checkpoint
    that the witness had, `shown` the one that does not follow from it."""

    log: Digest
    what: Annotated[int, Range(1, len(ALARMS))]
    held: Note
    shown: Note
    at_ms: U63


@message(code=92)
class AlarmAcknowledged:
    """The owner of this node has looked at the alarm about this log (a public key). `digest` is
    SHA-256 of the LedgerAlarm as it was signed, which stays where it is."""

    log: Digest
    digest: Digest


@message(code=94)
class AgentStep:
    """What this node's agent did in a step of a cycle: how many metrics it looked at, what is
    proposed, what a simulation said, what it filed, kept or took back; in a sentence."""

    domain: Annotated[str, Size(1, 32)]
    cycle: Annotated[int, Range(0, 2**32 - 1)]
    step: Annotated[str, Size(1, 32)]
    text: Annotated[str, Size(1, REASON_MAX)]


@message(code=95)
class ExpertExcluded:
    """This node asks an expert no more until `until_s` (Unix time): it was shown to answer with
    something else than its model."""

    peer: Annotated[str, Size(1, 64)]
    model_digest: Digest
    until_s: U63
    reason: Annotated[str, Size(1, REASON_MAX)]


@message(code=116, stream=LEDGER, sender=BOTH)
class LedgerHead:
    """A checkpoint, as a signed note: of the sender's own log, or the last one that the sender
    holds of another's (the first line says whose)."""

    note: Note


@message(code=117, stream=LEDGER, sender=BOTH)
class LedgerProofWanted:
    """Please prove that your log of `new` entries begins with that of `old`."""

    old: LogSize
    new: LogSize

    def fault(self) -> str:
        return _growing(self.old, self.new)


@message(code=118, stream=LEDGER, sender=BOTH)
class LedgerProof:
    """The consistency proof (RFC 9162, section 2.1.4); empty: there is none to give."""

    old: LogSize
    new: LogSize
    hashes: Annotated[tuple[Digest, ...], Size(0, PROOF_HASHES_MAX)]

    def fault(self) -> str:
        return _growing(self.old, self.new)


@message(code=119, stream=LEDGER, sender=BOTH)
class LedgerCosigned:
    """The sender's cosignature (C2SP cosignature/v1) of the receiver's checkpoint of this size.
    `at_s` is the Unix time that it signed with it."""

    size: LogSize
    at_s: U63
    signature: Annotated[bytes, Size(64, 64)]


@message(code=123, stream=LEDGER, sender=BOTH)
class LedgerFork:
    """Two checkpoints of one log and one size with different roots, both signed by it: proof of a
    fork to anybody."""

    one: Note
    other: Note


LedgerFrame = LedgerHead | LedgerProofWanted | LedgerProof | LedgerCosigned | LedgerFork


def _growing(old: int, new: int) -> str:
    return "" if old < new else f"{old} entries cannot grow to {new}"
