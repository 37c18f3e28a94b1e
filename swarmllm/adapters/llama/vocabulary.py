"""The shared vocabulary: LLaMA-3's 128,256 tokens, rebuilt at run time from Meta's own file.

The file ships in the PyPI package `llama-models`, under the Llama community licence; it is read there and never copied into this
project. Rebuilding the tokenizer takes about two seconds, so the result is cached.
"""

from __future__ import annotations

import base64
import importlib.resources
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

LLAMA3_BOS = 128_000
LLAMA3_EOS = 128_001
LLAMA3_SIZE = 128_256

# Published with the model (llama_models/llama3/tokenizer.py) and in llama.cpp as the "llama-bpe" pre-tokenizer.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def load_merge_ranks() -> dict[bytes, int]:
    """Token bytes -> id, for the 128,000 ordinary tokens, in the order of Meta's file."""
    text = importlib.resources.files("llama_models.llama3").joinpath("tokenizer.model").read_text("ascii")
    pairs = (line.split() for line in text.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def special_tokens() -> list[str]:
    """The 256 special tokens, in the order of their ids from 128,000 on."""
    named = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        2: "<|reserved_special_token_0|>",
        3: "<|reserved_special_token_1|>",
        4: "<|finetune_right_pad_id|>",
        5: "<|reserved_special_token_2|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        8: "<|eom_id|>",
        9: "<|eot_id|>",
        10: "<|python_tag|>",
    }
    return [named.get(i, f"<|reserved_special_token_{i - 8}|>") for i in range(256)]


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: printable bytes are themselves, the others are moved up to U+0100 and on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(b) if b in set(printable) else chr(next(moved)) for b in range(256)]


class Vocabulary:
    """Text to ids and back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids)
        return text


@cache
def load_vocabulary() -> Vocabulary:
    alphabet = _byte_alphabet()
    ranks = load_merge_ranks()
    shown = {token: "".join(alphabet[b] for b in token) for token in ranks}
    vocab = {shown[token]: rank for token, rank in ranks.items()}
    merges = []
    for token, rank in ranks.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [(rank, ranks[a], ranks[b], shown[a], shown[b]) for a, b in pairs]
    merges.sort()
    tokenizer = Tokenizer(models.BPE(vocab, [(a, b) for *_, a, b in merges], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special_tokens()])
    return Vocabulary(tokenizer)
