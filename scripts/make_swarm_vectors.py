"""Write the vectors of protocols/identity.md: vocabularies, swarms, private charters, DHT keys, and
records that make no sense (CAP-1).

    python scripts/make_swarm_vectors.py            writes protocols/vectors/swarm.json
    python scripts/make_swarm_vectors.py --check    exits 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm import messages as m
from swarmllm.core.halt.charter import private_charter
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of, swarm_hash
from swarmllm.wire.tokenizer import BYTE, CONTROL, ID_KEYS, NORMAL, USER_DEFINED, Tokenizer

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


PLAIN = Tokenizer(
    model="gpt2",
    pre="llama-bpe",
    space_prefix=False,
    trims_spaces=False,
    unknown=None,
    texts=[text.encode() for text, _ in TOKENS],
    kinds=bytes(kind for _, kind in TOKENS),
    scores=b"",
    merges=[b"\xc4\xa0t he", b"a a"],
    charsmap=b"",
    ids=(3, 4, None, None, None, None, None),
    add_bos=True,
    trimming="",
    template="{{ messages[0].content }}",
)
SENTENCE_PIECE = replace(
    PLAIN, model="llama", pre="", space_prefix=True, unknown=0, merges=[], add_bos=None,
    scores=struct.pack("<5f", 0.0, -1.0, -2.5, 0.0, 0.0),
)  # fmt: skip


def vocabulary(name: str, tokenizer: Tokenizer) -> dict[str, object]:
    """A tokenizer in words, its two sections, and the digests of these."""
    fields = asdict(tokenizer)
    words = {
        **fields,
        "texts": [text.decode() for text in tokenizer.texts],
        "kinds": list(tokenizer.kinds),
        "scores": list(struct.unpack(f"<{len(tokenizer.scores) // 4}f", tokenizer.scores)),
        "merges": [merge.decode() for merge in tokenizer.merges],
        "charsmap": tokenizer.charsmap.hex(),
        "ids": dict(zip(ID_KEYS, tokenizer.ids, strict=True)),
    }
    fingerprint, chat_digest = tokenizer.digests()
    return {
        "name": name,
        "tokenizer": words,
        "encoding": tokenizer.encoding().hex(),
        "chat": tokenizer.chat().hex(),
        "fingerprint": fingerprint.hex(),
        "chat_digest": chat_digest.hex(),
    }


def renamed(text: str, kind: int = CONTROL) -> Tokenizer:
    """PLAIN with another fourth token."""
    texts, kinds = [*PLAIN.texts], bytearray(PLAIN.kinds)
    texts[3], kinds[3] = text.encode(), kind
    return replace(PLAIN, texts=texts, kinds=bytes(kinds))


def text() -> str:
    """The whole file."""
    charter = encode(private_charter(PUBLIC))
    swarm = sha256(charter).digest()
    content = {
        "what": (
            "Names and keys that stand for swarms, peers and vocabularies (identity.md),"
            " and capacity records that are well formed and make no sense (CAP-1)."
        ),
        "vocabularies": [
            vocabulary("five tokens and two merges", PLAIN),
            vocabulary("another pre-tokenizer", replace(PLAIN, pre="gpt-2")),
            vocabulary("merges changed about", replace(PLAIN, merges=[*PLAIN.merges[::-1]])),
            vocabulary("a control token renamed: the same tokens", renamed("<|reserved|>")),
            vocabulary("a user-defined token that is text", renamed("\n\n", USER_DEFINED)),
            vocabulary("another template: the same tokens", replace(PLAIN, template="")),
            vocabulary("SentencePiece, with scores", SENTENCE_PIECE),
        ],
        "swarm_tags": [
            {"name": name, "tag": swarm_hash(name).hex()} for name in ("private", "test", "Bücher")
        ],
        "private_charter": {
            "public_key": PUBLIC.hex(),
            "peer": peer_id_of(PUBLIC),
            "charter": charter.hex(),
            "swarm": swarm.hex(),
            "greeting": encode(m.HaltDigest(swarm, 1, m.NO_HALT_DIGEST)).hex(),
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
