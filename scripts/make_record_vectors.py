"""Write the test vectors of what records may hold and which signatures count: names, addresses,
doubtful Ed25519.

    python scripts/make_record_vectors.py            writes names.json and ed25519.json
                                                     in protocols/vectors
    python scripts/make_record_vectors.py --check    exits 1 if one is not up to date

Keys and numbers are fixed, so every run writes the same bytes. The signatures are made and judged
by plain arithmetic (`swarmllm.testing.edwards`), not by a library and not by the code that they are
to test.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from swarmllm.testing.edwards import BASE, ORDER, P, Point, challenge, is_good, torsion

FOLDER = Path(__file__).resolve().parent.parent / "protocols" / "vectors"
# Scalars known to everybody, so good for nothing else.
SECRET, NONCE = 0x5EC4E7 << 200, 0x40CE << 220


def names() -> dict[str, object]:
    return {
        "names": {
            "valid": [
                "m",
                "SmolLM-135M Q8_0",
                "meta-llama/Llama-3.2-1B",
                "a:b",
                "code (Python), v1.0+x@y",
                "7",
            ],
            "invalid": [
                "",
                " a",
                "a ",
                "[/x]",
                "[link=x]y",
                "B\u00fccher",
                "\U0001fae8",
                "a\tb",
                "a\x1b[2J",
                "a\x7f",
                "a\x9b",
                "\u202ea",
            ]
            + [f"a{one}b" for one in "!\"#$%&'*;<=>?[\\]^`{|}~"],
        },
        "addresses": {
            "valid": [
                "/ip4/192.0.2.7/tcp/7339",
                "/ip6/2001:db8::7/tcp/7339",
                "/dns4/some-host.example/tcp/7339",
            ],
            "invalid": [
                "",
                "/",
                "ip4/192.0.2.7",
                "/ip6/fe80::1%eth0/tcp/7339",
                "/dns/b\u00fccher.example/tcp/7339",
                "/ip4/ /tcp/1",
                "/a\n",
            ],
        },
        "clipped to 12": {
            "prose": "prose",
            "B\u00fccher": "B_cher",
            " [/x] ": "_/x_",
            "\u6a21\u578b": "",
            "a name that is long": "a name that",
            "---": "",
        },
    }


def signatures() -> Iterator[dict[str, object]]:
    yield from _plain_keys()
    yield from _points_of_small_order()
    yield from _longer_encodings()


def _plain_keys() -> Iterator[dict[str, object]]:
    plain = BASE.times(SECRET)
    yield case("plain", plain.encoded, b"message", signed(plain, SECRET, b"message"))
    yield case(
        "plain, for another message", plain.encoded, b"other", signed(plain, SECRET, b"message")
    )
    yield case(
        "S not below the order of the group",
        plain.encoded,
        b"message",
        raised(signed(plain, SECRET, b"message"), ORDER),
    )
    yield case(
        "S far above it",
        plain.encoded,
        b"message",
        raised(signed(plain, SECRET, b"message"), 8 * ORDER),
    )


def _points_of_small_order() -> Iterator[dict[str, object]]:
    """Keys and R that are such a point, or the sum of one and a point of the large group."""
    eighth = torsion()
    plain = BASE.times(SECRET)
    mixed = plain + eighth
    for good in (True, False):
        message = next(
            m
            for m in map(_numbered, count())
            if is_good(mixed.encoded, m, signed(mixed, SECRET, m)) == good
        )
        name = (
            "key of mixed order, k divisible by 8"
            if good
            else "key of mixed order, right with the cofactor only"
        )
        yield case(name, mixed.encoded, message, signed(mixed, SECRET, message))
    yield case(
        "R of mixed order, right with the cofactor only",
        plain.encoded,
        b"message",
        signed(plain, SECRET, b"message", eighth),
    )
    yield case(
        "R of small order", plain.encoded, b"message", signed(plain, SECRET, b"message", nonce=0)
    )
    for order in (1, 2, 4, 8):
        small = eighth.times(8 // order)
        message = next(
            m for m in map(_numbered, count()) if is_good(small.encoded, m, signed(small, 0, m))
        )
        yield case(f"key of order {order}", small.encoded, message, signed(small, 0, message))


def _longer_encodings() -> Iterator[dict[str, object]]:
    """Coordinates that are not reduced modulo P."""
    plain = BASE.times(SECRET)
    for name, y in (("1", P + 1), ("-1", P - 1 | 1 << 255), ("0", P)):
        key = y.to_bytes(32, "little")
        message = next(m for m in map(_numbered, count()) if is_good(key, m, _with_key(key, m)))
        yield case(
            f"key of small order in a longer encoding of y = {name}",
            key,
            message,
            _with_key(key, message),
        )
    yield case(
        "key in a longer encoding",
        (P + 3).to_bytes(32, "little"),
        b"message",
        signed(plain, SECRET, b"message"),
    )
    yield case(
        "R in a longer encoding",
        plain.encoded,
        b"message",
        (P + 3).to_bytes(32, "little") + bytes(32),
    )


def case(name: str, public_key: bytes, message: bytes, signature: bytes) -> dict[str, object]:
    a, r, s = (
        int.from_bytes(part, "little") for part in (public_key, signature[:32], signature[32:])
    )
    small = {
        eighth & (2**255 - 1)
        for eighth in (int.from_bytes(torsion().times(n).encoded, "little") for n in range(8))
    }
    sound = s < ORDER and all(
        y < P and y not in small for y in (a & (2**255 - 1), r & (2**255 - 1))
    )
    good = is_good(public_key, message, signature)
    return {
        "name": name,
        "public_key": public_key.hex(),
        "message": message.hex(),
        "signature": signature.hex(),
        "sound": sound,
        "equation": good,
        "equation_times_8": is_good(public_key, message, signature, cofactored=True),
        "valid": sound and good,
    }


def signed(
    key: Point, secret: int, message: bytes, shift: Point | None = None, nonce: int = NONCE
) -> bytes:
    r = BASE.times(nonce) if shift is None else BASE.times(nonce) + shift
    s = (nonce + challenge(r.encoded, key.encoded, message) * secret) % ORDER
    return r.encoded + s.to_bytes(32, "little")


def _with_key(key: bytes, message: bytes) -> bytes:
    """By the nonce alone: right for a key of small order whenever the challenge is a multiple of
    that order."""
    return BASE.times(NONCE).encoded + (NONCE % ORDER).to_bytes(32, "little")


def raised(signature: bytes, by: int) -> bytes:
    return signature[:32] + (int.from_bytes(signature[32:], "little") + by).to_bytes(32, "little")


def _numbered(number: int) -> bytes:
    return f"message {number}".encode()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file differs"
    )
    is_check = parser.parse_args().check
    wrong = []
    for name, content in (
        ("names.json", names()),
        ("ed25519.json", {"signatures": list(signatures())}),
    ):
        path, text = FOLDER / name, json.dumps(content, indent=1, ensure_ascii=True) + "\n"
        if not is_check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(str(path))
    for one in wrong:
        print(f"{one} is not what this script writes; run it again", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
