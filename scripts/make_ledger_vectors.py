"""Write the vectors of protocols/ledger.md: leaves, proofs, checkpoints and cosignatures, valid and
invalid.

    python -m scripts.make_ledger_vectors            writes protocols/vectors/ledger.json
    python -m scripts.make_ledger_vectors --check    exits 1 if it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scripts.vector_file import write_or_check
from swarmllm import messages as m
from swarmllm.adapters.ledger_files import EntryProof
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
)
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.testing.operators import Founders, Operator
from swarmllm.wire.checkpoint import (
    Checkpoint,
    cosign,
    cosignature_line,
    sign_checkpoint,
    with_lines,
)
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.signed import sign_record

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "ledger.json"
LOG, WITNESS = Operator("ledger log"), Operator("ledger witness")
LOG_PEER, WITNESS_PEER = peer_id_of(LOG.public_key), peer_id_of(WITNESS.public_key)
WE = Founders("ledger vectors")
AT_MS = 1_790_000_000_000
OLD = 3

ENTRIES = (
    LedgerEntry(LedgerKind.CHARTER, WE.charter),
    LedgerEntry(LedgerKind.HALT, WE.halt()),
    LedgerEntry(LedgerKind.HALTED, encode(m.HaltedHere(("stopped by the owner of this node",)))),
    LedgerEntry(LedgerKind.COMMAND, encode(m.OwnerCommand("stop"))),
    LedgerEntry(LedgerKind.COMMAND, encode(m.OwnerCommand("start"))),
    LedgerEntry(LedgerKind.RESUMED, encode(m.ResumedHere(1))),
    LedgerEntry(LedgerKind.COMMAND, encode(m.OwnerCommand("stop"))),
)
LEAVES = [leaf_of(entry, AT_MS + at) for at, entry in enumerate(ENTRIES)]


def tree() -> tuple[list[bytes], dict[tuple[int, int], bytes]]:
    """Roots by size, and complete nodes."""
    grown, nodes = Frontier(), dict[tuple[int, int], bytes]()
    roots = [grown.root]
    for leaf in LEAVES:
        for level, at, hashed in grown.append(leaf_hash(leaf)):
            nodes[level, at] = hashed
        roots.append(grown.root)
    return roots, nodes


def proofs() -> dict[str, Any]:
    roots, nodes = tree()
    size = len(LEAVES)

    def read(level: int, at: int) -> bytes:
        return nodes[level, at]

    inclusion = [
        {
            "index": index,
            "size": size,
            "leaf_hash": leaf_hash(LEAVES[index]).hex(),
            "proof": [one.hex() for one in inclusion_proof(index, size, read)],
            "root": roots[size].hex(),
        }
        for index in range(size)
    ]
    consistency = [
        {
            "old": old,
            "new": size,
            "old_root": roots[old].hex(),
            "new_root": roots[size].hex(),
            "proof": [one.hex() for one in consistency_proof(old, size, read)],
        }
        for old in range(1, size + 1)
    ]
    one, bad = dict[str, Any](inclusion[2]), dict[str, Any](consistency[OLD - 1])
    swapped = {"old_root": bad["new_root"], "new_root": bad["old_root"]}
    return {
        "inclusion": inclusion,
        "inclusion_invalid": [
            {**one, "why": "another index", "index": 3},
            {**one, "why": "a hash too many", "proof": [*one["proof"], "00" * 32]},
            {**one, "why": "a hash too few", "proof": one["proof"][1:]},
        ],
        "consistency": consistency,
        "consistency_invalid": [
            {**bad, "why": "the roots swapped", **swapped},
            {**bad, "why": "no proof", "proof": []},
            {**bad, "why": "another old size", "old": 2},
            {**bad, "why": "the empty tree", "old": 0, "proof": []},
        ],
    }


def note_of(size: int) -> bytes:
    roots, _ = tree()
    return sign_checkpoint(Checkpoint(LOG_PEER, size, roots[size]), LOG.public_key, LOG.sign)


def checkpoints() -> dict[str, Any]:
    roots, _ = tree()
    size = len(LEAVES)
    at, note = Checkpoint(LOG_PEER, size, roots[size]), note_of(size)
    text, _, line = note.decode().partition("\n\n")
    line = line.rstrip("\n")
    made = cosign(at, WITNESS_PEER, AT_MS // 1000, WITNESS.sign)
    cosigned = with_lines(note, [cosignature_line(made)])
    other = sign_checkpoint(at, WITNESS.public_key, WITNESS.sign)
    invalid = {
        "the size changed": note.replace(f"\n{size}\n".encode(), f"\n{size + 1}\n".encode()),
        "a leading zero": note.replace(f"\n{size}\n".encode(), f"\n0{size}\n".encode()),
        "signed by another key": other,
        "no signature": f"{text}\n".encode(),
        "an extension line": f"{text}\nmore\n\n{line}\n".encode(),
        "no line end at the end": note[:-1],
        "a carriage return": note.replace(b"\n", b"\r\n"),
        "base64 with other last bits": note.replace(b"=\n\n", b"\n\n", 1),
        "another origin": note.replace(b"swarmllm/ledger", b"swarmllm/Ledger"),
        "the witness first": f"{text}\n\n{cosignature_line(made)}\n{line}\n".encode(),
    }
    return {
        "note": note.decode(),
        "size": size,
        "root": roots[size].hex(),
        "peer": LOG_PEER,
        "public_key": LOG.public_key.hex(),
        "cosigned": cosigned.decode(),
        "witness": WITNESS_PEER,
        "cosigned_at_s": AT_MS // 1000,
        "invalid": [{"why": why, "note": data.decode()} for why, data in invalid.items()],
    }


def vectors() -> dict[str, Any]:
    _, nodes = tree()
    size = len(LEAVES)
    alarm = m.LedgerAlarm(LOG.public_key, m.ALARM_SHRANK, note_of(size), note_of(OLD), AT_MS)
    hashes = tuple(inclusion_proof(1, size, lambda level, at: nodes[level, at]))
    proof = EntryProof(1, LEAVES[1], hashes, note_of(size))
    return {
        "leaves": [
            {"kind": int(entry.kind), "leaf": leaf.hex(), "hash": leaf_hash(leaf).hex()}
            for entry, leaf in zip(ENTRIES, LEAVES, strict=True)
        ],
        **proofs(),
        "checkpoint": checkpoints(),
        "alarm": {
            "record": sign_record(alarm, [(WITNESS.public_key, WITNESS.sign)]).hex(),
            "signer": WITNESS.public_key.hex(),
            "what": m.ALARM_SHRANK,
        },
        "tlog_proof": proof.text().decode(),
    }


if __name__ == "__main__":
    sys.exit(write_or_check(PATH, vectors(), __doc__))
