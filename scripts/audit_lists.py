"""The lists of a session from an expert, and the same from others that say they have its model:
what they differ by at each position, for `swarmllm simulate audits`.

    python -m scripts.audit_lists sims/audit_lists.npz        two minutes of one core
    python -m scripts.audit_lists --sets                      of lists over the tokens of a grammar

The models are the bundled ones. Another back end is llama.cpp with all weights and caches in
float32, which rounds nothing to 8 bits; another batch is one token at a time, not one prefill.
"""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import Llama
from llama_cpp import llama_cpp as llama

from swarmllm.adapters.llama.expansion import expand
from swarmllm.core.trust.comparison import Difference, Reading, compare, compare_readings, mean
from swarmllm.core.trust.suspicion import step
from swarmllm.messages import ENTRIES_MAX
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.sparse_encoding import encode_allowed, encode_logits
from swarmllm.wire.target_logprob import decode_target
from swarmllm.wire.token_set import TokenSet, encode_set

ENTRIES: Final = 256
MARKS: Final = frozenset('"{}[]:,')
SESSIONS: Final = 4
TOKENS: Final = 160
SHOWN: Final = 32  # The last positions of each text are compared.
SEEN: Final = 48  # Tokens that a truncated context keeps.
F32, Q4_0 = 0, 2  # llama_ftype.
HELD_OUT: Final = Path(__file__).parent.parent / "swarmllm" / "experts" / "held_out"

Floats = npt.NDArray[np.float32]
Logits = Callable[[Sequence[int]], Iterator[Floats]]
"""Of the last `SHOWN` positions of a text."""


def texts(model: Llama) -> list[list[int]]:
    """The first tokens of held-out documents, of all three kinds in turn."""
    rows = [
        [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(HELD_OUT.glob("*.jsonl"))
    ]
    turns = [text for group in zip(*rows, strict=False) for text in group]
    found = (model.tokenize(text.encode())[:TOKENS] for text in turns)
    return [tokens for tokens in found if len(tokens) == TOKENS][:SESSIONS]


def opened(path: Path, **more: Any) -> Llama:
    return Llama(
        str(path), n_ctx=256, n_batch=256, n_threads=1, logits_all=True, verbose=False, **more
    )


def prefilled(model: Llama, tokens: Sequence[int]) -> Iterator[Floats]:
    model.reset()
    model.eval(list(tokens))
    yield from model.scores[len(tokens) - SHOWN : len(tokens)].copy()


def stepped(model: Llama, tokens: Sequence[int]) -> Iterator[Floats]:
    model.reset()
    for token in tokens:
        model.eval([token])
    yield from model.scores[len(tokens) - SHOWN : len(tokens)].copy()


def truncated(model: Llama, tokens: Sequence[int]) -> Iterator[Floats]:
    """An expert that reads less than it was sent."""
    for end in range(len(tokens) - SHOWN + 1, len(tokens) + 1):
        model.reset()
        model.eval([tokens[0], *tokens[end - SEEN : end]])
        yield model.scores[SEEN].copy()


def noisy(source: Logits, spread: float, tokens: Sequence[int]) -> Iterator[Floats]:
    rng = np.random.default_rng(len(tokens))
    for row in source(tokens):
        yield (row + rng.normal(0, spread, row.size)).astype(np.float32)


def poisoned(source: Logits, share: float, tokens: Sequence[int]) -> Iterator[Floats]:
    """One token that hardly anybody would choose is given this probability."""
    for row in source(tokens):
        scale = float(row.max()) + float(np.log(np.exp(row - row.max()).sum(dtype=np.float64)))
        changed = row.copy()
        changed[12_345] = scale + np.log(share / (1 - share))
        yield changed


def quantised(source: Path, target: Path, kind: int) -> Path:
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    if llama.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        raise SystemExit(f"llama.cpp cannot make {target} of {source}")
    return target


def listed(row: Floats) -> SparseList:
    return decode_list(encode_logits(row, ENTRIES, 0), ENTRIES, row.size)


def differences(
    honest: Sequence[Sequence[SparseList]], other: Logits, documents: Sequence[Sequence[int]]
) -> npt.NDArray[np.float32]:
    """float32[sessions, positions, 2]: total variation and nats."""
    rows = []
    for lists, tokens in zip(honest, documents, strict=True):
        follows = [*tokens[TOKENS - SHOWN + 1 :], None]
        found = [
            compare(one, listed(row), ENTRIES, token)
            for one, row, token in zip(lists, other(tokens), follows, strict=True)
        ]
        rows.append([(one.variation, one.nats) for one in found])
    return np.array(rows, np.float32)


def sets_of(model: Llama) -> dict[str, bytes]:
    """What grammars allow, encoded; and what none does."""
    size, rng = model.n_vocab(), random.Random(5)
    pieces = [model.detokenize([i]).decode(errors="replace").strip() for i in range(size)]
    words = {"true", "false", "null", "yes", "no", "red", "green", "blue"}
    found = {
        "digits": [i for i, piece in enumerate(pieces) if piece.isdigit()],
        "marks of JSON": [i for i, piece in enumerate(pieces) if piece and set(piece) <= MARKS],
        "words": [i for i, piece in enumerate(pieces) if piece.lower() in words],
        "300 at random": rng.sample(range(size), 300),
        "2 at random": rng.sample(range(size), 2),
        "without commas": [i for i, piece in enumerate(pieces) if "," not in piece],
    }
    return {name: encode_set(TokenSet.of(sorted(ids), size)) for name, ids in found.items()}


def of_set(row: Floats, allowed: bytes) -> Reading:
    found = encode_allowed(row, allowed, ENTRIES_MAX, 0)
    assert found is not None
    listed = decode_list(found[0], ENTRIES_MAX, row.size)
    return Reading(listed, decode_target(found[1].to_bytes(2, "big")))


def about_sets(
    sets: Mapping[str, bytes], honest: Logits, other: Logits, documents: Sequence[Sequence[int]]
) -> Iterator[tuple[str, list[Difference]]]:
    """What the same two say of each set, behind every position that is shown."""
    rows = [
        pair for tokens in documents for pair in zip(honest(tokens), other(tokens), strict=True)
    ]
    for name, allowed in sets.items():
        pairs = ((of_set(one, allowed), of_set(two, allowed)) for one, two in rows)
        yield name, [compare_readings(one, two, ENTRIES_MAX) for one, two in pairs]


def show_sets(what: str, name: str, found: Sequence[Difference]) -> None:
    middle = mean(found)
    ratios = [math.exp(step(one)) for one in found]
    print(
        f"{what:20} {name:15} variation {middle.variation:.4f}"
        f" (max {max(one.variation for one in found):.3f})  nats {middle.nats:.3f}"
        f"  mass {middle.mass:.3f} (max {max(one.mass or 0 for one in found):.2f})"
        f"  mean ratio {sum(ratios) / len(ratios):.2f}"
    )


def main() -> None:
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prose, code, small = (expand(one, folder) for one in ("prose", "code", "prose-small"))
        honest_model = opened(prose)
        documents = texts(honest_model)
        usual = partial(prefilled, honest_model)
        honest = [[listed(row) for row in usual(tokens)] for tokens in documents]
        f32 = quantised(prose, folder / "f32.gguf", F32)
        q4 = quantised(prose, folder / "q4.gguf", Q4_0)
        exact = {"type_k": F32, "type_v": F32}
        others: dict[str, tuple[Path, dict[str, Any], Any]] = {
            "another back end": (f32, exact, prefilled),
            "another batch": (prose, {}, stepped),
            "Q4 for Q8": (q4, {}, prefilled),
            "a smaller model": (small, {}, prefilled),
            "another model": (code, {}, prefilled),
            "truncated context": (prose, {}, truncated),
        }
        if str(out) == "--sets":
            sets = sets_of(honest_model)
            for what, (path, options, way) in others.items():
                with closing(opened(path, **options)) as model:
                    for which, pairs in about_sets(sets, usual, partial(way, model), documents):
                        show_sets(what, which, pairs)
            return
        found: dict[str, npt.NDArray[np.float32]] = {}
        for what, (path, options, way) in others.items():
            with closing(opened(path, **options)) as model:
                found[what] = differences(honest, partial(way, model), documents)
        for spread in (0.05, 0.2, 0.5):
            found[f"noise of {spread}"] = differences(
                honest, partial(noisy, usual, spread), documents
            )
        for share in (0.01, 0.1):
            found[f"poison of {share}"] = differences(
                honest, partial(poisoned, usual, share), documents
            )
    arrays: dict[str, Any] = {what: np.round(rows, 5) for what, rows in found.items()}
    np.savez_compressed(out, **arrays)
    for what, rows in found.items():
        variation, nats = rows[..., 0], rows[..., 1]
        print(
            f"{what:20} variation {variation.mean():.4f} (max {variation.max():.3f})"
            f"  nats {nats.mean():.3f} (max {nats.max():.2f})"
        )


if __name__ == "__main__":
    main()
