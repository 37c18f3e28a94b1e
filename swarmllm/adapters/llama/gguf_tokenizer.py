"""The tokenizer of a GGUF file, read from its header; and the other way round, a GGUF file that
holds a tokenizer and no model, for nodes that have none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from swarmllm.adapters.llama.gguf_format import TEXT_BYTES_MAX, Value, header
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import VOCABULARY_MAX
from swarmllm.wire.tokenizer import CHARSMAP_MAX, ID_KEYS, NAME_MAX, NORMAL, Tokenizer, check_texts

TEMPLATE_KEY: Final = "tokenizer.chat_template"
_LISTS: Final = ("tokens", "token_type", "scores", "merges", "precompiled_charsmap")
_OTHERS: Final = (
    *("model", "pre", "add_bos_token", "add_space_prefix", "remove_extra_whitespaces"),
    *(f"{key}_token_id" for key in (*ID_KEYS, "unknown")),
)
TOKENIZER_KEYS: Final = frozenset(f"tokenizer.ggml.{key}" for key in (*_LISTS, *_OTHERS)) | {
    TEMPLATE_KEY,
    "general.name",
}

UNKNOWN_USUAL: Final[Mapping[str, int]] = {"llama": 0, "bert": 100, "t5": 2, "plamo2": 0}
"""What llama.cpp takes for the unknown token, by kind of tokenizer, where a file does not say it
(llama-vocab.cpp); the others have none, and leave out what they cannot spell."""

SCORED: Final = frozenset({"llama", "t5", "plamo2"})  # Kinds that look at scores.
TRIMMING: Final = ("phi-3", "phi3")
"""In the names of models whose control tokens swallow white space behind them (llama-vocab.cpp)."""


_RESERVED: Final = re.compile(
    r"<\|?(reserved_special_token|reserved|unused)_?\d+\|?>|<\|finetune_right_pad_id\|>"
)


def reserved_tokens(special: Mapping[str, int]) -> frozenset[int]:
    """Of the control tokens those whose names only keep a place, such as
    `<|reserved_special_token_5|>`."""
    return frozenset(token for text, token in special.items() if _RESERVED.fullmatch(text))


def vocabulary_in(path: Path, found: Mapping[str, Value]) -> tuple[list[str], list[int]]:
    """The tokens and their types. Files without types mean ordinary tokens throughout. LocalError
    if there are no tokens, or too many."""
    tokens, kinds = found.get("tokenizer.ggml.tokens"), found.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        raise LocalError(
            f"{path} has no vocabulary of its own (tokenizer.ggml.tokens):"
            " choose a GGUF file that includes one"
        )
    if len(tokens) > VOCABULARY_MAX:
        raise LocalError(
            f"{path} has a vocabulary of {len(tokens)} tokens,"
            f" more than the {VOCABULARY_MAX} that can be named: choose another"
        )
    if kinds is None:
        kinds = [NORMAL] * len(tokens)
    if not isinstance(kinds, list) or len(kinds) != len(tokens) or not isinstance(kinds[0], int):
        raise LocalError(
            f"{path} lists {len(tokens)} tokens but not as many types of tokens:"
            " choose another conversion of the model"
        )
    return [str(text) for text in tokens], [int(kind) for kind in kinds]


def tokenizer_in(path: Path, found: Mapping[str, Value]) -> Tokenizer:
    """What the header says, with llama.cpp's defaults for what it leaves out. LocalError, naming
    the file, for a vocabulary that cannot be one."""
    tokens, kinds = vocabulary_in(path, found)
    model = _name(path, found, "model")
    if not model:
        raise LocalError(
            f"{path} does not say what kind of tokenizer it has (tokenizer.ggml.model):"
            " choose another conversion of the model"
        )
    texts = [text.encode(errors="surrogateescape") for text in tokens]
    try:
        check_texts(texts)
    except RemoteError as fault:
        raise LocalError(f"{path} is damaged ({fault}): choose another conversion") from fault
    ids = {key: _token(found, key, len(texts)) for key in (*ID_KEYS, "unknown")}
    unknown, usual = ids.pop("unknown"), UNKNOWN_USUAL.get(model)
    if unknown is None and usual is not None and usual < len(texts):
        unknown = usual
    add_bos, template = found.get("tokenizer.ggml.add_bos_token"), found.get(TEMPLATE_KEY, "")
    name = str(found.get("general.name", "")).lower()
    return Tokenizer(
        model=model,
        pre=_name(path, found, "pre"),
        space_prefix=found.get("tokenizer.ggml.add_space_prefix", model == "llama") is True,
        trims_spaces=found.get("tokenizer.ggml.remove_extra_whitespaces") is True,
        unknown=unknown if model in UNKNOWN_USUAL else None,
        texts=texts,
        kinds=bytes(kind if 0 < kind < 7 else 0 for kind in kinds),
        scores=_scores(path, found, len(texts)) if model in SCORED else b"",
        merges=_merges(found),
        charsmap=_charsmap(path, found),
        ids=tuple(ids.values()),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        trimming=TRIMMING[0] if any(part in name for part in TRIMMING) else "",
        template=template if isinstance(template, str) and _is_whole(template) else "",
    )


def _name(path: Path, found: Mapping[str, Value], key: str) -> str:
    name = str(found.get(f"tokenizer.ggml.{key}", ""))
    if len(name.encode()) > NAME_MAX:
        raise LocalError(f"{path} is damaged (tokenizer.ggml.{key} has {len(name)} letters)")
    return name


def _is_whole(template: str) -> bool:
    """The reader cuts what is longer; half a template is none."""
    return len(template.encode()) < TEXT_BYTES_MAX


def _token(found: Mapping[str, Value], key: str, size: int) -> int | None:
    value = found.get(f"tokenizer.ggml.{key}_token_id")
    return value if type(value) is int and 0 <= value < size else None


def _scores(path: Path, found: Mapping[str, Value], size: int) -> bytes:
    scores = found.get("tokenizer.ggml.scores")
    if scores is None:
        return b""
    if not isinstance(scores, list) or len(scores) < size or isinstance(scores[0], str):
        raise LocalError(
            f"{path} lists {size} tokens but not as many scores:"
            " choose another conversion of the model"
        )
    return np.array(scores[:size], "<f4").tobytes()


def _merges(found: Mapping[str, Value]) -> list[bytes]:
    merges = found.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        return []
    return [str(merge).encode(errors="surrogateescape") for merge in merges]


def _charsmap(path: Path, found: Mapping[str, Value]) -> bytes:
    charsmap = found.get("tokenizer.ggml.precompiled_charsmap")
    if charsmap is None:
        return b""
    numbers = (
        [value for value in charsmap if isinstance(value, int)]
        if isinstance(charsmap, list)
        else []
    )
    if not 4 < len(numbers) <= CHARSMAP_MAX:
        raise LocalError(f"{path} is damaged (its table of characters): choose another conversion")
    return bytes(value & 255 for value in numbers)


# --- writing --------------------------------------------------------------------------------------

SHAPE: Final[Mapping[str, Value]] = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.block_count": 1,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 32,
}
"""Of a model that is not there: llama.cpp reads these before it comes to the vocabulary."""


def gguf_of(tokenizer: Tokenizer) -> bytes:
    """A GGUF file with this tokenizer and no weights."""
    named: dict[str, Value] = {
        "general.type": "vocab",
        "general.name": tokenizer.trimming or "vocabulary",
    }
    return header({**SHAPE, **named, **dict(metadata_of(tokenizer))}, [])


def metadata_of(tokenizer: Tokenizer) -> Iterator[tuple[str, Value]]:
    """The keys of a GGUF file that say what its tokenizer is."""

    def key(name: str) -> str:
        return f"tokenizer.ggml.{name}"

    yield key("model"), tokenizer.model
    if tokenizer.pre:
        yield key("pre"), tokenizer.pre
    yield key("tokens"), [text.decode() for text in tokenizer.texts]
    yield key("token_type"), list(tokenizer.kinds)
    if tokenizer.scores:
        yield key("scores"), np.frombuffer(tokenizer.scores, "<f4").tolist()
    if tokenizer.merges or tokenizer.model in ("gpt2", "gemma4"):
        yield key("merges"), [merge.decode(errors="surrogateescape") for merge in tokenizer.merges]
    if tokenizer.charsmap:
        yield key("precompiled_charsmap"), tokenizer.charsmap
    yield key("add_space_prefix"), tokenizer.space_prefix
    yield key("remove_extra_whitespaces"), tokenizer.trims_spaces
    if tokenizer.unknown is not None:
        yield key("unknown_token_id"), tokenizer.unknown
    for name, token in zip(ID_KEYS, tokenizer.ids, strict=True):
        if token is not None:
            yield key(f"{name}_token_id"), token
    if tokenizer.add_bos is not None:
        yield key("add_bos_token"), tokenizer.add_bos
    if tokenizer.template:
        yield TEMPLATE_KEY, tokenizer.template
