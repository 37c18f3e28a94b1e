"""What a model file says of itself, read before llama.cpp sees it, and only ever inside the worker
process.

A GGUF file comes from a stranger. Reading it here first gives one clear sentence for each thing
that can be wrong with it, where llama.cpp would give a line in its log; reading it in the worker
means that a file which breaks the reader breaks nothing else.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.gguf_format import Header, Tensor, Value, read_header
from swarmllm.adapters.llama.gguf_parts import SPLIT_KEYS, digest_of, place_of, siblings
from swarmllm.adapters.llama.gguf_tokenizer import TOKENIZER_KEYS, tokenizer_in
from swarmllm.adapters.llama.model_name import KEYS as NAME_KEYS
from swarmllm.adapters.llama.model_name import short_name
from swarmllm.errors import LocalError
from swarmllm.messages import CONTEXT_MAX

# GGUF's name for LLaMA 1 to 3.3, their fine-tunes, and models of the same layout.
MEASURED: Final = "llama"

# Bytes and weights per block of each tensor type (ggml.h, ggml-common.h); only for the check that
# the file is whole.
BLOCKS: Final = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32),
    9: (36, 32), 10: (84, 256), 11: (110, 256), 12: (144, 256), 13: (176, 256), 14: (210, 256),
    15: (292, 256), 16: (66, 256), 17: (74, 256), 18: (98, 256), 19: (50, 256), 20: (18, 32),
    21: (110, 256), 22: (82, 256), 23: (136, 256), 24: (1, 1), 25: (2, 1), 26: (4, 1), 27: (8, 1),
    28: (8, 1), 29: (56, 256), 30: (2, 1), 34: (54, 256), 35: (66, 256), 39: (17, 32), 40: (36, 64),
    41: (18, 128),
}  # fmt: skip

ROW_EXACT: Final = frozenset({2, 3, 6, 7, 8, *range(10, 15), 16, 17, 18, 19, 21, 22, 23, 29})
"""Types whose products with one row and with many are equal bit for bit on x86-64: Q4_0, Q4_1,
Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K as measured (see `llama_api`), the I quants because llama.cpp's
source gives them the same one kernel. All others are given company, at twice the time of a step."""

NOT_MODELS: Final = {
    "adapter": (
        "a LoRA adapter, which changes a model and is none itself:"
        " merge it into its base model with llama-export-lora"
    ),
    "clip": (
        "the part of a model that sees or hears (mmproj):"
        " choose the file of the language model itself"
    ),
    "mmproj": (
        "the part of a model that sees or hears (mmproj):"
        " choose the file of the language model itself"
    ),
    "controlvector": (
        "a control vector, which changes a model and is none itself: choose the model's own file"
    ),
    "imatrix": "statistics for quantising a model: choose the model's own file",
    "vocab": "a vocabulary without a model: choose the model's own file",
}
"""What else GGUF files hold, by `general.type` or `general.architecture`."""

ENCODERS: Final = ("bert", "t5encoder", "wavtokenizer")
RECURRENT: Final = ("mamba", "rwkv", "arwkv")
"""Parts of names of architectures; those that are missing here llama.cpp itself tells when the
model is loaded."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`parts` are all its files, first part first. `kv_values` is how many numbers one token adds
    to the K cache (and as many to V). `row_exact`: see `ROW_EXACT`. `measured`: answers of models
    of this layout were found to be the same, bit for bit, however they are computed; of others
    nobody knows. `size_bytes` and `n_params` are sums over all parts."""

    name: str
    vocab_size: int
    vocab_fingerprint: bytes
    chat_digest: bytes
    has_chat_template: bool
    context_trained: int
    layers: int
    kv_values: int
    size_bytes: int
    row_exact: bool
    n_params: int
    parts: tuple[Path, ...]
    measured: bool


class _Wanted(Container[str]):
    """The keys that matter, whatever the architecture is called that some of them begin with."""

    def __contains__(self, key: object) -> bool:
        return key in _KEYS or (isinstance(key, str) and key.partition(".")[2] in _SHAPE_KEYS)


_KEYS: Final = (
    SPLIT_KEYS | TOKENIZER_KEYS | NAME_KEYS | {f"general.{key}" for key in ("architecture", "type")}
)
_SHAPE_KEYS: Final = frozenset(
    {"context_length", "block_count", "embedding_length", "expert_count", "attention.causal"}
    | {f"attention.{key}" for key in ("head_count", "head_count_kv", "key_length", "value_length")}
)


def read_model_file(path: Path) -> ModelFile:
    """LocalError for a file that is missing, damaged, cut off, no GGUF, or holds no model that
    continues text token by token."""
    first = read_header(path, _Wanted())
    count, number = place_of(path, first.metadata)
    parts = siblings(path, count)
    if number != 1:
        first = read_header(parts[0], _Wanted())
    headers = [first, *(_part(part, n + 2, count) for n, part in enumerate(parts[1:]))]
    for part, header in zip(parts, headers, strict=True):
        _check_whole(part, header)
    path, found = parts[0], first.metadata
    architecture = _architecture(path, found)
    tokenizer = tokenizer_in(path, found)
    fingerprint, chat_digest = tokenizer.digests()
    tensors = [tensor for header in headers for tensor in header.tensors]
    if not tensors:
        raise LocalError(f"{path} has a vocabulary but no weights: choose the model's own file")
    shape = {key: found[name] for key in _SHAPE_KEYS if (name := f"{architecture}.{key}") in found}
    context = _number(path, shape, "context_length")
    if any(tensor.name.startswith("position_embd.") for tensor in tensors):
        # Learned positions end there, and the engine's companion rows stand one behind the text.
        context -= 1
    return ModelFile(
        name=short_name(found, path.stem),
        vocab_size=len(tokenizer.texts),
        vocab_fingerprint=fingerprint,
        chat_digest=chat_digest,
        has_chat_template=bool(tokenizer.template),
        context_trained=max(1, min(CONTEXT_MAX, context)),
        layers=_number(path, shape, "block_count"),
        kv_values=_kv_values(path, shape),
        size_bytes=sum(header.size for header in headers),
        row_exact={t.type for t in tensors if len(t.shape) > 1} <= ROW_EXACT,
        n_params=sum(map(_weights, tensors)),
        parts=parts,
        measured=architecture == MEASURED and not shape.get("expert_count"),
    )


def file_digest(path: Path, cache_dir: Path | None, parts: Sequence[Path] = ()) -> bytes:
    """SHA-256 of the file, or of all `parts` that `read_model_file` found; see `digest_of`."""
    return digest_of(parts or (path,), cache_dir)


# --- what kind of file ----------------------------------------------------------------------------


def _architecture(path: Path, found: Mapping[str, Value]) -> str:
    """LocalError, saying what it is, for a file that holds anything but a model that continues
    text."""
    architecture, kind = found.get("general.architecture"), found.get("general.type", "model")
    for named in (kind, architecture):
        if isinstance(named, str) and named in NOT_MODELS:
            raise LocalError(f"{path} holds {NOT_MODELS[named]}")
    if not isinstance(architecture, str) or not architecture:
        raise LocalError(
            f"{path} does not say what architecture its model has (general.architecture):"
            " choose another file"
        )
    if (
        any(part in architecture for part in ENCODERS)
        or found.get(f"{architecture}.attention.causal") is False
    ):
        raise LocalError(
            f"{path} holds an encoder ({architecture[:40]!r}), which does not continue text:"
            " choose a language model"
        )
    if any(part in architecture for part in RECURRENT):
        raise LocalError(
            f"{path} holds a recurrent model ({architecture[:40]!r}),"
            " which cannot go back in a text, as answers of several experts need it:"
            " choose a transformer model, such as those of the LLaMA family"
        )
    return architecture


def _number(path: Path, shape: Mapping[str, Value], key: str, default: int | None = None) -> int:
    value = shape.get(key, default)
    if isinstance(value, list) and value:
        value = max(value)  # One for each layer.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 32:
        said = "does not say its" if value is None else f"says {str(value)[:40]!r} for its"
        raise LocalError(
            f"{path} {said} {key}, which every model that can serve here has: choose another file"
        )
    return value


def _kv_values(path: Path, shape: Mapping[str, Value]) -> int:
    layers, width = _number(path, shape, "block_count"), _number(path, shape, "embedding_length")
    heads = _number(path, shape, "attention.head_count")
    kv_heads = _number(path, shape, "attention.head_count_kv", heads)
    key = _number(path, shape, "attention.key_length", max(1, width // heads))
    value = _number(path, shape, "attention.value_length", key)
    return layers * kv_heads * max(key, value)


# --- whether it is all there ----------------------------------------------------------------------


def _part(path: Path, number: int, count: int) -> Header:
    """The header of a part. LocalError if its content is that of another one."""
    header = read_header(path, SPLIT_KEYS)
    if place_of(path, header.metadata) != (count, number):
        raise LocalError(
            f"{path} does not hold part {number} of {count}, as its name says:"
            " fetch all parts of the model again"
        )
    return header


def _check_whole(path: Path, header: Header) -> None:
    """LocalError if the file ends before the last tensor of a known type does."""
    ends = [
        t.offset + _weights(t) // BLOCKS[t.type][1] * BLOCKS[t.type][0]
        for t in header.tensors
        if t.type in BLOCKS
    ]
    end = header.data_start + max(ends, default=0)
    if ends and header.size < end:
        shown = f"{end}" if end < 1 << 63 else "far more"
        raise LocalError(
            f"the model file {path} is cut off ({header.size} of {shown} bytes):"
            " finish the download, or choose another file"
        )


def _weights(tensor: Tensor) -> int:
    count = 1
    for n in tensor.shape:
        count *= n
    return count
