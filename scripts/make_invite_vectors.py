"""Write the vectors of protocols/invite.md: lines that are invites, with what they say, and lines
that are none.

    python -m scripts.make_invite_vectors            writes protocols/vectors/invite.json
    python -m scripts.make_invite_vectors --check    exits 1 if it is not up to date
"""

from __future__ import annotations

import base64
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.invite_samples import ENDS_MS, INVITE, MADE_MS, VALID
from scripts.vector_file import write_or_check
from swarmllm.messages import Live, Ping, Signed
from swarmllm.messages.declare import domain_of
from swarmllm.messages.invite import INVITE_LIFE_MAX_MS, Invite
from swarmllm.testing.operators import Operator
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.invite import LINE_MAX, SCHEME, write_line
from swarmllm.wire.signed import sign_record

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "invite.json"
WE, OTHER = Operator("invite vectors"), Operator("another inviter")


def line_of(data: bytes) -> str:
    return SCHEME + base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(payload: bytes, domain: bytes, who: Operator = WE) -> bytes:
    return encode(Signed(payload, (who.public_key + who.sign(domain + payload),)))


def broken() -> dict[str, str]:
    good = write_line(INVITE, WE.public_key, WE.sign)
    domain, payload = domain_of(Invite), encode(INVITE)
    two = sign_record(INVITE, [(one.public_key, one.sign) for one in (WE, OTHER)])
    name = payload.replace(b"friends", b"Friends")
    addr = payload.replace(b"/ip4/203.0.113.7/", b"/ip4/203.0.113.7'")
    late = payload.replace(
        ENDS_MS.to_bytes(8, "big"), (MADE_MS + INVITE_LIFE_MAX_MS + 1).to_bytes(8, "big")
    )
    never = payload.replace(ENDS_MS.to_bytes(8, "big"), MADE_MS.to_bytes(8, "big"))
    forked = payload.replace(INVITE.swarm, bytes(32), 1)
    return {
        "nothing": "",
        "no scheme": good.removeprefix(SCHEME),
        "another scheme": good.replace(SCHEME, "swarmllm2:"),
        "in capitals": SCHEME.upper() + good.removeprefix(SCHEME),
        "cut short": good[:-20],
        "one letter changed": good[:60] + ("A" if good[60] != "A" else "B") + good[61:],
        "a space within": good[:60] + " " + good[60:],
        "padded": good + "=",
        "the other alphabet of base64": good[:60] + "+" + good[61:],
        "more bits than bytes": good + "A",
        "too long": good + "A" * (LINE_MAX + 1 - len(good)),
        "signed by two": line_of(two),
        "signed without a domain": line_of(signed(payload, b"")),
        "signed for another domain": line_of(signed(payload, domain_of(Live))),
        "no invite": line_of(signed(encode(Ping(1)), domain)),
        "bytes behind its end": line_of(signed(payload, domain) + b"\0"),
        "a name that no swarm has": line_of(signed(name, domain)),
        "an address that nothing has": line_of(signed(addr, domain)),
        "good for more than a year": line_of(signed(late, domain)),
        "ends when it was made": line_of(signed(never, domain)),
        "a first charter with another hash than the swarm": line_of(signed(forked, domain)),
    }


def vectors() -> dict[str, Any]:
    return {
        "what": "Invites, all signed by one key, and what is none.",
        "public_key": WE.public_key.hex(),
        "peer": peer_id_of(WE.public_key),
        "domain": domain_of(Invite).decode(),
        "line_max": LINE_MAX,
        "valid": [
            {
                "name": name,
                "fields": {
                    key: value.hex() if isinstance(value, bytes) else value
                    for key, value in asdict(invite).items()
                },
                "payload": encode(invite).hex(),
                "line": write_line(invite, WE.public_key, WE.sign),
            }
            for name, invite in VALID.items()
        ],
        "invalid": [{"name": name, "line": line} for name, line in broken().items()],
    }


if __name__ == "__main__":
    sys.exit(write_or_check(PATH, vectors(), __doc__))
