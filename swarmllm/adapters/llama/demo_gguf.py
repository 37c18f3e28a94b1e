"""A compact model as the bytes of a full GGUF file: every one of the 128,256 ids gets an input and
an output row.

Ids without rows of their own: as output, nothing but a very negative bias, so that their
probability is negligible whatever the context; as input, the mean of the rows of the BPE pieces
that they were written as while training, so that an unknown word still says something. The bytes
are the same on every machine (element-wise float32 in a fixed order, no times, no paths), because
the file's digest is the model's name in the swarm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, quants

from swarmllm.adapters.llama.demo import BLOCK, BLOCK_BYTES, CompactModel, dequantize
from swarmllm.adapters.llama.gguf_format import F32, Q8_0, TensorSpec, Value, header, padding
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_BOS,
    LLAMA3_EOS,
    LLAMA3_PRE,
    LLAMA3_SIZE,
    Tables,
    load_merge_ranks,
)

CHUNK_ROWS = 8192  # Rows made at a time: 2 MiB of file, 8 MiB of float32.

Bytes = npt.NDArray[np.uint8]


def quantize(rows: npt.NDArray[np.float32]) -> Bytes:
    """float32[n, d] as Q8_0: uint8[n, d / 32 * 34]."""
    found: Bytes = quants.quantize(rows, GGMLQuantizationType.Q8_0)
    return found


def spell(own: Mapping[int, list[int]], tables: Tables) -> list[list[int]]:
    """For every ordinary id what it is written as: `own[id]` if it is there, else what the two
    pieces of its last merge are written as, one after the other. `own` must hold every id that was
    not merged from two others."""
    pieces, spelled = tables.last_merges(), list[list[int]]()
    for token in range(LLAMA3_BOS):  # Pieces are older than what they make, so they come first.
        if token in own:
            spelled.append(own[token])
        else:
            left, right = pieces[token]
            spelled.append(spelled[left] + spelled[right])
    return spelled


def rows_for_all(active_ids: npt.NDArray[np.int32], tables: Tables) -> list[list[int]]:
    """For each of the 128,256 ids: the dense numbers of the active rows that stand for it, at least
    one."""
    row = {token: i for i, token in enumerate(active_ids.tolist())}
    pieces, ranks = tables.last_merges(), load_merge_ranks()
    own = {token: [i] for token, i in row.items()}
    for token, rank in ranks.items():
        if rank not in own and rank not in pieces:  # Its bytes are always active.
            own[rank] = [row[ranks[token[i : i + 1]]] for i in range(len(token))]
    # Special tokens stand between pieces of text, as the one at the end of a document does.
    special = [own.get(token, own[LLAMA3_EOS]) for token in range(LLAMA3_BOS, LLAMA3_SIZE)]
    return spell(own, tables) + special


class DemoGguf:
    """One file's content; `stream` makes it in pieces of a few megabytes."""

    def __init__(self, model: CompactModel, tables: Tables) -> None:
        self.model = model
        self._tables = tables
        self.tensors = self._specs()
        self._header = header(self._metadata(), self.tensors)
        self.size_bytes = len(self._header) + sum(
            spec.size_bytes + len(padding(spec.size_bytes)) for spec in self.tensors
        )

    def _specs(self) -> list[TensorSpec]:
        table = (LLAMA3_SIZE, self.model.card.shape.dim)
        layers = [
            TensorSpec(name, weights.shape, F32)
            if weights.ndim == 1
            else TensorSpec(name, (len(weights), weights.shape[1] // BLOCK_BYTES * BLOCK), Q8_0)
            for name, weights in self.model.layers.items()
        ]
        return [
            TensorSpec("token_embd.weight", table, Q8_0),
            *layers,
            TensorSpec("output.weight", table, Q8_0),
        ]

    def _metadata(self) -> dict[str, Value]:
        card, tokens = self.model.card, self._tables.gguf_tokens()
        shape = card.shape
        return {
            "general.architecture": "llama",
            "general.name": card.name,
            "general.description": card.summary,
            "general.tags": list(card.domains),
            "general.file_type": 7,  # Mostly Q8_0.
            "general.quantization_version": 2,
            "llama.vocab_size": LLAMA3_SIZE,
            "llama.context_length": shape.context,
            "llama.embedding_length": shape.dim,
            "llama.block_count": shape.layers,
            "llama.feed_forward_length": shape.hidden,
            "llama.rope.dimension_count": shape.dim // shape.heads,
            "llama.rope.freq_base": shape.rope_base,
            "llama.attention.head_count": shape.heads,
            "llama.attention.head_count_kv": shape.kv_heads,
            "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": LLAMA3_PRE,
            "tokenizer.ggml.tokens": [text for text, _ in tokens],
            "tokenizer.ggml.token_type": [kind for _, kind in tokens],
            "tokenizer.ggml.merges": [" ".join(pair) for pair in self._tables.merge_pairs()],
            "tokenizer.ggml.bos_token_id": LLAMA3_BOS,
            "tokenizer.ggml.eos_token_id": LLAMA3_EOS,
            "tokenizer.ggml.eom_token_id": LLAMA3_BOS + 8,
            "tokenizer.ggml.eot_token_id": LLAMA3_BOS + 9,
            "tokenizer.ggml.add_bos_token": True,
        }

    def stream(self) -> Iterator[bytes]:
        """The file from its first byte to its last."""
        yield self._header
        for spec in self.tensors:
            match spec.name:
                case "token_embd.weight":
                    yield from self._input_rows()
                case "output.weight":
                    yield from self._output_rows()
                case name:
                    yield self.model.layers[name].tobytes()
            if gap := padding(spec.size_bytes):
                yield gap

    def _input_rows(self) -> Iterator[bytes]:
        own = self.model.input_rows()
        values = dequantize(own)
        spelled = rows_for_all(self.model.active_ids, self._tables)
        row = np.full(LLAMA3_SIZE, -1, np.int64)
        row[self.model.active_ids] = np.arange(len(own))
        for start in range(0, LLAMA3_SIZE, CHUNK_ROWS):
            part = row[start : start + CHUNK_ROWS]
            data = np.empty((len(part), own.shape[1]), np.uint8)
            data[part >= 0] = own[part[part >= 0]]
            rest = np.flatnonzero(part < 0)
            means = _means(values, [spelled[start + i] for i in rest.tolist()])
            means[:, 0] = self.model.bias_input
            data[rest] = quantize(means)
            yield data.tobytes()

    def _output_rows(self) -> Iterator[bytes]:
        unused = np.zeros((1, self.model.card.shape.dim), np.float32)
        unused[0, 0] = self.model.unused_bias
        rows = np.repeat(quantize(unused), LLAMA3_SIZE, axis=0)
        rows[self.model.active_ids] = self.model.rows
        for start in range(0, LLAMA3_SIZE, CHUNK_ROWS):
            yield rows[start : start + CHUNK_ROWS].tobytes()


def _means(values: npt.NDArray[np.float32], groups: list[list[int]]) -> npt.NDArray[np.float32]:
    """The mean row of each group. Added one piece after another, because the order of a library's
    own sums is not promised."""
    counts = np.array([len(group) for group in groups], np.int64)
    total = np.zeros((len(groups), values.shape[1]), np.float32)
    for position in range(int(counts.max(initial=0))):
        longer = np.flatnonzero(counts > position)
        total[longer] += values[[groups[i][position] for i in longer.tolist()]]
    total /= counts[:, None].astype(np.float32)
    return total
