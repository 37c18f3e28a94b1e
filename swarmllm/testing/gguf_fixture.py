"""Small LLaMA models with random weights, written as GGUF files: real enough for llama.cpp, small
enough for a test.

Everything is drawn from a seed, so that two files written from one shape are equal byte for byte
(replicas), and the weights are scaled so that attention looks at the context and logits spread over
several nats: a test that compares answers then compares different numbers, not noise around one
value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.gguf_tokenizer import metadata_of
from swarmllm.wire.tokenizer import Tokenizer

NORMAL: Final = 1
CONTROL: Final = 3
# Standard deviation of a logit, in nats: about that of a trained model's.
LOGIT_SPREAD: Final = 4.0
QUANTISATIONS: Final = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}


Tensor = tuple[str, int, int, float]


@dataclass(frozen=True, slots=True)
class FixtureVocabulary:
    """`tokens` are (text in GPT-2's byte alphabet, GGUF token type), by id; `merges` are "left
    right"."""

    tokens: tuple[tuple[str, int], ...]
    merges: tuple[str, ...]
    pre: str
    bos: int
    eos: int
    chat_template: str = ""


@dataclass(frozen=True, slots=True)
class FixtureShape:
    """`dim` must be divisible by 32 x `heads`, and `heads` by `kv_heads`; `ffn` by 32 (whole
    quantisation blocks)."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    kv_heads: int = 1
    ffn: int = 128
    context: int = 4096
    kind: str = "f32"
    seed: int = 1
    architecture: str = "llama"  # Others that are laid out here: qwen2, gemma, phi3.


SMALL: Final = FixtureShape()
LARGER: Final = FixtureShape(dim=128, layers=3, heads=4, kv_heads=2, ffn=256, seed=2)
WIDE: Final = FixtureShape(dim=256, layers=5, heads=4, kv_heads=2, ffn=768, kind="q8_0", seed=3)
"""The shape of a demo expert, for measurements over the full 128,256 tokens."""


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(moved)) for b in range(256)]


def small_vocabulary(size: int = 512, seed: int = 0) -> FixtureVocabulary:
    """All bytes, `size` - 272 seeded merges of two of them, and 16 special tokens at the end."""
    alphabet = byte_alphabet()
    n_merges = size - 256 - 16
    assert 0 < n_merges < 10_000, f"a small vocabulary of {size} tokens"
    rng = np.random.default_rng(seed)
    letters = [
        alphabet[b]
        for b in (
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
            b" .,;:!?-_()[]{}<>=+*/&%$#@~^|'\""
        )
    ]
    pairs = [(a, b) for a in letters for b in letters]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:n_merges]]
    ordinary = [*alphabet, *(a + b for a, b in chosen)]
    special = [f"<|fixture_special_{i}|>" for i in range(16)]
    tokens = tuple([(t, NORMAL) for t in ordinary] + [(t, CONTROL) for t in special])
    return FixtureVocabulary(
        tokens, tuple(f"{a} {b}" for a, b in chosen), "llama-bpe", len(ordinary), len(ordinary) + 1
    )


def wide_vocabulary(size: int = 128_256) -> FixtureVocabulary:
    """As many ids as LLaMA-3 has, with made-up texts: for measurements that only need the width."""
    base = small_vocabulary(512)
    ordinary = [*base.tokens[:496], *((f"token{i}", NORMAL) for i in range(size - 512))]
    return FixtureVocabulary(
        (*ordinary, *base.tokens[496:]), base.merges, base.pre, size - 16, size - 15
    )


NO_ADVICE: Final[Mapping[str, float]] = {}


def write_model(
    path: Path,
    shape: FixtureShape = SMALL,
    vocabulary: FixtureVocabulary | Tokenizer | None = None,
    name: str = "fixture",
    *,
    part_tensors: int = 0,
    sampling: Mapping[str, float] = NO_ADVICE,
) -> Path:
    """Write one GGUF file and return its path. The same arguments give the same bytes. `sampling`:
    what it says under `general.sampling`.

    With `part_tensors` the model is split into files of so many tensors, PATH-00001-of-0000N.gguf,
    and the first one's path is returned.
    """
    words = vocabulary or small_vocabulary()
    writer = gguf.GGUFWriter(str(path), shape.architecture, split_max_tensors=part_tensors)
    _write_header(writer, shape, words, name)
    for key, value in sampling.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_int32
        add(f"general.sampling.{key}", value)
    rng = np.random.default_rng(shape.seed)
    for tensor, rows, columns, scale in _tensors(shape, _size(words)):
        if rows == 0:
            weights = scale * rng.standard_normal(columns, dtype=np.float32)
            writer.add_tensor(tensor, weights + np.float32(not tensor.endswith(".bias")))
        else:
            weights = rng.standard_normal((rows, columns), dtype=np.float32)
            weights *= scale
            _add_matrix(writer, tensor, weights, shape.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not part_tensors else min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))


def _write_header(
    writer: gguf.GGUFWriter, shape: FixtureShape, words: FixtureVocabulary | Tokenizer, name: str
) -> None:
    assert shape.dim % (32 * shape.heads) == 0, f"dim {shape.dim} for {shape.heads} heads"
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.dim // shape.heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(_size(words))
    if isinstance(words, Tokenizer):
        _write_tokenizer(writer, words)
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list([text for text, _ in words.tokens])
    writer.add_token_types([kind for _, kind in words.tokens])
    writer.add_token_merges(list(words.merges))
    writer.add_bos_token_id(words.bos)
    writer.add_eos_token_id(words.eos)
    if words.chat_template:
        writer.add_chat_template(words.chat_template)


def _size(words: FixtureVocabulary | Tokenizer) -> int:
    return len(words.texts if isinstance(words, Tokenizer) else words.tokens)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    for key, value in metadata_of(tokenizer):
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
            case _:
                raise AssertionError(f"{key} of a made tokenizer is {type(value).__name__}")


def _tensors(shape: FixtureShape, vocab_size: int) -> Sequence[Tensor]:
    """(name, rows, columns, scale) of each tensor; rows 0 is a vector: of a norm, around 1, or of
    biases, around 0."""
    dim, ffn = shape.dim, shape.ffn
    unit = dim**-0.5
    is_tied = shape.architecture == "gemma"  # Its output is its embedding.
    spread = LOGIT_SPREAD * unit
    found: list[Tensor] = [("token_embd.weight", vocab_size, dim, spread if is_tied else 1.0)]
    for i in range(shape.layers):
        found += [
            (f"blk.{i}.attn_norm.weight", 0, dim, 0.1),
            *_in_block(i, _attention(shape)),
            (f"blk.{i}.attn_output.weight", dim, dim, 2 * unit),
            (f"blk.{i}.ffn_norm.weight", 0, dim, 0.1),
            *_in_block(i, _gate_and_up(shape)),
            (f"blk.{i}.ffn_down.weight", dim, ffn, 2 * ffn**-0.5),
        ]
    found.append(("output_norm.weight", 0, dim, 0.1))
    if not is_tied:
        found.append(("output.weight", vocab_size, dim, spread))
    return found


def _in_block(block: int, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return [(f"blk.{block}.{name}", rows, columns, scale) for name, rows, columns, scale in tensors]


def _attention(shape: FixtureShape) -> Sequence[Tensor]:
    """Queries, keys and values: one tensor (Phi-3), with biases (Qwen2), or plain."""
    dim, unit = shape.dim, shape.dim**-0.5
    kv = dim * shape.kv_heads // shape.heads
    if shape.architecture == "phi3":
        return [("attn_qkv.weight", dim + 2 * kv, dim, 1.5 * unit)]
    plain = [
        ("attn_q.weight", dim, dim, 1.5 * unit),
        ("attn_k.weight", kv, dim, 1.5 * unit),
        ("attn_v.weight", kv, dim, unit),
    ]
    if shape.architecture != "qwen2":
        return plain
    return [
        *plain,
        *((f"attn_{name}.bias", 0, n, 0.1) for name, n in zip("qkv", (dim, kv, kv), strict=True)),
    ]


def _gate_and_up(shape: FixtureShape) -> Sequence[Tensor]:
    dim, ffn, unit = shape.dim, shape.ffn, shape.dim**-0.5
    if shape.architecture == "phi3":  # One tensor.
        return [("ffn_up.weight", 2 * ffn, dim, unit)]
    return [("ffn_gate.weight", ffn, dim, unit), ("ffn_up.weight", ffn, dim, unit)]


def _add_matrix(
    writer: gguf.GGUFWriter, name: str, weights: NDArray[np.float32], kind: str
) -> None:
    quantisation = QUANTISATIONS[kind]
    if kind == "f32":
        writer.add_tensor(name, weights)
    elif kind == "f16":
        writer.add_tensor(name, weights.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(weights, quantisation), raw_dtype=quantisation)
