"""Small models of five GGUF families, each with its architecture, its kind of tokenizer and its
chat template, and random weights: what `join --model` must take, whoever made the model.

The templates are short forms of the published ones: the same control tokens in the same places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from swarmllm.testing.gguf_fixture import FixtureShape, byte_alphabet, small_vocabulary
from swarmllm.testing.gguf_vocabularies import Token, gemma_like, sentence_piece, tokenizer
from swarmllm.wire.tokenizer import CONTROL, NORMAL, Tokenizer

INST: Final = """\
{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}\
{{ ' ' + message.content + eos_token }}{% else %}\
{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"""

HEADERS: Final = """\
{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content }}\
{{ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

CHATML: Final = """\
{% for message in messages %}\
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

PHI: Final = """\
{{ bos_token }}{% for message in messages %}\
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""


@dataclass(frozen=True, slots=True)
class Family:
    """`turn` are the control tokens that a conversation of one question must have, in order."""

    architecture: str
    words: Callable[[], Tokenizer]
    turn: tuple[str, ...]

    def shape(self, seed: int) -> FixtureShape:
        return FixtureShape(architecture=self.architecture, seed=seed)


def _llama_2() -> Tokenizer:
    return replace(sentence_piece(), template=INST, add_bos=True)


def _llama_3() -> Tokenizer:
    marks = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>")
    return _byte_pairs("llama-bpe", (*marks, "<|end_header_id|>", "<|eot_id|>"), HEADERS, eot=4)


def _qwen_2() -> Tokenizer:
    marks = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
    return replace(_byte_pairs("qwen2", marks, CHATML), add_bos=False)


def _gemma() -> Tokenizer:
    return gemma_like()  # Without a template, as many files are: its family's is used.


def _phi_3() -> Tokenizer:
    base = sentence_piece()
    # llama.cpp takes it for granted that a model of this name has the first one.
    marks = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    return replace(
        base,
        texts=[*base.texts, *(mark.encode() for mark in marks)],
        kinds=base.kinds + bytes(CONTROL for _ in marks),
        scores=base.scores + bytes(4 * len(marks)),
        template=PHI,
        add_bos=True,
    )


def _byte_pairs(pre: str, marks: tuple[str, ...], template: str, eot: int = 1) -> Tokenizer:
    """Byte-level BPE with these control tokens behind the ordinary ones; the first begins a text,
    the second ends it."""
    small = small_vocabulary()
    ordinary: list[Token] = [(text, NORMAL) for text, kind in small.tokens if kind == NORMAL]
    assert {text for text, _ in ordinary} >= set(byte_alphabet())
    at = len(ordinary)
    return tokenizer(
        "gpt2",
        [*ordinary, *((mark, CONTROL) for mark in marks)],
        {"bos": at, "eos": at + 1, "eot": at + eot},
        pre=pre,
        merges=[merge.encode() for merge in small.merges],
        template=template,
        add_bos=True,
    )


_HEADER: Final = ("<|start_header_id|>", "<|end_header_id|>")
FAMILIES: Final = {
    "LLaMA-2, Mistral": Family("llama", _llama_2, ("<s>",)),
    "LLaMA-3": Family(
        "llama",
        _llama_3,
        ("<|begin_of_text|>", *_HEADER, "<|eot_id|>", *_HEADER),
    ),
    "Qwen2": Family("qwen2", _qwen_2, ("<|im_start|>", "<|im_end|>", "<|im_start|>")),
    "Gemma": Family(
        "gemma", _gemma, ("<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_turn>")
    ),
    "Phi-3": Family("phi3", _phi_3, ("<s>", "<|user|>", "<|end|>", "<|assistant|>")),
}
"""By the name that people know them by."""
