"""Write the held-out documents that `swarmllm eval` reads: text of the three domains that no
bundled expert was trained on.

    python scripts/make_held_out.py --prose BOOKS [--out FOLDER]

They are pieces of about 3,000 characters of the readers' validation text (demo_corpus.py), cut at
the ends of paragraphs or lines, and spread over all books, files and simulated swarms there are.
The prose comes from whole books that nothing is trained on (HELD_OUT_BOOKS).
Without `--prose` the prose is left as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

if not __package__:  # Started as a file: only its own folder is on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.demo_corpus import read_code, read_prose
from scripts.demo_ops import documents, is_validation
from swarmllm.adapters.llama.demo import bundled_folder

PIECES = 32  # Documents of a domain ...
PIECE_CHARS = 3000  # ... of so many characters at most, some 650 tokens.
PIECE_CHARS_MIN = 2000  # What is left of a text gives no piece if it is shorter than this.


def pieces(text: str) -> list[str]:
    """`text` in consecutive pieces: each ends at the last empty line in its second half, else at
    its last line end, else wherever it must."""
    found = []
    while len(text) >= PIECE_CHARS_MIN:
        cut = len(text)
        if cut > PIECE_CHARS:
            cut = text.rfind("\n\n", PIECE_CHARS // 2, PIECE_CHARS)
            cut = cut if cut > 0 else text.rfind("\n", PIECE_CHARS // 2, PIECE_CHARS)
            cut = cut if cut > 0 else text.rfind(" ", 0, PIECE_CHARS)
            cut = cut if cut > 0 else PIECE_CHARS
        if len(text[:cut].strip("\n")) >= PIECE_CHARS_MIN // 2:
            found.append(text[:cut].strip("\n"))
        text = text[cut:].lstrip("\n")
    return found


def spread(texts: Iterable[tuple[str, str]], count: int = PIECES) -> list[tuple[str, str]]:
    """`count` (id, piece) of (name, text) pairs: of as many texts as there are, evenly chosen, and
    of each its beginning, its second or its third piece in turn. Where there are too few texts for
    that, several pieces of each, evenly chosen."""
    found = [(name, cut) for name, text in texts if (cut := pieces(text))]
    if len(found) > count:
        found = [found[i * len(found) // count] for i in range(count)]
    each = -(-count // max(1, len(found)))
    turns = [
        [(f"{name}#{n}", cut[n]) for n in _turn(i, len(cut), each)]
        for i, (name, cut) in enumerate(found)
    ]
    rounds = [
        [turn[n] for turn in turns if n < len(turn)] for n in range(max(map(len, turns), default=0))
    ]
    chosen: list[tuple[str, str]] = []
    for one in rounds:
        room = count - len(chosen)
        chosen += one if len(one) <= room else [one[i * len(one) // room] for i in range(room)]
    return sorted(chosen)


def _turn(place: int, length: int, wanted: int) -> list[int]:
    """All numbers below `length`: at first `wanted` ones that are evenly spread, or if one is
    wanted, another one for each of three neighbours."""
    if wanted == 1:
        first = place % min(3, length)
        return [*range(first, length), *range(first)]
    spaced = [(2 * n + 1) * length // (2 * wanted) for n in range(wanted)]
    return [*dict.fromkeys([*spaced, *range(length)])]


def ops_texts() -> list[tuple[str, str]]:
    """(world, everything that is told of it) of the validation worlds."""
    found: dict[int, list[str]] = {}
    for document in documents(only=is_validation):
        found.setdefault(document.world, []).append(document.text)
    return [(f"world-{world}", "\n\n".join(texts)) for world, texts in found.items()]


def write(folder: Path, domain: str, texts: Iterable[tuple[str, str]]) -> Path:
    found = spread(texts)
    if len(found) < PIECES:
        raise SystemExit(
            f"make_held_out: only {len(found)} pieces of {domain} where {PIECES} are wanted:"
            " name a folder with more text"
        )
    path = folder / f"{domain}.jsonl"
    lines = [
        json.dumps({"id": f"{domain}/{name}", "text": text}, ensure_ascii=False) + "\n"
        for name, text in found
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prose", type=Path, help="folder of books as .txt files")
    parser.add_argument("--out", type=Path, default=bundled_folder() / "held_out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.prose:
        print(write(args.out, "prose", ((s.name, s.valid) for s in read_prose(args.prose))))
    print(write(args.out, "code", ((s.name, s.valid) for s in read_code(args.out))))
    print(write(args.out, "ops", ops_texts()))


if __name__ == "__main__":
    main()
