"""The text side of any model with a byte-level BPE vocabulary, from what its own GGUF file says.

A private swarm may agree on another vocabulary than LLaMA-3. A GGUF file holds its tokens and merges; the pattern that splits text
into words is only named, so the patterns that llama.cpp knows by these names are listed here (src/llama-vocab.cpp; the patterns
themselves were published with each model's tokenizer). A name that is not listed is refused: a pattern that is almost right would
give prompts that are almost right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swarmllm.adapters.llama.bpe_text import ALPHABET, BpeText, build_tokenizer
from swarmllm.adapters.llama.fingerprint import CONTROL, NORMAL, USER_DEFINED, fingerprint
from swarmllm.adapters.llama.gguf_format import Value, read_metadata
from swarmllm.adapters.llama.vocabulary import SPLIT_PATTERN
from swarmllm.errors import LocalError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = SPLIT_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
_DIGIT = r"\p{N}"

_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), (SPLIT_PATTERN,)),
    (("dbrx", "smaug-bpe"), (SPLIT_PATTERN,)),
    (("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "a.x-4.0", "mellum", "modern-bert"), (_GPT2,)),
    (("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), (_DIGIT, _GPT2)),
    (("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"), (_QWEN2,)),
)
PATTERNS = {name: patterns for names, patterns in _FAMILIES for name in names}
IGNORE_MERGES = frozenset(_FAMILIES[0][0])  # As in llama.cpp: words that are tokens are taken as they are.

_STOP_KEYS = ("eos", "eot", "eom")
_STOP_NAMES = frozenset({"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<EOT>"})
_UTF8_BYTES = frozenset(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}  # The others occur in no text.

_KEYS = frozenset(
    {f"tokenizer.ggml.{key}" for key in ("model", "pre", "tokens", "token_type", "merges")}
    | {f"tokenizer.ggml.{key}_token_id" for key in ("bos", *_STOP_KEYS)}
)


def text_of_gguf(path: Path) -> BpeText:
    """LocalError, naming the file and the reason, for a vocabulary that is not byte-level BPE or splits by an unknown pattern."""
    found = read_metadata(path, _KEYS)
    model, pre = found.get("tokenizer.ggml.model"), found.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise LocalError(
            f"{path} has a vocabulary of type {model!r}; only byte-level BPE ('gpt2') is supported: use another model"
        )
    if not isinstance(pre, str) or pre not in PATTERNS:
        raise LocalError(f"{path} splits text by {pre!r}, which is not supported: use a model with one of {', '.join(PATTERNS)}")
    tokens, merges = _strings(found, "tokens"), _strings(found, "merges")
    types = _types(path, found, len(tokens))
    vocab = {text: token for token, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind in (NORMAL, USER_DEFINED)}
    pairs = _pairs(path, merges, vocab)
    missing = [byte for byte in _UTF8_BYTES if ALPHABET[byte] not in vocab]
    if missing:
        raise LocalError(f"{path} has no token for {len(missing)} bytes (the first is 0x{min(missing):02X}): use another model")
    added = [text for text, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED and text]
    tokenizer = build_tokenizer(vocab, pairs, PATTERNS[pre], ignore_merges=pre in IGNORE_MERGES, added=added)
    bos, stops = _marks(path, found, tokens, types)
    return BpeText(
        tokenizer,
        types,
        fingerprint=fingerprint(((text.encode(), kind) for text, kind in zip(tokens, types, strict=True)), pre),
        bos=bos,
        stop_tokens=stops,
        source=str(path),
    )


def _strings(found: dict[str, Value], key: str) -> list[str]:
    value = found.get(f"tokenizer.ggml.{key}", [])
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _types(path: Path, found: dict[str, Value], size: int) -> bytes:
    """One byte per token; files without types mean ordinary tokens throughout."""
    value = found.get("tokenizer.ggml.token_type", [NORMAL] * size)
    if not isinstance(value, list) or len(value) != size or not size:
        raise LocalError(f"{path} lists {size} tokens but not as many types: its vocabulary is damaged, download it again")
    return bytes(kind if isinstance(kind, int) and 0 < kind < 7 else CONTROL for kind in value)


def _pairs(path: Path, merges: Sequence[str], vocab: dict[str, int]) -> list[tuple[str, str]]:
    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise LocalError(f"{path} merges {merge!r}, which are not all tokens: its vocabulary is damaged, download it again")
        pairs.append((left, right))
    return pairs


def _marks(path: Path, found: dict[str, Value], tokens: Sequence[str], types: bytes) -> tuple[int, frozenset[int]]:
    """(BOS, ids that end an answer). Models without a BOS put their end-of-text token between documents, so it stands in."""
    ids = {key: found.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", *_STOP_KEYS)}
    valid = {key: token for key, token in ids.items() if isinstance(token, int) and 0 <= token < len(tokens)}
    bos = valid.get("bos", valid.get("eos"))
    if bos is None:
        raise LocalError(f"{path} names neither a first nor a last token of a text: use another model")
    named = {token for token, text in enumerate(tokens) if text in _STOP_NAMES and types[token] not in (NORMAL,)}
    return bos, frozenset(named | {valid[key] for key in _STOP_KEYS if key in valid})
