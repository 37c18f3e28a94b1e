"""Messages that say who offers what: shuffles on `/swarmllm/expert`, and the signed records that
they and the DHT carry (protocols/capacity.md, protocols/envelope.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import U32, U63, Digest, Ext, Position, Range, ShortHash, Size
from swarmllm.messages.declare import ANSWERER, ASKER, EXPERT, message

RECORD_MAX: Final = 576  # Bytes of one signed capacity record on the wire, envelope included.
EXPERT_RECORD_MAX: Final = 2_048  # Eight addresses of 128 bytes, names, digests, key and signature.
# Bytes of an address in it: any IPv6 address with its port; the largest record must fit RECORD_MAX.
RECORD_ADDR_MAX: Final = 56
RECORD_ADDRS_MAX: Final = 3  # For the same reason.
SHUFFLE_RECORDS_MAX: Final = 8  # Records per Shuffle: 4 KiB, and at most eight signature checks.
# Tenths of a second: an hour, beyond any time for which a record is believed.
AGE_MAX: Final = 36_000


Age = Annotated[int, Range(0, AGE_MAX)]
Sealed = Annotated[bytes, Size(1, RECORD_MAX)]


@message(code=4, stream=EXPERT, sender=ASKER)
class Shuffle:
    """Some sealed capacity records, each with its age in tenths of a second, in exchange for up to
    `want` others (0: for none).

    `swarm` is the short hash of the swarm's name (`wire.identity.swarm_hash`): peers of two swarms
    exchange nothing. `ages` and `records` have the same length; an age is the time since the author
    sealed the record, as far as its carriers say.
    """

    swarm: ShortHash
    ages: Annotated[tuple[Age, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    records: Annotated[tuple[Sealed, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    want: Annotated[int, Range(0, SHUFFLE_RECORDS_MAX)]

    def fault(self) -> str:
        return _pairs(self.ages, self.records)


@message(code=20, stream=EXPERT, sender=ANSWERER)
class Shuffled:
    """The answer to a Shuffle that wants records."""

    ages: Annotated[tuple[Age, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    records: Annotated[tuple[Sealed, ...], Size(0, SHUFFLE_RECORDS_MAX)]

    def fault(self) -> str:
        return _pairs(self.ages, self.records)


Name = Annotated[str, Size(1, 32)]
Domain = Annotated[str, Size(1, 16)]


@message(code=66, domain=b"swarmllm/capacity/2\0", size_max=RECORD_MAX)
class CapacityRecord:
    """What an expert says of itself, passed from peer to peer. Values are hints: requesters correct
    them by what they measure.

    `boot` is the Unix time in milliseconds at which the node started, `seq` counts its records
    since: the newest (boot, seq) of a peer wins. `rate` is measured decode speed in tokens/s times
    16, summed over all sessions. The signer's key is in the envelope. `addrs` come without
    `/p2p/...`, for the signer is the peer. `ext` is for fields that come later: see `bounds.Ext`.
    """

    boot: U63
    seq: U32
    model: Name
    model_digest: Digest
    vocab_fingerprint: Digest
    n_params: U63
    context_max: Position
    rate: U32
    queue_depth: Annotated[int, Range(0, 65_535)]
    sessions_free: Annotated[int, Range(0, 65_535)]
    sessions_max: Annotated[int, Range(0, 65_535)]
    domains: Annotated[tuple[Domain, ...], Size(0, 4)]
    addrs: Annotated[
        tuple[Annotated[str, Size(1, RECORD_ADDR_MAX)], ...], Size(0, RECORD_ADDRS_MAX)
    ]
    ctl_digest: ShortHash
    ext: Ext = b""


@message(code=67, domain=b"swarmllm/expert-record/2\0", size_max=EXPERT_RECORD_MAX)
class ExpertRecord:
    """What the DHT holds under an expert's own key: enough to dial it and to know whether its
    vocabulary fits."""

    boot: U63
    model: Name
    model_digest: Digest
    vocab_fingerprint: Digest
    n_params: U63
    addrs: Annotated[tuple[Annotated[str, Size(1, 128)], ...], Size(0, 8)]
    ext: Ext = b""


@message(code=80)
class Envelope:
    """A signed payload: see `wire.envelope`. `payload` is the encoded message; the signature covers
    its domain and these bytes."""

    public_key: Annotated[bytes, Size(32, 32)]
    payload: Annotated[bytes, Size(1, 4_096)]
    signature: Annotated[bytes, Size(64, 64)]


def _pairs(ages: tuple[int, ...], records: tuple[bytes, ...]) -> str:
    return "" if len(ages) == len(records) else f"{len(ages)} ages of {len(records)} records"
