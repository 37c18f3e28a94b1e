"""Every message between peers, as frozen values.

`wire.codec` turns each into one msgpack array `[type, field, ...]` and back; the bounds that stand in the annotations here are what it
enforces, so that nothing above the wire ever sees a value out of range. The documents in `protocols/` say what the messages mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, NewType

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 (`12D3Koo...`): the identity multihash of an Ed25519 public key."""


@dataclass(frozen=True, slots=True)
class Range:
    """An integer within `low..high`, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Size:
    """A string (in UTF-8), byte string or tuple of `low..high` bytes or items."""

    low: int
    high: int


VOCABULARY_MAX: Final = 1 << 20  # No published vocabulary reaches a quarter of this.
CONTEXT_MAX: Final = 1 << 20  # Tokens; LLaMA-3.1 takes 131,072.
TOKENS_MAX: Final = 16_384  # Per frame: 4 bytes each, so that the largest Score (as many targets) stays under the frame bound.
ANSWERS_MAX: Final = 64  # Lists per Scores frame.
ENTRIES_MAX: Final = 1_024  # Entries per list; 256 is the standard.
ANSWER_ENTRIES_MAX: Final = 32_768  # Over all lists of one Scores: raw lists of so many are 192 KiB, under the frame bound.
FRAME_MAX: Final = 256 * 1024  # Bytes, without the 4-byte length.
RECORD_MAX: Final = 512  # Bytes of one signed capacity record on the wire, envelope included.
RECORD_ADDR_MAX: Final = 56  # Bytes of an address in it: any IPv6 address with its port; the largest record must fit RECORD_MAX.
RECORD_ADDRS_MAX: Final = 3  # For the same reason.
SHUFFLE_RECORDS_MAX: Final = 8  # Records per Shuffle: 4 KiB, and at most eight signature checks.
AGE_MAX: Final = 36_000  # Tenths of a second: an hour, beyond any time for which a record is believed.

U32 = Annotated[int, Range(0, 2**32 - 1)]
U63 = Annotated[int, Range(0, 2**63 - 1)]
Token = Annotated[int, Range(0, VOCABULARY_MAX - 1)]
Position = Annotated[int, Range(0, CONTEXT_MAX)]
Digest = Annotated[bytes, Size(32, 32)]
ShortHash = Annotated[bytes, Size(8, 8)]

NO_CONTROL: Final = bytes(8)
"""The control digest of a node without any control record. The kill switch (protocols/halt.md) gives it meaning."""


# --- /swarmllm/expert/1: requester to expert ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open:
    """Start a session. Nothing answers it: the first Score may follow at once, and its answer tells whether the session stands."""

    session: U32
    model_digest: Digest
    vocab_fingerprint: Digest
    ctl_digest: ShortHash


@dataclass(frozen=True, slots=True)
class Score:
    """One round: append `tokens` behind the first `base` tokens, and answer for some of the new positions.

    `answer` and `targets` are indices into `tokens`, strictly increasing. An index i in `answer` wants the distribution of the token
    that follows tokens[i]; an index i in `targets` (i + 1 < len(tokens)) wants only the log-probability of tokens[i + 1].
    `tail_max` is in 1/65536 of probability mass: a list may stop early once the mass it leaves out is below it (0: never).
    Together: base + len(tokens) <= CONTEXT_MAX, and len(answer) * entries_max <= ANSWER_ENTRIES_MAX.
    """

    session: U32
    round: U32
    epoch: U32
    base: Position
    context_hash: ShortHash
    tokens: Annotated[tuple[Token, ...], Size(1, TOKENS_MAX)]
    answer: Annotated[tuple[Annotated[int, Range(0, TOKENS_MAX - 1)], ...], Size(0, ANSWERS_MAX)]
    targets: Annotated[tuple[Annotated[int, Range(0, TOKENS_MAX - 1)], ...], Size(0, TOKENS_MAX)]
    entries_max: Annotated[int, Range(1, ENTRIES_MAX)]
    tail_max: Annotated[int, Range(0, 65_535)]
    ctl_digest: ShortHash


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over; its cache may go."""

    session: U32


# --- /swarmllm/expert/1: expert to requester ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer to one Score: a sparse list (wire.sparse) for each index in `answer`, in order, and the target log-probabilities.

    `target_logprobs` holds a big-endian u16 per target: the log-probability in nats is -value / 1024 (65535: that or less).
    """

    session: U32
    round: U32
    epoch: U32
    lists: Annotated[tuple[Annotated[bytes, Size(1, 8 * ENTRIES_MAX)], ...], Size(0, ANSWERS_MAX)]
    target_logprobs: Annotated[bytes, Size(0, 2 * TOKENS_MAX)]
    queue_us: U32
    compute_us: U32
    ctl_digest: ShortHash


@dataclass(frozen=True, slots=True)
class Need:
    """The expert holds only the first `have` tokens of what the Score was based on: send again from there."""

    session: U32
    round: U32
    have: Position


@dataclass(frozen=True, slots=True)
class Busy:
    """A clean refusal for want of room; ask again after `retry_after_ms`, or ask somebody else."""

    session: U32
    round: U32
    retry_after_ms: Annotated[int, Range(0, 600_000)]


@dataclass(frozen=True, slots=True)
class Refused:
    """This expert will never answer this session: see `protocols/expert.md` for the codes."""

    session: U32
    round: U32
    code: Annotated[int, Range(1, 255)]


REFUSED_MODEL: Final = 1  # Another model digest is loaded.
REFUSED_VOCABULARY: Final = 2  # Another vocabulary.
REFUSED_CONTEXT: Final = 3  # Longer than this expert's context.
REFUSED_SESSION: Final = 4  # No such session was opened on this stream.
REFUSED_ENGINE: Final = 5  # The engine is down.
REFUSED_OUTPUT: Final = 6  # What the model makes of this text is no distribution (NaN).
REFUSED_UNSETTLED: Final = 7  # The two control states never agreed on this connection: greet on /swarmllm/ctl/1, then ask again.


# --- /swarmllm/expert/1: who offers what (protocols/capacity.md) --------------------------------------------------------------

Age = Annotated[int, Range(0, AGE_MAX)]
Sealed = Annotated[bytes, Size(1, RECORD_MAX)]


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Some sealed capacity records, each with its age in tenths of a second, in exchange for up to `want` others (0: for none).

    `swarm` is the short hash of the swarm's name (`wire.identity.swarm_hash`): peers of two swarms exchange nothing. `ages` and `records`
    have the same length; an age is the time since the author sealed the record, as far as its carriers say.
    """

    swarm: ShortHash
    ages: Annotated[tuple[Age, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    records: Annotated[tuple[Sealed, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    want: Annotated[int, Range(0, SHUFFLE_RECORDS_MAX)]


@dataclass(frozen=True, slots=True)
class Shuffled:
    """The answer to a Shuffle that wants records."""

    ages: Annotated[tuple[Age, ...], Size(0, SHUFFLE_RECORDS_MAX)]
    records: Annotated[tuple[Sealed, ...], Size(0, SHUFFLE_RECORDS_MAX)]


# --- /swarmllm/expert/1: both ways, for the stream itself --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: U32


@dataclass(frozen=True, slots=True)
class Pong:
    nonce: U32


@dataclass(frozen=True, slots=True)
class Halted:
    """On an expert stream, either way: the sender is halted and drops every session. The order itself comes by /swarmllm/ctl/1."""

    ctl_digest: ShortHash


Name = Annotated[str, Size(1, 32)]
Domain = Annotated[str, Size(1, 16)]

ExpertRequest = Open | Score | Close
ExpertReply = Scores | Need | Busy | Refused
ExpertMessage = ExpertRequest | ExpertReply | Shuffle | Shuffled | Halted
StreamMessage = ExpertMessage | Ping | Pong


# --- shuffles and DHT: the payloads of signed envelopes ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CapacityRecord:
    """What an expert says of itself, passed from peer to peer. Values are hints: requesters correct them by what they measure.

    `boot` is the Unix time in milliseconds at which the node started, `seq` counts its records since: the newest (boot, seq) of a
    peer wins. `rate` is measured decode speed in tokens/s times 16, summed over all sessions. The signer's key is in the envelope.
    `addrs` come without `/p2p/...`, for the signer is the peer.
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
    addrs: Annotated[tuple[Annotated[str, Size(1, RECORD_ADDR_MAX)], ...], Size(0, RECORD_ADDRS_MAX)]
    ctl_digest: ShortHash


@dataclass(frozen=True, slots=True)
class ExpertRecord:
    """What the DHT holds under an expert's own key: enough to dial it and to know whether its vocabulary fits."""

    boot: U63
    model: Name
    model_digest: Digest
    vocab_fingerprint: Digest
    n_params: U63
    addrs: Annotated[tuple[Annotated[str, Size(1, 128)], ...], Size(0, 8)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload: see `wire.envelope`. `payload` is the encoded message; the signature covers its domain and these bytes."""

    public_key: Annotated[bytes, Size(32, 32)]
    payload: Annotated[bytes, Size(1, 4_096)]
    signature: Annotated[bytes, Size(64, 64)]


# --- the kill switch: control records, their signatures, and the frames of /swarmllm/ctl/1 -------------------------------------
# Protocol: protocols/halt.md. The rules that the bounds of single fields cannot say stand in wire.control_rules.

KEY_ID_BYTES: Final = 16
SEQ_MAX: Final = 2**63 - 1
ROLE_KEYS_MAX: Final = 16  # Keys per role, and so keys per version vector: one key per person, and a swarm has few operators.
LIFT_BASE_MAX: Final = 32  # The halt keys that stay and those that go.
THRESHOLD_MAX: Final = 5  # So many signatures and 16 lifts still fit a record of 1 KiB.
SIGNERS_MAX: Final = 10  # A charter: the root thresholds of the old one and of the new one.
CONTROL_RECORD_MAX: Final = 1_024  # Bytes of a signed Halt, Resume or Live.
CHARTER_RECORD_MAX: Final = 4_096  # Bytes of a signed Charter.
RECORDS_MAX: Final = 16  # Records per frame.
CONTROL_FRAME_MAX: Final = 16_384  # Bytes of a frame of /swarmllm/ctl/1 without its length: nobody waits long behind a full one.
REVERT_MAX: Final = 16  # Changes that a halt takes back; more than a person could look through afterwards.
BEACON_TTL_MAX_S: Final = 86_400  # A beacon that may be silent for longer than a day guards nothing.

KeyId = Annotated[bytes, Size(KEY_ID_BYTES, KEY_ID_BYTES)]
PublicKey = Annotated[bytes, Size(32, 32)]
Seq = Annotated[int, Range(1, SEQ_MAX)]
Version = Annotated[int, Range(1, 2**32 - 1)]
Mark = Annotated[bytes, Size(KEY_ID_BYTES + 8, KEY_ID_BYTES + 8)]
"""One entry of a version vector: a key id and a seq of 1..SEQ_MAX as a big-endian u64. In a list, ids rise strictly."""

SIGNATURE_BYTES: Final = 96
Signature = Annotated[bytes, Size(SIGNATURE_BYTES, SIGNATURE_BYTES)]
"""A public key (32 bytes) and its signature (64). In a list, keys rise strictly: nobody signs twice."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop everything. `key` is the id of the halt key that signs; its highest `seq` counts. `issued_ms` (Unix time) and
    `reason_code` are for people and decide nothing."""

    swarm: Digest
    key: KeyId
    seq: Seq
    reason_code: Annotated[int, Range(0, 255)]
    issued_ms: U63


HALT_REASONS: Final = {0: "not given", 1: "drill", 2: "misbehaviour", 3: "security", 4: "legal", 5: "maintenance"}


@dataclass(frozen=True, slots=True)
class Resume:
    """The halts up to each mark in `lifts` are lifted; one with a higher seq stands."""

    swarm: Digest
    charter_version: Version
    lifts: Annotated[tuple[Mark, ...], Size(1, ROLE_KEYS_MAX)]
    issued_ms: U63


@dataclass(frozen=True, slots=True)
class Charter:
    """Who may do what. `prev_hash` is SHA-256 of the encoding of the charter before (zeros in the first, whose own hash is the
    swarm's id); each role lists public keys that rise strictly. `lift_base` are the lifts that this charter starts from.

    `revert_changes` is how many of the agent's changes a halt takes back; `beacon_ttl_s` 0 means that beacons are off;
    `expires_ms` (0: never) warns people and refuses nothing.
    """

    version: Version
    prev_hash: Digest
    root: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    halt: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    resume: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    voter: Annotated[tuple[PublicKey, ...], Size(0, ROLE_KEYS_MAX)]
    beacon: Annotated[tuple[PublicKey, ...], Size(0, ROLE_KEYS_MAX)]
    root_threshold: Annotated[int, Range(1, THRESHOLD_MAX)]
    resume_threshold: Annotated[int, Range(1, THRESHOLD_MAX)]
    revert_changes: Annotated[int, Range(0, REVERT_MAX)]
    beacon_ttl_s: Annotated[int, Range(0, BEACON_TTL_MAX_S)]
    lift_base: Annotated[tuple[Mark, ...], Size(0, LIFT_BASE_MAX)]
    issued_ms: U63
    expires_ms: U63


@dataclass(frozen=True, slots=True)
class Live:
    """A beacon's sign of life: nodes under a charter with beacons stop when none has come for `ttl_s`."""

    swarm: Digest
    charter_version: Version
    key: KeyId
    seq: Seq
    issued_ms: U63
    ttl_s: Annotated[int, Range(1, BEACON_TTL_MAX_S)]
    ctl_digest: ShortHash


ControlRecord = Halt | Resume | Charter | Live


@dataclass(frozen=True, slots=True)
class Signed:
    """A control record with its signatures, each over the record type's domain and `payload`: see `wire.signed`."""

    payload: Annotated[bytes, Size(1, CHARTER_RECORD_MAX)]
    signatures: Annotated[tuple[Signature, ...], Size(1, SIGNERS_MAX)]


@dataclass(frozen=True, slots=True)
class ControlDigest:
    """The first frame both ways, and every 10 s to somebody: what the sender's control state adds up to. Equal: nothing to say."""

    swarm: Digest
    charter_version: U32
    ctl_digest: ShortHash


@dataclass(frozen=True, slots=True)
class Vectors:
    """The sender's control state itself; version 0 and a hash of zeros while it has no charter yet."""

    swarm: Digest
    charter_version: U32
    charter_hash: Digest
    halts: Annotated[tuple[Mark, ...], Size(0, ROLE_KEYS_MAX)]
    lifts: Annotated[tuple[Mark, ...], Size(0, ROLE_KEYS_MAX)]


@dataclass(frozen=True, slots=True)
class Records:
    """Signed records as they were signed; charters first and in order, for the others can only be checked under them."""

    records: Annotated[tuple[Annotated[bytes, Size(1, CHARTER_RECORD_MAX)], ...], Size(1, RECORDS_MAX)]


@dataclass(frozen=True, slots=True)
class Ack:
    """The sender's control state with this digest would survive a power cut."""

    ctl_digest: ShortHash


ControlFrame = ControlDigest | Vectors | Records | Ack
