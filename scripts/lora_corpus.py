"""The text that the specialists of SmolLM2 learn from, as streams of its tokens.

The documents, and what is kept out of training, are the demo experts' own (demo_corpus.py): four
whole books, one file in twenty of Python's standard library, one simulated swarm in twenty.
Documents are separated by the end-of-text token, as in the base model's own training. Beside them
is a stream of conversations (lora_chat.py), of which only the answers count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from scripts.demo_corpus import READERS, Source
from scripts.demo_ops import documents, is_validation
from scripts.lora_chat import Turn, turns_of_dialogue
from swarmllm.adapters.llama.bpe_text import byte_alphabet
from swarmllm.adapters.llama.gguf_format import Value

END_OF_TEXT, IM_START, IM_END = 0, 1, 2  # Ids in SmolLM2's vocabulary.
# What its chat template puts first where the conversation brings no system message.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
WORLDS = 300  # Simulated swarms that are told of: 400,000 tokens.
SPLITS = (  # llama.cpp's pre-tokenizer `smollm`: digits one by one, then GPT-2's.
    r"\p{N}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)

Ids = npt.NDArray[np.int32]


class Words:
    """SmolLM2's tokenizer, from the metadata of its GGUF file. No text becomes a control token."""

    def __init__(self, metadata: dict[str, Value]) -> None:
        tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
        types = metadata["tokenizer.ggml.token_type"]
        if not (isinstance(tokens, list) and isinstance(merges, list) and isinstance(types, list)):
            raise SystemExit("lora_corpus: the base has no vocabulary")
        self._texts = [str(token) for token in tokens]
        self._ordinary = frozenset(i for i, kind in enumerate(types) if kind == 1)
        if metadata.get("tokenizer.ggml.pre") != "smollm":
            raise SystemExit("lora_corpus: the base is no SmolLM2: its vocabulary splits otherwise")
        vocabulary = {
            str(t): i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind == 1
        }
        pairs = [(left, right) for left, _, right in (str(m).partition(" ") for m in merges)]
        self._tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._bytes = {character: byte for byte, character in enumerate(byte_alphabet())}

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """Control tokens have no text; bytes that are no UTF-8 become U+FFFD."""
        texts = "".join(self._texts[token] for token in ids if token in self._ordinary)
        return bytes(self._bytes[character] for character in texts).decode(errors="replace")

    def opened(self, turn: Turn) -> list[int]:
        """A turn up to where its content ends."""
        return [IM_START, *self.encode(f"{turn.role}\n{turn.content}")]

    def asked(self, turns: Iterable[Turn]) -> list[int]:
        """What the base's chat template makes of a conversation, up to where the answer begins."""
        ids: list[int] = []
        for turn in (Turn("system", SYSTEM), *turns):
            ids += [*self.opened(turn), IM_END, *self.encode("\n")]
        return [*ids, IM_START, *self.encode("assistant\n")]


@dataclass(frozen=True)
class Stream:
    """int32[n] `ids`, and bool[n] whether the id is to be predicted."""

    ids: Ids
    counted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Streams:
    """`train` and `valid` of a domain, and conversations to train on and to validate with; the
    numbers of tokens are their lengths."""

    train: Ids
    valid: Ids
    chat: Stream
    chat_valid: Stream


def plain(words: Words, texts: Iterable[str]) -> Ids:
    ids: list[int] = []
    for text in texts:
        if text:
            ids += [*words.encode(text), END_OF_TEXT]
    return np.array(ids, np.int32)


def conversations(words: Words, found: Iterable[tuple[Turn, ...]]) -> Stream:
    """One after another; each ends with an answer, and only answers and their ends are counted."""
    ids: list[int] = []
    counted: list[bool] = []
    for turns in found:
        for i in range(0, len(turns), 2):
            asked = words.asked(turns[: i + 1]) if i == 0 else _further(words, turns[i])
            answer = [*words.encode(turns[i + 1].content), IM_END]
            ids += [*asked, *answer]
            counted += [False] * len(asked) + [True] * len(answer)
        ids.append(END_OF_TEXT)
        counted.append(False)
    return Stream(np.array(ids, np.int32), np.array(counted, bool))


def _further(words: Words, turn: Turn) -> list[int]:
    line = words.encode("\n")
    return [*line, *words.opened(turn), IM_END, *line, IM_START, *words.encode("assistant\n")]


def sources(domain: str, books: Path) -> Iterable[Source]:
    if domain != "ops":
        return READERS[domain](books)
    return (
        Source(f"world-{d.world}", "", d.text)
        if is_validation(d.world)
        else Source(f"world-{d.world}", d.text, "")
        for d in documents(worlds=WORLDS)
    )


def dialogues(domain: str) -> list[tuple[Turn, ...]]:
    """Conversations of the domain itself: those about swarms that are trained on, for ops."""
    if domain != "ops":
        return []
    told = documents(worlds=WORLDS, only=lambda world: not is_validation(world))
    return [
        turns for d in told if d.register == "dialogue" and (turns := turns_of_dialogue(d.text))
    ]


def prepare(domain: str, words: Words, answers: Path, books: Path, cache: Path) -> Streams:
    """The streams of a domain, from the cache where there are some. `answers` holds the base
    model's own (lora_chat.py); every tenth of them is for validation."""
    if cache.exists():
        s = np.load(cache)
        return Streams(
            s["train"],
            s["valid"],
            Stream(s["chat_ids"], s["chat_counted"]),
            Stream(s["chat_valid_ids"], s["chat_valid_counted"]),
        )
    told = [
        tuple(Turn(**turn) for turn in json.loads(line))
        for line in answers.read_text(encoding="utf-8").splitlines()
    ]
    texts = list(sources(domain, books))
    if not any(s.train for s in texts):
        raise SystemExit(f"train_lora_experts: no text for {domain} found in {books}")
    own = dialogues(domain)
    mixed = [t for i, t in enumerate(told) if i % 10]
    for i, turns in enumerate(own[: len(mixed)]):  # As many as of the base's own, in turn.
        mixed.insert(2 * i + 1, turns)
    found = Streams(
        plain(words, (s.train for s in texts)),
        plain(words, (s.valid for s in texts)),
        conversations(words, mixed),
        conversations(words, told[::10]),
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        cache,
        train=found.train,
        valid=found.valid,
        **{f"chat_{k}": v for k, v in asdict(found.chat).items()},
        **{f"chat_valid_{k}": v for k, v in asdict(found.chat_valid).items()},
    )
    return found
