"""Write the wire formats' test vectors: what must be accepted, and as what, and what must be
refused.

    python scripts/make_wire_vectors.py            writes protocols/vectors/*.json
    python scripts/make_wire_vectors.py --check    exits 1 if one is not up to date

They are for other implementations as much as for this one. Keys, seeds and numbers are fixed, so
every run writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.governance_samples import GOVERNANCE, broken_governance
from scripts.invite_samples import INVITE
from scripts.membership_samples import FRAMES
from scripts.session_samples import SESSION, SESSIONS, broken_sessions, transcript_vectors
from swarmllm import messages as m
from swarmllm.errors import RemoteError
from swarmllm.messages.declare import domain_of
from swarmllm.messages.goodbye import Goodbye
from swarmllm.wire import context, envelope, sparse
from swarmllm.wire.codec import CODES, encode
from swarmllm.wire.framing import frame
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.sparse_encoding import encode_list, encode_logits

FOLDER = Path(__file__).resolve().parent.parent / "protocols" / "vectors"
# Of the Ed25519 key that signs the vectors. Known to everybody, so good for nothing else.
SEED = bytes(range(32))
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
DIGEST, FINGERPRINT, CONTROL = bytes(range(32)), bytes(range(32, 64)), bytes(8)

SCORE = m.Score(
    7,
    1,
    0,
    3,
    context.digests((1, 2, 3))[-1],
    (128_000, 9_906, 11, 1_917),
    (1, 3),
    (0, 2),
    256,
    655,
    CONTROL,
)
CAPACITY = m.CapacityRecord(
    boot=1_790_000_000_000,
    seq=4,
    model="prose",
    model_digest=DIGEST,
    vocab_fingerprint=FINGERPRINT,
    n_params=8_030_261_248,
    context_max=131_072,
    rate=640,
    queue_depth=2,
    sessions_free=14,
    sessions_max=16,
    domains=("prose", "books"),
    addrs=("/ip4/192.0.2.7/tcp/7339", "/ip6/2001:db8::7/tcp/7339"),
    ctl_digest=CONTROL,
)
SHUFFLE = m.Shuffle(DIGEST[:8], (3, 901), (b"one", b"two"), 4)
FIFTEEN = m.Scores(7, 1, 0, (b"\1",) * 15, b"", 0, 0, CONTROL)
EXPERT = m.ExpertRecord(
    1_790_000_000_000, "prose", DIGEST, FINGERPRINT, 8_030_261_248, ("/ip4/192.0.2.7/tcp/7339",)
)

TOKENIZERS = (
    m.TokenizerWanted(FINGERPRINT, DIGEST[:8], 0),
    m.TokenizerWanted(FINGERPRINT, DIGEST[:8], m.SEALED_MAX - 1),
    m.TokenizerPart(FINGERPRINT, DIGEST[:8], m.PART_BYTES + 1, m.PART_BYTES, b"x"),
    m.TokenizerBusy(FINGERPRINT, DIGEST[:8], 500),
    m.TokenizerBusy(FINGERPRINT, DIGEST[:8], 0),
)

LEDGERS = (
    m.LedgerLeaf(1, 1_790_000_000_000, b"payload"),
    m.LedgerLeaf(255, 0, b"\1" * m.PAYLOAD_MAX),
    m.HaltedHere(("stopped by the owner of this node",)),
    m.ResumedHere(2),
    m.OwnerCommand("stop"),
    m.LedgerAlarm(DIGEST, m.ALARM_FORKED, b"held\n", b"shown\n", 1_790_000_000_000),
    m.AlarmAcknowledged(DIGEST, FINGERPRINT),
    m.AgentStep("scheduling", 7, "validating", "router.hedging_extra at 2: better"),
    m.ExpertExcluded("n000001", DIGEST, 1_790_000_000, "its lists differ"),
    m.LedgerHead(b"swarmllm/ledger/x\n1\n"),
    m.LedgerProofWanted(1, m.LOG_SIZE_MAX),
    m.LedgerProof(3, 7, (DIGEST, FINGERPRINT)),
    m.LedgerProof(3, 7, ()),
    m.LedgerCosigned(7, 1_790_000_000, DIGEST * 2),
    m.LedgerFork(b"one\n", b"other\n"),
)


def plain(value: object) -> object:
    """JSON has no bytes and no tuples: hex strings and lists."""
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [plain(item) for item in value]
        case _:
            return value


def described(message: Any) -> dict[str, object]:
    return {
        "type": type(message).__name__,
        "fields": {f.name: plain(getattr(message, f.name)) for f in fields(message)},
    }


# --- codec and framing ----------------------------------------------------------------------------


def broken_encodings() -> dict[str, bytes]:
    """What is wrong whatever the schema says; Ping (0x20) has one integer."""
    return {
        "nothing": b"",
        "array header only": b"\x92",
        "not an array": b"\x20\x05",
        "unknown type code": b"\x92\x7f\x05",
        "type code in two bytes": b"\x92\xcc\x20\x05",
        "a field too few": b"\x91\x20",
        "a field too many": b"\x93\x20\x05\x05",
        "array header of three bytes": b"\xdc\x00\x02\x20\x05",
        "bytes after the end": b"\x92\x20\x05\x00",
        "two messages": b"\x92\x20\x05\x92\x20\x05",
        "integer not in its shortest form": b"\x92\x20\xcc\x05",
        "integer of eight bytes out of range": b"\x92\x20\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
        "negative integer": b"\x92\x20\xff",
        "bool for an integer": b"\x92\x20\xc3",
        "nil for an integer": b"\x92\x20\xc0",
        "float for an integer": b"\x92\x20\xcb\x40\x14" + bytes(6),
        "NaN for an integer": b"\x92\x20\xcb\x7f\xf8" + bytes(6),
        "ext for an integer": b"\x92\x20\xd4\x01\x05",
        "map for an integer": b"\x92\x20\x80",
        "integer cut short": b"\x92\x20\xce\x00\x01",
    }


def broken_ledgers() -> dict[str, bytes]:
    return {
        "a log that shrinks": b"\x93\x75\x07\x07",
        "a proof of 64 hashes": b"\x94\x76\x01\x02\xdc\x00\x40" + (b"\xc4\x20" + bytes(32)) * 64,
        "a log of no entries": encode(m.LedgerCosigned(1, 2, DIGEST * 2)).replace(
            b"\x94\x77\x01", b"\x94\x77\x00", 1
        ),
    }


def broken_messages() -> dict[str, bytes]:
    score = encode(SCORE)
    tokens = b"".join(t.to_bytes(4, "big") for t in SCORE.tokens)
    record = encode(EXPERT)
    shuffle = encode(SHUFFLE)
    ages = b"\xc4\x08" + bytes.fromhex("0000000300000385")
    return {
        **broken_encodings(),
        **broken_ledgers(),
        **broken_governance() | broken_sessions(),
        "byte string with too long a header": score.replace(b"\xc4\x08", b"\xc5\x00\x08", 1),
        "text for bytes": score.replace(b"\xc4\x08", b"\xa8", 1),
        "hash of seven bytes": score.replace(
            b"\xc4\x08" + SCORE.context_hash, b"\xc4\x07" + SCORE.context_hash[:7], 1
        ),
        "bytes longer than the message": encode(m.Halted(bytes(8)))[:2] + b"\xc6\xff\xff\xff\xff",
        "tokens as an array": score.replace(b"\xc4\x10" + tokens, b"\x94\x01\x02\x03\x04"),
        "no tokens": score.replace(b"\xc4\x10" + tokens, b"\xc4\x00"),
        "half a token": score.replace(b"\xc4\x10" + tokens, b"\xc4\x0e" + tokens[:14]),
        "token of 2^20": score.replace(tokens[:4], b"\x00\x10\x00\x00"),
        "answer falls": score.replace(
            bytes.fromhex("0000000100000003"), bytes.fromhex("0000000300000001")
        ),
        "answer twice": score.replace(
            bytes.fromhex("0000000100000003"), bytes.fromhex("0000000300000003")
        ),
        "answer beyond the tokens": score.replace(
            bytes.fromhex("0000000100000003"), bytes.fromhex("0000000100000004")
        ),
        "target of the last token": score.replace(
            bytes.fromhex("0000000000000002"), bytes.fromhex("0000000000000003")
        ),
        "half a target": b"\x99\x10\x07\x01\x00\x90\xc4\x01\x00\x00\x00\xc4\x08" + CONTROL,
        "an integer of 2^63": encode(replace(EXPERT, boot=2**63 - 1)).replace(
            b"\xcf\x7f" + b"\xff" * 7, b"\xcf\x80" + bytes(7), 1
        ),
        "fifteen items in a header for more": encode(FIFTEEN).replace(
            b"\x9f\xc4\x01", b"\xdc\x00\x0f\xc4\x01", 1
        ),
        "refusal with code 0": b"\x94\x13\x07\x01\x00",
        "an age too few": shuffle.replace(ages, b"\xc4\x04" + ages[2:6]),
        "an age without a record": shuffle.replace(ages, b"\xc4\x0c" + ages[2:] + bytes(4)),
        "an age beyond an hour": shuffle.replace(ages[6:], (m.AGE_MAX + 1).to_bytes(4, "big")),
        "a record of no bytes": shuffle.replace(b"\xc4\x03two", b"\xc4\x00"),
        "a record too long": shuffle.replace(
            b"\xc4\x03two", b"\xc5\x02\x01" + bytes(m.RECORD_MAX + 1)
        ),
        "more records wanted than there may be": shuffle[:-1] + bytes([m.SHUFFLE_RECORDS_MAX + 1]),
        "name not UTF-8": record.replace(b"\xa5prose", b"\xa5pr\xffse"),
        "name with an escape": record.replace(b"\xa5prose", b"\xa5p\x1b[2J"),
        "name with a right-to-left override": record.replace(b"\xa5prose", b"\xa5\xe2\x80\xaexx"),
        "name empty": record.replace(b"\xa5prose", b"\xa0"),
        "name too long": record.replace(b"\xa5prose", b"\xd9\x21" + b"x" * 33),
        "name with too long a header": record.replace(b"\xa5prose", b"\xd9\x05prose"),
        "bytes for text": record.replace(b"\xa5prose", b"\xc4\x05prose"),
        "addresses with too long a header": record.replace(
            b"\x91\xb7/ip4", b"\xdc\x00\x01\xb7/ip4"
        ),
    }


def codec_vectors() -> dict[str, object]:
    valid = _valid_messages()
    invalid = broken_messages() | broken_sets() | broken_drafts()
    taken = [encode(message) for message in valid]
    assert not set(taken) & set(invalid.values())
    assert len(set(invalid.values())) == len(invalid), "a replacement did not find its place"
    return {
        "what": (
            "Messages, without length prefix. `invalid` must be refused whatever type is expected."
        ),
        "codes": {kind.__name__: code for kind, code in CODES.items()},
        "valid": [
            {**described(message), "hex": data.hex()}
            for message, data in zip(valid, taken, strict=True)
        ],
        "invalid": [{"name": name, "hex": data.hex()} for name, data in invalid.items()],
    }


def _score_allowed(allowed: bytes) -> m.ScoreAllowed:
    said = {f.name: getattr(SCORE, f.name) for f in fields(SCORE)}
    return m.ScoreAllowed(**said | {"answer": (3,), "targets": ()}, allowed=allowed)


def _score_draft(steps: int) -> m.ScoreDraft:
    said = {f.name: getattr(SCORE, f.name) for f in fields(SCORE)}
    last = len(SCORE.tokens) - 1
    return m.ScoreDraft(**said | {"answer": (last,), "targets": ()}, steps=steps)


def broken_drafts() -> dict[str, bytes]:
    """ScoreDraft that goes on from nowhere, or for longer than EXPERT-16 lets it."""
    data = encode(_score_draft(1))
    return {
        "draft: no step": data[:-1] + b"\x00",
        "draft: more steps than there are": data[:-1] + b"\x0f",
        "draft: from a list that is not asked for": data.replace(
            bytes.fromhex("c40400000003"), bytes.fromhex("c40400000000")
        ),
    }


def broken_sets() -> dict[str, bytes]:
    """ScoreAllowed whose set is not as EXPERT-15 says, or that asks for more than EXPERT-14 lets
    it."""
    good = _score_allowed(bytes.fromhex("000000000500000fff"))
    data, whole = encode(good), b"\xc4\x09" + good.allowed
    assert data.endswith(whole)
    head = data[: -len(whole)]

    def changed(text: str) -> bytes:
        body = bytes.fromhex(text)
        return head + bytes((0xC4, len(body))) + body

    return {
        "allowed: no id": changed("00"),
        "allowed: half an id": changed("00000000050000"),
        "allowed: ids that fall": changed("0000000fff00000005"),
        "allowed: an id twice": changed("000000000500000005"),
        "allowed: an id of no vocabulary": changed("0000100000"),
        "allowed: ids where a bitmap is shorter": changed("000000000100000002"),
        "allowed: a bitmap where ids are shorter": changed("01000000000001"),
        "allowed: a bitmap that ends in a zero": changed("01ff00"),
        "allowed: an unknown form": changed("02ff"),
    }


def _valid_messages() -> list[Any]:
    return [
        m.Open(7, DIGEST, FINGERPRINT, CONTROL),
        SCORE,
        _score_allowed(bytes.fromhex("000000000500000fff")),
        _score_allowed(b"\x01\xff\xfe\x03"),
        _score_draft(14),
        replace(
            SCORE,
            base=0,
            context_hash=context.EMPTY,
            tokens=(0,),
            answer=(0,),
            targets=(),
            entries_max=1,
            tail_max=0,
        ),
        replace(
            SCORE,
            session=2**32 - 1,
            base=m.CONTEXT_MAX - 4,
            tokens=(m.VOCABULARY_MAX - 1, 0, 1, 2),
            answer=(),
            entries_max=1024,
        ),
        m.Close(0),
        m.Scores(
            7, 1, 0, (b"\1", bytes(range(256))), bytes.fromhex("0400ffff"), 120, 65_536, CONTROL
        ),
        m.Scores(7, 1, 0, (), b"", 0, 0, CONTROL),
        m.Need(7, 1, 3),
        m.Busy(7, 1, 250),
        m.Refused(7, 1, m.REFUSED_VOCABULARY),
        *SESSIONS,
        SHUFFLE,
        m.Shuffle(bytes(8), (), (), m.SHUFFLE_RECORDS_MAX),
        m.Shuffled((0,) * m.SHUFFLE_RECORDS_MAX, (b"\1",) * m.SHUFFLE_RECORDS_MAX),
        m.Shuffled((), ()),
        *TOKENIZERS,
        *LEDGERS,
        *GOVERNANCE,
        INVITE,
        *FRAMES,
        *(m.Ping(nonce) for nonce in (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1)),
        m.Pong(1),
        CAPACITY,
        EXPERT,
        m.Envelope(PUBLIC, b"\1", bytes(64)),
        Goodbye(1),
        Goodbye(255),
        replace(CAPACITY, boot=2**63 - 1, n_params=2**63 - 1),
        # An array of sixteen has a header of three bytes.
        m.Scores(7, 1, 0, (b"\1",) * 16, b"", 0, 0, CONTROL),
        m.Scores(7, 1, 0, (b"\1",) * m.ANSWERS_MAX, b"", 0, 0, CONTROL),
    ]


def framing_vectors() -> dict[str, object]:
    one, two = frame(m.Ping(5)), frame(SCORE)
    stream = one + two + one
    cuts = (0, 1, 3, 5, 9, 40, len(stream) - 1, len(stream))
    streams = {
        "whole": [stream],
        "in pieces": [stream[a:b] for a, b in pairwise(cuts)],
        "unfinished": [one + two[:-1]],
    }
    expected = {"whole": [one, two, one], "in pieces": [one, two, one], "unfinished": [one]}
    broken = {
        "length 0": [bytes(4)],
        "length above the bound": [(m.FRAME_MAX + 1).to_bytes(4, "big")],
        "length 2^32 - 1": [b"\xff", b"\xff\xff\xff"],
    }
    return {
        "what": (
            "Streams in the pieces in which they arrive, and the frames (without length)"
            " that come out of them."
        ),
        "frame_max": m.FRAME_MAX,
        "valid": [
            {
                "name": name,
                "chunks": [c.hex() for c in chunks],
                "frames": [f[4:].hex() for f in expected[name]],
            }
            for name, chunks in streams.items()
        ],
        "invalid": [
            {"name": name, "chunks": [c.hex() for c in chunks]} for name, chunks in broken.items()
        ],
    }


# --- identity, context, envelope ------------------------------------------------------------------


def identity_vectors() -> dict[str, object]:
    keys = (PUBLIC, bytes(32), b"\xff" * 32, bytes(range(32)))
    good = peer_id_of(PUBLIC)
    bad = {
        "empty": "",
        "a letter too few": good[:-1],
        "a letter too many": good + "1",
        "letter outside base58": good[:-1] + "0",
        "RSA peer id": "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        "zeros": "1" * 52,
        "larger than 38 bytes": "z" * 52,
    }
    return {
        "what": "Ed25519 public keys and their libp2p peer ids.",
        "valid": [{"public_key": key.hex(), "peer": peer_id_of(key)} for key in keys],
        "invalid": [{"name": name, "peer": peer} for name, peer in bad.items()],
    }


def context_vectors() -> dict[str, object]:
    rows: list[tuple[int, ...]] = [
        (),
        (0,),
        (128_000, 9_906, 11, 1_917),
        (m.VOCABULARY_MAX - 1, 0, 0, 1),
    ]
    return {
        "what": "Token sequences and the rolling hash of each prefix, the empty one first.",
        "valid": [
            {"tokens": list(row), "digests": [d.hex() for d in context.digests(row)]}
            for row in rows
        ],
    }


def envelope_vectors() -> dict[str, object]:
    valid = [
        {**described(p), "hex": envelope.seal(p, PUBLIC, PRIVATE.sign).hex()}
        for p in (CAPACITY, EXPERT, SESSION)
    ]
    packed, sealed = encode(EXPERT), envelope.seal(EXPERT, PUBLIC, PRIVATE.sign)
    domain, other = domain_of(m.ExpertRecord), domain_of(m.CapacityRecord)

    def forged(signed: bytes, payload: bytes = packed, key: bytes = PUBLIC) -> bytes:
        return encode(m.Envelope(key, payload, PRIVATE.sign(signed)))

    loose = packed.replace(b"\xa5prose", b"\xd9\x05prose")
    invalid = {
        "signature bit flipped": sealed[:-1] + bytes((sealed[-1] ^ 1,)),
        "payload bit flipped": sealed.replace(packed, packed[:-1] + bytes((packed[-1] ^ 1,))),
        "another author": sealed.replace(PUBLIC, PUBLIC[:-1] + bytes((PUBLIC[-1] ^ 1,))),
        "signed without a domain": forged(packed),
        "signed for another domain": forged(other + packed),
        "domain without its zero": forged(domain[:-1] + packed),
        "payload not in its one encoding": forged(domain + loose, loose),
        "payload of no signed type": forged(domain + encode(m.Ping(1)), encode(m.Ping(1))),
        "payload without an envelope": packed,
        "bytes after the end": sealed + b"\0",
    }
    return {
        "what": "Signed envelopes around capacity and expert records.",
        "seed": SEED.hex(),
        "public_key": PUBLIC.hex(),
        "peer": peer_id_of(PUBLIC),
        "domains": {
            kind.__name__: domain_of(kind).decode()
            for kind in (m.CapacityRecord, m.ExpertRecord, m.SessionRecord)
        },
        "valid": valid,
        "invalid": [{"name": name, "hex": data.hex()} for name, data in invalid.items()],
    }


# --- sparse lists ---------------------------------------------------------------------------------


def sparse_vector(name: str, data: bytes, vocab_size: int, **more: object) -> dict[str, object]:
    """`entries_max` and `tail_max`, where `logits` are given, are what the encoder was told."""
    entries_max = int(str(more.setdefault("entries_max", 256)))
    if "logits" in more:
        more["tail_max"] = 0
    found = sparse.decode_list(data, entries_max, vocab_size)
    return {
        "name": name,
        "hex": data.hex(),
        "vocab_size": vocab_size,
        "ids": found.ids.tolist(),
        "logprobs": [round(float(v), 6) for v in found.logprobs],
        "tail": round(found.tail, 8),
        **more,
    }


RAW_LIST: Final = bytes.fromhex("00 0002 0000 00000003 00000007 b820 bb50")
FIVE_LOGITS: Final = (3.0, 0.0, 2.0, 1.0, 0.5)


def sparse_vectors() -> dict[str, object]:
    coded = encode_logits(np.array(FIVE_LOGITS, np.float32), 4, 0)
    return {
        "what": "Sparse lists, version 1. `logits`, where given, encode to `hex` under"
        " `entries_max` and `tail_max` in the reference encoder; other lawful encoders may choose"
        " other grains and shifts. `logprobs` and `tail` are within `tolerance`. `invalid` are read"
        " with entries_max 256, vocab_size 8.",
        "tolerance": 2e-5,
        "valid": _valid_lists(coded),
        "invalid": [
            {"name": name, "hex": data.hex(), "entries_max": 256, "vocab_size": 8}
            for name, data in _invalid_lists(coded, RAW_LIST).items()
        ],
    }


def _valid_lists(coded: bytes) -> list[dict[str, object]]:
    rng = np.random.default_rng(20261123)
    rows = {
        "two tokens": [1.0, 0.0],
        "equal logits: the lowest id is raised": [2.5] * 12,
        "near tie: the larger is raised": [0.0, 3.0, 3.0001, 1.0],
        "certain": [0.0, 60.0, 0.0],
    }
    usual = (-1.3 * np.log(rng.permutation(128_256) + 3.0)).astype(np.float32)
    usual_list = sparse.decode_list(encode_logits(usual, 256, 0), 256, 128_256)
    return [
        *(
            sparse_vector(
                name,
                encode_logits(np.array(row, np.float32), 256, 0),
                len(row),
                logits=row,
            )
            for name, row in rows.items()
        ),
        sparse_vector("four of five", coded, 5, entries_max=4, logits=list(FIVE_LOGITS)),
        sparse_vector("raw", RAW_LIST, 8),
        sparse_vector("256 of 128,256", encode_list(usual_list), 128_256),
        sparse_vector("256 of 128,256, raw", encode_list(usual_list, raw=True), 128_256),
    ]


def _invalid_lists(coded: bytes, raw: bytes) -> dict[str, bytes]:
    """Each is checked here: a decoder that takes one must not write the vectors."""
    invalid = {
        "nothing": b"",
        "unknown form": b"\2" + raw[1:],
        "cut short": coded[:-1],
        "a byte too many": coded + b"\0",
        "padding not zero": coded[:-1] + bytes((coded[-1] | 1,)),
        "id outside the vocabulary": raw[:12] + b"\x08" + raw[13:],
        "ids equal": raw[:9] + raw[5:9] + raw[13:],
        "ids fall": raw[:5] + raw[9:13] + raw[5:9] + raw[13:],
        "no entries": b"\0\0\0\0\0",
        "more entries than bytes": b"\0\0\3" + raw[3:],
        "value NaN": raw[:-2] + b"\x7e\x00",
        "value minus infinity": raw[:-2] + b"\xfc\x00",
        "value above 0": raw[:-2] + b"\x3b\x40",
        "no single largest value": raw[:-4] + b"\xb9\x8c\xb9\x8c",
        "mass of more than 1": raw[:-4] + b"\xb0\x00\xb1\x00",
        "mass far from what the odds say": raw[:3] + b"\x80\x00" + raw[5:],
        "value deeper than the deepest": b"\1\0\0\0\0\0\0" + b"\xa0\0",
        "gap shift 21": b"\1\0\0" + bytes((21 << 3,)) + coded[4:],
        "unary part without an end": coded[:7] + bytes(8),
    }
    for name, data in invalid.items():
        try:
            sparse.decode_list(data, 256, 8)
        except RemoteError:
            continue
        raise AssertionError(f"{name} was accepted")
    return invalid


def files() -> dict[str, str]:
    """File name -> text of every vector file."""
    made = {
        "codec.json": codec_vectors(),
        "framing.json": framing_vectors(),
        "identity.json": identity_vectors(),
        "context.json": context_vectors(),
        "transcript.json": transcript_vectors(
            [SCORE, _score_draft(1), _score_allowed(b"\x01\xff\xfe\x03")]
        ),
        "envelope.json": envelope_vectors(),
        "sparse.json": sparse_vectors(),
    }
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in made.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the wire formats' test vectors.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a file is out of date"
    )
    check = parser.parse_args().check
    stale = 0
    for name, text in files().items():
        path = FOLDER / name
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"{name} is out of date: run scripts/make_wire_vectors.py", file=sys.stderr)
            stale += 1
        elif not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
