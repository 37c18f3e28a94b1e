"""Write the vectors of protocols/identity.md: vocabularies, swarms, private charters, DHT keys, and
records that make no sense (CAP-1).

python scripts/make_swarm_vectors.py            writes protocols/vectors/swarm.json
python scripts/make_swarm_vectors.py --check    exits 1 if the file there differs from what would be written
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm import messages as m
from swarmllm.adapters.llama.fingerprint import BYTE, CONTROL, NORMAL, USER_DEFINED, fingerprint
from swarmllm.core.halt.charter import private_charter
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of, swarm_hash

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "swarm.json"
PUBLIC = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
TOKENS = (
    ("a", NORMAL),
    ("Ġthe", NORMAL),
    ("<0x0A>", BYTE),
    ("<|begin_of_text|>", CONTROL),
    ("<|pad|>", USER_DEFINED),
)
SENSIBLE = m.CapacityRecord(1, 1, "prose", bytes(32), bytes(32), 1, 1, 0, 0, 2, 2, (), (), bytes(8))


def vocabulary(name: str, pre: str, tokens: tuple[tuple[str, int], ...]) -> dict[str, object]:
    found = fingerprint([(text.encode(), kind) for text, kind in tokens], pre)
    return {
        "name": name,
        "pre": pre,
        "tokens": [list(token) for token in tokens],
        "fingerprint": found.hex(),
    }


def text() -> str:
    """The whole file."""
    charter = encode(private_charter(PUBLIC))
    swarm = sha256(charter).digest()
    content = {
        "what": "Names and keys that stand for swarms, peers and vocabularies (identity.md), and capacity records that are well formed and"
        " make no sense (CAP-1).",
        "vocabularies": [
            vocabulary("five tokens", "llama-bpe", TOKENS),
            vocabulary("another pre-tokenizer", "gpt-2", TOKENS),
            vocabulary(
                "a control token renamed: the same",
                "llama-bpe",
                (*TOKENS[:3], ("<|reserved|>", CONTROL), TOKENS[4]),
            ),
            vocabulary(
                "two tokens changed about", "llama-bpe", (TOKENS[1], TOKENS[0], *TOKENS[2:])
            ),
            vocabulary("none", "", ()),
        ],
        "swarm_tags": [
            {"name": name, "tag": swarm_hash(name).hex()} for name in ("private", "test", "Bücher")
        ],
        "private_charter": {
            "public_key": PUBLIC.hex(),
            "peer": peer_id_of(PUBLIC),
            "charter": charter.hex(),
            "swarm": swarm.hex(),
            "greeting": encode(m.HaltDigest(swarm, 1, m.NO_CONTROL)).hex(),
        },
        "dht": {
            "value_key": f"/swarmllm/{peer_id_of(PUBLIC)}".encode().hex(),
            "protocol": "/swarmllm/private/kad/2",
        },
        "senseless_records": [
            {
                "name": "more sessions free than there are",
                "hex": encode(replace(SENSIBLE, sessions_free=3)).hex(),
            },
            {
                "name": "a context of no tokens",
                "hex": encode(replace(SENSIBLE, context_max=0)).hex(),
            },
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write or check the test vectors of names and keys."
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the file is out of date"
    )
    if parser.parse_args().check:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text():
            return 0
        print(f"{PATH.name} is out of date: run scripts/make_swarm_vectors.py", file=sys.stderr)
        return 1
    PATH.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
