"""Write the vectors of protocols/membership.md: passes that are good for a member at a moment, and
passes that are not.

    python -m scripts.make_membership_vectors            writes protocols/vectors/membership.json
    python -m scripts.make_membership_vectors --check    exits 1 if it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.invite_samples import ENDS_MS, MADE_MS, SWARM
from scripts.vector_file import write_or_check
from swarmllm.messages.declare import domain_of
from swarmllm.messages.invite import Invite
from swarmllm.messages.membership import Membership
from swarmllm.testing.operators import Operator
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "membership.json"
ROOT, ANN, BEN, EVE = (Operator(f"membership {who}") for who in ("root", "ann", "ben", "eve"))
NOW_MS = MADE_MS + 1_000


def member(
    who: Operator, *signers: Operator, may: int = 0, swarm: bytes = SWARM, ends_ms: int = ENDS_MS
) -> bytes:
    record = Membership(swarm, who.public_key, may, MADE_MS, ends_ms)
    return sign_record(record, [(one.public_key, one.sign) for one in signers])


def case(name: str, own: bytes, between: bytes = b"") -> dict[str, str]:
    return {"name": name, "membership": own.hex(), "delegation": between.hex()}


def vectors() -> dict[str, Any]:
    ann, good = member(ANN, ROOT, may=1), member(BEN, ROOT)
    domain, other = domain_of(Membership), domain_of(Invite)
    foreign = sign_record(
        Membership(SWARM, BEN.public_key, 0, MADE_MS, ENDS_MS),
        [(ROOT.public_key, lambda said: ROOT.sign(other + said.removeprefix(domain)))],
    )
    return {
        "what": "Passes of one member under a charter with one root key, at one moment.",
        "domain": domain.decode(),
        "swarm": SWARM.hex(),
        "root": ROOT.public_key.hex(),
        "member": BEN.public_key.hex(),
        "unix_ms": NOW_MS,
        "payload": encode(Membership(SWARM, BEN.public_key, 0, MADE_MS, ENDS_MS)).hex(),
        "valid": [
            case("by a root key", good),
            case("by whom a root key allowed to", member(BEN, ANN), ann),
        ],
        "invalid": [
            case("another peer's", member(EVE, ROOT)),
            case("of another swarm", member(BEN, ROOT, swarm=bytes(32))),
            case("run out", member(BEN, ROOT, ends_ms=NOW_MS)),
            case("by nobody who may", member(BEN, EVE)),
            case("signed for another domain", foreign),
            case("by a member who may let nobody in", member(BEN, ANN), member(ANN, ROOT)),
            case("by somebody else than who may", member(BEN, EVE), ann),
            case("by whom nobody allowed to", member(BEN, ANN), member(ANN, EVE, may=1)),
            case(
                "by whose own has run out",
                member(BEN, ANN),
                member(ANN, ROOT, may=1, ends_ms=NOW_MS),
            ),
            case("bytes behind its end", good + b"\0"),
            case("a signature changed", good[:-1] + bytes((good[-1] ^ 1,))),
        ],
    }


if __name__ == "__main__":
    sys.exit(write_or_check(PATH, vectors(), __doc__))
