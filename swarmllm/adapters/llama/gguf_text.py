"""The text side of any model with a byte-level BPE vocabulary, from what its own GGUF file says.

A private swarm may agree on another vocabulary than LLaMA-3. A GGUF file holds its tokens and
merges; the pattern that splits text into words is only named, so the patterns that llama.cpp knows
by these names are listed here (src/llama-vocab.cpp; the patterns themselves were published with
each model's tokenizer). A name that is not listed is refused: a pattern that is almost right would
give prompts that are almost right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swarmllm.adapters.llama.bpe_text import BYTE_OF, BpeText, build_tokenizer
from swarmllm.adapters.llama.fingerprint import NORMAL, USER_DEFINED, fingerprint
from swarmllm.adapters.llama.gguf_file import vocabulary_in
from swarmllm.adapters.llama.gguf_format import Value, read_metadata
from swarmllm.adapters.llama.gguf_parts import parts_of
from swarmllm.adapters.llama.gguf_tokenizer import reserved_tokens
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_FINGERPRINT,
    LLAMA3_STOPS,
    SPLIT_PATTERN,
    load_vocabulary,
)
from swarmllm.core.vocabulary import Vocabulary, ends_of
from swarmllm.errors import LocalError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = SPLIT_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
UNDEFINED = 0  # As a type: has no text, like a control token.
_DIGIT = r"\p{N}"

_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        (SPLIT_PATTERN,),
    ),
    (("dbrx", "smaug-bpe"), (SPLIT_PATTERN,)),
    (
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "a.x-4.0", "mellum", "modern-bert"),
        (_GPT2,),
    ),
    (
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        (_DIGIT, _GPT2),
    ),
    (("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"), (_QWEN2,)),
)
PATTERNS = {name: patterns for names, patterns in _FAMILIES for name in names}
# As in llama.cpp: words that are tokens are taken as they are.
IGNORE_MERGES = frozenset(_FAMILIES[0][0])

TEMPLATE_KEY = "tokenizer.chat_template"
_END_KEYS = ("eos", "eot", "eom")
_END_NAMES = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<|end_of_text|>",
    }
    | {
        "<|endoftext|>",
        "<end_of_turn>",
        "<turn|>",
        "<|tool_response>",
        "<end_of_utterance>",
        "</s>",
        "<eos>",
        "[EOS]",
        "[EOT]",
    }
    | {"<EOT>", "_<EOT>", "[e~[", "<｜end▁of▁sentence｜>"}
    # What stands between the pieces of code that a model was trained to fill in; after it comes
    # another file.
    | {
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    }
    | {"<|file_sep|>"}
)
"""Texts of tokens that end an answer, as llama.cpp lists them (llama-vocab.cpp, special_eog_ids):
files name one such token by a key, and fine-tunes have more."""

_VOCABULARY_KEYS = frozenset(
    f"tokenizer.ggml.{key}" for key in ("model", "pre", "tokens", "token_type", "merges")
)
_MARK_KEYS = frozenset(
    {f"tokenizer.ggml.{key}_token_id" for key in ("bos", *_END_KEYS)}
    | {f"tokenizer.ggml.{key}" for key in ("add_bos_token", "pre", "tokens", "token_type")}
)


@dataclass(frozen=True, slots=True)
class Marks:
    """How a text begins and ends. `bos` is the token between documents, whether or not a text
    begins with it (`add_bos`). `reserved` are tokens that mean nothing in this model."""

    bos: int
    add_bos: bool
    stops: frozenset[int]
    reserved: frozenset[int] = frozenset()


def text_of_gguf(path: Path) -> BpeText:
    """LocalError, naming the file and the reason, for a vocabulary that is not byte-level BPE or
    splits by an unknown pattern."""
    first = parts_of(path)[0]
    found = read_metadata(first, _VOCABULARY_KEYS | _MARK_KEYS | {TEMPLATE_KEY})
    model, pre = found.get("tokenizer.ggml.model"), found.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise LocalError(
            f"{path} has a vocabulary of type {repr(model)[:42]}; only byte-level BPE ('gpt2') is supported: use another model"
        )
    if not isinstance(pre, str) or pre not in PATTERNS:
        raise LocalError(
            f"{path} splits text by {repr(pre)[:42]}, which is not supported: use a model with one of {', '.join(PATTERNS)}"
        )
    tokens, kinds = vocabulary_in(path, found)
    types = bytes(kind if 0 < kind < 7 else UNDEFINED for kind in kinds)
    vocab = {
        text: token
        for token, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (NORMAL, USER_DEFINED)
    }
    _check_tokens(path, vocab)
    added = [
        text for text, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED and text
    ]
    pairs = _pairs(path, found.get("tokenizer.ggml.merges"), vocab)
    tokenizer = build_tokenizer(
        vocab, pairs, PATTERNS[pre], ignore_merges=pre in IGNORE_MERGES, added=added
    )
    marks, eos = _marks(path, found), found.get("tokenizer.ggml.eos_token_id")
    pieces = [_piece(text, kind) for text, kind in zip(tokens, types, strict=True)]
    special = {
        text: token
        for token, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind not in (NORMAL, USER_DEFINED) and text
    }
    value = Vocabulary(
        fingerprint=fingerprint(
            (
                (text.encode(errors="surrogateescape"), kind)
                for text, kind in zip(tokens, types, strict=True)
            ),
            pre,
        ),
        bos=marks.bos,
        add_bos=marks.add_bos,
        eog=marks.stops,
        pieces=b"".join(pieces),
        ends=ends_of(pieces),
        bos_text=tokens[marks.bos],
        eos_text=tokens[eos] if type(eos) is int and 0 <= eos < len(tokens) else "",
        chat_template=str(found.get(TEMPLATE_KEY, "")),
        source=str(path),
    )
    return BpeText(tokenizer, special, value)


def _piece(text: str, kind: int) -> bytes:
    if kind not in (NORMAL, USER_DEFINED):
        return b""
    if kind == USER_DEFINED or any(character not in BYTE_OF for character in text):
        return text.encode(errors="replace")  # Stored as plain text, not in the printable alphabet.
    return bytes([BYTE_OF[character] for character in text])


def marks_of_gguf(path: Path) -> Marks:
    """What the file says of the beginning and the end of a text, of a model whose vocabulary is
    known already. LocalError."""
    return _marks(path, read_metadata(parts_of(path)[0], _MARK_KEYS))


def text_of_swarm(path: Path | None, fingerprint: bytes | None, cache_dir: Path) -> BpeText:
    """The text side of a node that serves the model in `path`, or none, in a swarm of this
    vocabulary (None: LLaMA-3's).

    An answer is made by the models of others too, and a fine-tune may end its texts with a token of
    its own: it takes one of those that its base keeps free. So a token that means nothing in our
    own model's file ends an answer: it has no text, and whichever model chose it meant something by
    it that we do not know. LocalError for a file that is unfit, or is now another one.
    """
    llama3 = fingerprint is None or fingerprint.hex() == LLAMA3_FINGERPRINT
    if path is None:
        assert llama3, "a vocabulary that is in no file"
        return load_vocabulary(cache_dir)
    marks = marks_of_gguf(path)
    text = load_vocabulary(cache_dir) if llama3 else text_of_gguf(path)
    if fingerprint is not None and text.vocabulary.fingerprint != fingerprint:
        raise LocalError(f"{path} changed while it was being loaded; start again")
    stops = marks.stops | marks.reserved | (LLAMA3_STOPS if llama3 else frozenset())
    value = replace(text.vocabulary, bos=marks.bos, add_bos=marks.add_bos, eog=stops)
    return BpeText(text._tokenizer, text._special, value)


def _check_tokens(path: Path, vocab: Mapping[str, int]) -> None:
    for text, token in vocab.items():
        if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
            raise LocalError(
                f"{path} has a token ({token}) that is no UTF-8 text: choose another conversion of the model"
            )


def _pairs(path: Path, merges: Value | None, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    if not isinstance(merges, list):
        raise LocalError(
            f"{path} has no merges (tokenizer.ggml.merges), without which no text can be cut: choose another conversion"
        )
    pairs = []
    for merge in map(str, merges):
        left, _, right = merge.partition(" ")
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise LocalError(
                f"{path} merges {merge[:40]!a}, which are not all tokens of its own: choose another conversion of the model"
            )
        pairs.append((left, right))
    return pairs


def _marks(path: Path, found: Mapping[str, Value]) -> Marks:
    """Models without a BOS put their end-of-text token between documents, so it stands in.

    Whether a text begins with it is for the file to say; where it does not, the name of the pattern
    does, as in llama.cpp: LLaMA-3's texts begin with it, those of other byte-level vocabularies do
    not.
    """
    tokens, _ = vocabulary_in(path, found)
    ids = {key: found.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", *_END_KEYS)}
    valid = {
        key: token for key, token in ids.items() if type(token) is int and 0 <= token < len(tokens)
    }
    bos = valid.get("bos", valid.get("eos"))
    if bos is None:
        raise LocalError(
            f"{path} names neither a first nor a last token of a text: use another model"
        )
    said = found.get("tokenizer.ggml.add_bos_token")
    add_bos = said if isinstance(said, bool) else found.get("tokenizer.ggml.pre") in IGNORE_MERGES
    stops = _ends(tokens, frozenset(valid[key] for key in _END_KEYS if key in valid))
    return Marks(
        bos, add_bos, stops, reserved_tokens({text: i for i, text in enumerate(tokens)}) - stops
    )


def _ends(tokens: Sequence[str], named: frozenset[int]) -> frozenset[int]:
    """With the two exceptions that llama.cpp makes, for formats in which these tokens stand within
    an answer."""
    by_text = {text: token for token, text in enumerate(tokens) if text in _END_NAMES}
    ends = named | frozenset(by_text.values())
    texts = {tokens[token] for token in ends}
    calls = bool(texts & {"<|call|>", "<|calls|>"})
    if calls and texts & {"<|return|>", "<|flush|>"} and "<|end|>" in by_text:
        ends -= {by_text["<|end|>"]}
    if "<|tool_response>" in texts and "</s>" in by_text:
        ends -= {by_text["</s>"]}
    return ends
