"""A megabyte of mixed text, the same at each run: prose, code, CJK and other scripts, emoji,
control characters, long runs, and control tokens spelled right and wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

PROSE: Final = (
    "It was the best of times, it was the worst of times; we'd all said so, hadn't we? "
    "Mr. O'Neill's dog -- a huge, shaggy thing -- DIDN'T bark at 10:45 p.m. on the 3rd... \n\n"
    "„Ein schöner Gruß“, sagte er. L’été, c’est à 35 °C. Ωραία μέρα! Сегодня, 12.345,67 ₽.\r\n"
)
CODE: Final = (
    "def f(xs: list[int], *, k=10_000) -> int:\n    return sum(x**2 for x in xs if x % 3 != 0)\n\n"
    "\tfor (int i = 0; i < 0xFF; ++i) { a[i] += b[i] << 2; } // TODO(me)\r\n"
    '{"id": 123456789, "url": "https://example.org/?q=a+b&c=%20", "x": [1.5e-9, null, true]}\n'
)
SCRIPTS: Final = (
    "我想在apple工作1314151天～ 東京タワーは高いです。 서울은 좋아요! สวัสดีครับ नमस्ते दुनिया "
    "مرحبا بالعالم שלום עולם ქართული አማርኛ Tiếng Việt កាន់តែពិសេស "
)
EMOJI: Final = "🦙🚀😶‍🌫️👩‍👩‍👧‍👦🇩🇪🏴‍☠️✅❤️‍🔥1️⃣ ☃ ✈︎ "
CONTROLS: Final = "".join(map(chr, range(32))) + "\x7f\x80\x85\xa0\u200b\u200e\u2028\u2029\ufeff�"


def spellings(special: Sequence[str]) -> list[str]:
    """Control tokens as they are spelled, and nearly so."""
    return [
        wrong
        for name in special
        for wrong in (
            name,
            name[:-1],
            name[1:],
            name.upper(),
            f" {name}",
            f"{name}{name}",
            name[:3],
        )
    ]


def mixed_text(special: Sequence[str], size_bytes: int = 1 << 20, seed: int = 1) -> str:
    """At least so many bytes of UTF-8."""
    rng = random.Random(seed)
    kinds = (PROSE, CODE, SCRIPTS, EMOJI, CONTROLS)
    parts, size = list[str](), 0
    while size < size_bytes:
        match rng.randrange(8):
            case 0 | 1 | 2 | 3 | 4 as kind:
                text = kinds[kind]
                start = rng.randrange(len(text))
                part = text[start : start + rng.randrange(1, 120)]
            case 5:
                part = rng.choice(" \n\t\r=-_.a0漢") * rng.randrange(1, 40)
            case 6:
                part = "".join(_character(rng) for _ in range(rng.randrange(1, 20)))
            case _:
                part = rng.choice(spellings(special))
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


def _character(rng: random.Random) -> str:
    """From anywhere that Unicode has assigned for long, half surrogates left out."""
    low, high = rng.choice([(0x20, 0x250), (0x370, 0x600), (0x900, 0xE00), (0x3040, 0xA000)])
    return chr(rng.randrange(low, high))
