"""Write the kill switch's test vectors: signed records, frames, and what a state becomes as they
come in.

    python scripts/make_halt_vectors.py            writes protocols/vectors/halt.json
    python scripts/make_halt_vectors.py --check    exits 1 if it is not up to date

The keys are made from the names of those who hold them, so every run writes the same bytes, and
nobody should use them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarmllm import messages as m
from swarmllm.core.halt.beacons import Beacons
from swarmllm.core.halt.charter import Rejected, successor
from swarmllm.core.halt.state import Applied, HaltState, Known, validate
from swarmllm.wire.codec import encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import HALT_DOMAINS, key_id, open_record, sign_record

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "halt.json"
NAMES = (
    "root 1",
    "root 2",
    "root 3",
    "halt 1",
    "halt 2",
    "resume 1",
    "resume 2",
    "resume 3",
    "beacon 1",
    "stranger",
)


def seed_of(name: str) -> bytes:
    return sha256(f"swarmllm vectors: {name}".encode()).digest()


def private_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed_of(name))


def public_of(name: str) -> bytes:
    return private_of(name).public_key().public_bytes_raw()


def sign(record: m.HaltRecord, *names: str) -> bytes:
    return sign_record(record, [(public_of(name), private_of(name).sign) for name in names])


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def role(*names: str) -> tuple[bytes, ...]:
    return tuple(sorted(public_of(name) for name in names))


FIRST = m.Charter(
    version=1,
    prev_hash=bytes(32),
    root=role("root 1", "root 2", "root 3"),
    halt=role("halt 1", "halt 2"),
    resume=role("resume 1", "resume 2", "resume 3"),
    voter=(),
    beacon=role("beacon 1"),
    root_threshold=2,
    resume_threshold=2,
    revert_changes=3,
    beacon_ttl_s=0,
    lift_base=(),
    issued_ms=1_790_000_000_000,
    expires_ms=0,
)
SWARM = sha256(encode(FIRST)).digest()
ONE, TWO = key_id(public_of("halt 1")), key_id(public_of("halt 2"))


def records() -> dict[str, bytes]:
    """Name -> record; every one is well formed, not every one is valid."""
    first = sign(FIRST, "root 1", "root 2")
    lift = m.Resume(SWARM, 1, marks_of({ONE: 5}), 1_790_000_002_000)
    next_lifts = {ONE: 5}
    second = successor(
        open_record(first),
        next_lifts,
        replace(FIRST, halt=role("halt 1"), issued_ms=1_790_000_003_000),
    )
    order = m.Halt(SWARM, ONE, 5, 1, 1_790_000_001_000)
    made = {
        "charter 1": first,
        "halt 1 seq 5": sign(order, "halt 1"),
        "halt 1 seq 6": sign(replace(order, seq=6), "halt 1"),
        "halt 2 seq 1": sign(replace(order, key=TWO, seq=1), "halt 2"),
        "halt 1 seq 7 signed by a stranger": sign(replace(order, seq=7), "stranger"),
        "halt 1 seq 7 for another swarm": sign(replace(order, seq=7, swarm=bytes(32)), "halt 1"),
        "resume of 5 by one": sign(lift, "resume 1"),
        "resume of 5 by two": sign(lift, "resume 1", "resume 3"),
        "resume of 5 by halt keys": sign(lift, "halt 1", "halt 2"),
        "charter 2 without halt 2": sign(second, "root 2", "root 3"),
        "charter 2 by one root": sign(second, "root 2"),
        "charter 2 forgetting halt 2": sign(
            replace(second, lift_base=marks_of({ONE: 5})), "root 1", "root 2"
        ),
        "resume of 6 under charter 1": sign(
            replace(lift, lifts=marks_of({ONE: 6})), "resume 1", "resume 2"
        ),
        "resume of 6 under charter 2": sign(
            replace(lift, charter_version=2, lifts=marks_of({ONE: 6})), "resume 1", "resume 2"
        ),
    }
    third = replace(second, version=3, prev_hash=sha256(encode(second)).digest(), lift_base=())
    gone = replace(second, halt=role("halt 2"), lift_base=marks_of({ONE: m.SEQ_MAX}))
    back = replace(third, halt=role("halt 1", "halt 2"))
    made["charter 3 with halt 2 back"] = sign(back, "root 1", "root 2")
    made["charter 3 without halt 2"] = sign(third, "root 1", "root 2")
    made["another charter 2"] = sign(gone, "root 1", "root 3")
    made["charter 3 of the other branch"] = sign(
        replace(gone, version=3, prev_hash=sha256(encode(gone)).digest(), lift_base=()),
        "root 1",
        "root 3",
    )
    good = made["halt 1 seq 6"]
    made["halt 1 seq 6, signature bit flipped"] = good[:-1] + bytes((good[-1] ^ 1,))
    return made


TRANSCRIPTS: dict[str, tuple[str, ...]] = {
    "a halt and its resume": ("charter 1", "halt 1 seq 5", "resume of 5 by two"),
    "the resume overtakes the halt": ("charter 1", "resume of 5 by two", "halt 1 seq 5"),
    "a resume misses a newer halt": (
        "charter 1",
        "halt 1 seq 5",
        "halt 1 seq 6",
        "resume of 5 by two",
    ),
    "replays": ("charter 1", "halt 1 seq 6", "halt 1 seq 5", "halt 1 seq 6", "charter 1"),
    "who may not": (
        "charter 1",
        "halt 1 seq 7 signed by a stranger",
        "halt 1 seq 7 for another swarm",
        "halt 1 seq 6, signature bit flipped",
        "halt 1 seq 5",
        "resume of 5 by one",
        "resume of 5 by halt keys",
    ),
    "before the charter": ("halt 1 seq 5", "charter 2 without halt 2", "charter 1", "halt 1 seq 5"),
    "a rotation": (
        "charter 1",
        "halt 1 seq 5",
        "halt 2 seq 1",
        "charter 2 by one root",
        "charter 2 forgetting halt 2",
        "charter 2 without halt 2",
        "halt 2 seq 1",
        "halt 1 seq 6",
        "resume of 6 under charter 1",
        "resume of 6 under charter 2",
    ),
    "a key that was taken out comes back": (
        "charter 1",
        "charter 2 without halt 2",
        "charter 3 with halt 2 back",
        "charter 3 without halt 2",
    ),
    "two branches": (
        "charter 1",
        "charter 2 without halt 2",
        "another charter 2",
        "charter 3 of the other branch",
    ),
}

BEACON_TTL_S = 60
WATCHED = replace(FIRST, beacon_ttl_s=BEACON_TTL_S)
START_MS = WATCHED.issued_ms


def signs_of_life() -> list[tuple[str, float, bytes]]:
    """Name, seconds since the start by either clock, record; in the order in which one node hears
    them."""
    swarm = sha256(encode(WATCHED)).digest()
    live = m.Live(swarm, 1, key_id(public_of("beacon 1")), 1, START_MS, 30, bytes(8))
    at = START_MS + 40_000
    return [
        ("valid", 0.0, sign(live, "beacon 1")),
        ("the same again", 1.0, sign(live, "beacon 1")),
        (
            "a foreign key",
            2.0,
            sign(replace(live, seq=2, key=key_id(public_of("stranger"))), "stranger"),
        ),
        ("the beacon's name, a stranger's signature", 3.0, sign(replace(live, seq=2), "stranger")),
        ("another swarm", 4.0, sign(replace(live, seq=2, swarm=bytes(32)), "beacon 1")),
        (
            "a ttl beyond the charter's",
            40.0,
            sign(replace(live, seq=3, issued_ms=at, ttl_s=3_000), "beacon 1"),
        ),
        ("a seq below the last", 41.0, sign(replace(live, seq=2, issued_ms=at), "beacon 1")),
        (
            "a later charter",
            42.0,
            sign(replace(live, seq=4, charter_version=2, issued_ms=at), "beacon 1"),
        ),
        ("in time by a hair", 190.0, sign(replace(live, seq=5, issued_ms=at), "beacon 1")),
        ("too old", 190.001, sign(replace(live, seq=6, issued_ms=at), "beacon 1")),
    ]


def heard() -> list[dict[str, object]]:
    """What each sign does, and until when the node may serve if nothing more comes."""
    outcome = validate(
        HaltState(sha256(encode(WATCHED)).digest()), sign(WATCHED, "root 1", "root 2"), verify, 1
    )
    assert isinstance(outcome, Applied)
    beacons, steps = Beacons(), []
    for name, at_s, data in signs_of_life():
        found = beacons.hear(
            outcome.state, open_record(data), verify, START_MS + at_s * 1_000, at_s
        )
        until = beacons.next_deadline(WATCHED, at_s)
        steps.append(
            {
                "name": name,
                "at_s": at_s,
                "outcome": "new"
                if found is None
                else "known"
                if isinstance(found, Known)
                else "refused",
                "strike": isinstance(found, Rejected) and found.penalise,
                "serves_until_s": None if until == math.inf else until,
                **described(open_record(data).record),
                "hex": data.hex(),
            }
        )
    return steps


def played(names: tuple[str, ...], made: dict[str, bytes]) -> list[dict[str, object]]:
    """What each record does, one after the other, to a node that knows the swarm's id only."""
    state, steps = HaltState(SWARM), []
    for name in names:
        outcome = validate(state, made[name], verify, 1)
        state = outcome.state if isinstance(outcome, Applied) else state
        word = (
            "applied"
            if isinstance(outcome, Applied)
            else "known"
            if isinstance(outcome, Known)
            else "refused"
        )
        steps.append(
            {
                "record": name,
                "outcome": word,
                "strike": not isinstance(outcome, (Applied, Known)) and outcome.penalise,
                "charter_version": state.version,
                "halts": [mark.hex() for mark in state.vectors.halts],
                "lifts": [mark.hex() for mark in state.vectors.lifts],
                "halted": bool(state.standing),
                "ctl_digest": state.digest.hex(),
            }
        )
    return steps


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def described(message: Any) -> dict[str, object]:
    return {
        "type": type(message).__name__,
        "fields": {f.name: plain(getattr(message, f.name)) for f in fields(message)},
    }


def other_messages(made: dict[str, bytes]) -> list[Any]:
    sign_of_life = m.Live(
        SWARM, 1, key_id(public_of("beacon 1")), 9, 1_790_000_004_000, 30, bytes(8)
    )
    return [
        sign_of_life,
        m.HaltDigest(SWARM, 1, bytes(range(8))),
        m.Vectors(SWARM, 0, bytes(32), (), ()),
        m.Vectors(SWARM, 1, SWARM, marks_of({ONE: 6, TWO: 1}), marks_of({ONE: 5})),
        m.Records((made["charter 1"], made["halt 1 seq 5"])),
        m.Ack(bytes(range(8))),
        m.Halted(bytes(range(8))),
    ]


def invalid(made: dict[str, bytes]) -> dict[str, bytes]:
    """What is no record at all, whatever the charter says."""
    good, two = made["halt 1 seq 5"], open_record(made["resume of 5 by two"])
    head = encode(m.Signed(two.payload, two.signatures))[: -2 * 98]
    one, other = (b"\xc4\x60" + entry for entry in two.signatures)
    order = encode(open_record(good).record)
    return {
        "nothing": b"",
        "cut short": good[:-1],
        "a byte too many": good + b"\0",
        "signatures in falling order": head + other + one,
        "one signature twice": head + one + one,
        "a payload that is no record": encode(m.Signed(encode(m.Ping(1)), two.signatures)),
        "a payload with a field too many": encode(
            m.Signed(b"\x97" + order[1:] + b"\0", two.signatures)
        ),
        "a seq of zero": encode(
            m.Signed(order.replace(ONE + b"\x05", ONE + b"\x00"), two.signatures)
        ),
        "a resume of more than 1,024 bytes": encode(
            m.Signed(
                two.payload, tuple(bytes((i,)) * m.SIGNATURE_BYTES for i in range(m.SIGNERS_MAX))
            )
        ),
        "longer than any record": bytes(m.CHARTER_RECORD_MAX + 1),
    }


def text() -> str:
    """The whole file."""
    made = records()
    content = {
        "what": (
            "The kill switch. `records` are well formed;"
            " `transcripts` say what becomes of a node that takes them in, one after the other,"
            " from a sender at charter 1; `invalid` are no records. Keys come from the seeds."
        ),
        "keys": {
            name: {
                "seed": seed_of(name).hex(),
                "public_key": public_of(name).hex(),
                "key": key_id(public_of(name)).hex(),
            }
            for name in NAMES
        },
        "domains": {kind.__name__: domain.decode() for kind, domain in HALT_DOMAINS.items()},
        "swarm": SWARM.hex(),
        "records": [
            {"name": name, **described(open_record(data).record), "hex": data.hex()}
            for name, data in made.items()
        ],
        "messages": [
            {**described(message), "hex": encode(message).hex()} for message in other_messages(made)
        ],
        "transcripts": [
            {"name": name, "steps": played(names, made)} for name, names in TRANSCRIPTS.items()
        ],
        "beacons": {
            "what": (
                "Signs of life as one node hears them (HALT-25),"
                " `at_s` seconds after `start_ms` by its own clock and by the wall clock."
                " `serves_until_s`: when it stops if nothing more comes; null if no beacon lives."
            ),
            "charter": sign(WATCHED, "root 1", "root 2").hex(),
            "start_ms": START_MS,
            "steps": heard(),
        },
        "invalid": [{"name": name, "hex": data.hex()} for name, data in invalid(made).items()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the kill switch's test vectors.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the file is out of date"
    )
    if parser.parse_args().check:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text():
            return 0
        print(f"{PATH.name} is out of date: run scripts/make_halt_vectors.py", file=sys.stderr)
        return 1
    PATH.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
