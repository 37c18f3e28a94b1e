"""A second, plain implementation of LLaMA that reads the bytes of an expanded file: what a card
says of an expert comes from here.

It knows nothing of how the model was trained, of active rows or of the bias dimension, so an error
in folding these into the shipped weights shows as a worse figure than the training's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.demo_corpus import Corpus
from scripts.demo_model import rotate
from swarmllm.adapters.llama.demo import Shape, dequantize
from swarmllm.adapters.llama.demo_gguf import DemoGguf
from swarmllm.adapters.llama.gguf_format import padding
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_BOS,
    LLAMA3_SIZE,
    load_merge_ranks,
    load_vocabulary,
)

TEMPERATURE, TOP_P = 0.8, 0.95

Cache = list[tuple[Tensor, Tensor]]


class Reference:
    """LLaMA in float32 over `tensors`, by their GGUF names."""

    def __init__(self, shape: Shape, tensors: dict[str, Tensor]) -> None:
        self.shape = shape
        self.tensors = tensors

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return (
            x
            * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.norm_eps)
            * self.tensors[name]
        )

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """float32[batch, n, dim] after the last norm, of int64[batch, n] vocabulary ids. With a
        `cache` (empty at first) they follow what it holds, and all but the first call take one id
        each."""
        s, w = self.shape, self.tensors
        (batch, n), head = ids.shape, self.shape.dim // self.shape.heads
        past = cache[0][0].shape[2] if cache else 0
        angle = torch.outer(
            torch.arange(past, past + n), s.rope_base ** -(torch.arange(0, head, 2) / head)
        )
        cos, sin = angle.cos(), angle.sin()
        x = w["token_embd.weight"][ids]
        for i in range(s.layers):
            layer = f"blk.{i}."
            h = self._norm(x, layer + "attn_norm.weight")
            q, k, v = (
                (h @ w[f"{layer}attn_{p}.weight"].T).view(batch, n, -1, head).transpose(1, 2)
                for p in "qkv"
            )
            k = rotate(k, cos, sin)
            if cache is not None:
                if past:
                    k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                    cache[i] = (k, v)
                else:
                    cache.append((k, v))
            h = F.scaled_dot_product_attention(
                rotate(q, cos, sin), k, v, is_causal=past == 0, enable_gqa=True
            )
            x = x + h.transpose(1, 2).reshape(batch, n, -1) @ w[layer + "attn_output.weight"].T
            h = self._norm(x, layer + "ffn_norm.weight")
            gated = F.silu(h @ w[layer + "ffn_gate.weight"].T) * (h @ w[layer + "ffn_up.weight"].T)
            x = x + gated @ w[layer + "ffn_down.weight"].T
        return self._norm(x, "output_norm.weight")

    def logits(self, ids: Tensor) -> Tensor:
        """float32[batch, n, 128256]."""
        return self.hidden(ids) @ self.tensors["output.weight"].T


class Expanded(Reference):
    """The reference over the very bytes of an expanded file, of which it knows the size and the
    SHA-256 digest."""

    def __init__(self, gguf: DemoGguf) -> None:
        data = b"".join(gguf.stream())
        self.size_bytes = len(data)
        self.digest = hashlib.sha256(data).hexdigest()
        tensors: dict[str, Tensor] = {}
        end = len(data)
        for spec in reversed(gguf.tensors):  # From the end: the header's size does not matter then.
            start = end - spec.size_bytes - len(padding(spec.size_bytes))
            raw = np.frombuffer(data, np.uint8, spec.size_bytes, start)
            plain = (
                raw.view(np.float32)
                if len(spec.shape) == 1
                else dequantize(raw.reshape(spec.shape[0], -1))
            )
            tensors[spec.name] = torch.from_numpy(plain.copy())
            end = start
        super().__init__(gguf.model.card.shape, tensors)


def windows(corpus: Corpus, count: int, length: int) -> Tensor:
    """int64[count, length + 1] dense rows, evenly spread over the validation text, each beginning
    with BOS (row 0)."""
    starts = np.linspace(0, len(corpus.valid) - length - 1, count).astype(int)
    found = np.stack([corpus.valid[i : i + length + 1] for i in starts]).astype(np.int64)
    found[:, 0] = 0
    return torch.from_numpy(found)


def evaluate(reference: Reference, corpus: Corpus, count: int, length: int) -> tuple[float, float]:
    """(nats per LLaMA-3 token, bits per byte) on `count` windows of `length` tokens of validation
    text, each without any context."""
    active = torch.from_numpy(corpus.active_ids.astype(np.int64))
    table = reference.tensors["output.weight"]
    output = table[active]
    unused = torch.ones(LLAMA3_SIZE, dtype=torch.bool)
    unused[active] = False
    bias, others = float(table[unused][0, 0]), int(unused.sum())
    token_bytes = [len(token) for token in load_merge_ranks()] + [0] * (LLAMA3_SIZE - LLAMA3_BOS)
    nats, size = 0.0, 0
    for window in windows(corpus, count, length):
        ids = active[window]
        h = reference.hidden(ids[None, :-1])[0]
        logits = h @ output.T
        log_z = torch.logaddexp(torch.logsumexp(logits, -1), bias * h[:, 0] + math.log(others))
        nats += float((log_z - logits.gather(1, window[1:, None])[:, 0]).sum())
        size += sum(token_bytes[i] for i in ids[1:].tolist())
    return nats / (count * length) * len(corpus.valid) / corpus.valid_tokens, nats / math.log(
        2
    ) / size


class Writer:
    """Draws text at `TEMPERATURE` and `TOP_P` from a seeded generator: each call is one draw, not a
    choice of many. Ids without rows of their own, which are never drawn in practice (less than 1e-4
    of the mass together), are left out."""

    def __init__(self, reference: Reference, active_ids: Sequence[int], seed: int) -> None:
        self._reference = reference
        self._active = torch.tensor(active_ids, dtype=torch.int64)
        self._output = reference.tensors["output.weight"][self._active].T.contiguous()
        self._vocabulary = load_vocabulary()
        self._rng = np.random.default_rng(seed)

    def after(
        self, opening: str, tokens: int, whole: Callable[[str], bool] = lambda _: False
    ) -> tuple[str, bool]:
        """(what follows `opening`, whether it came to an end): `tokens` tokens at most, the end of
        the document, or a `whole` text."""
        ids, cache = [LLAMA3_BOS, *self._vocabulary.tokenize(opening)], Cache()
        found: list[int] = []
        hidden = self._reference.hidden(torch.tensor([ids]), cache)
        for _ in range(tokens):
            token = self._draw(hidden[0, -1] @ self._output)
            if token in self._vocabulary.vocabulary.eog:
                return self._vocabulary.vocabulary.decode(found), True
            found.append(token)
            text = self._vocabulary.vocabulary.decode(found)
            if whole(text):
                return text, True
            hidden = self._reference.hidden(torch.tensor([[token]]), cache)
        return self._vocabulary.vocabulary.decode(found), False

    def _draw(self, logits: Tensor) -> int:
        p = torch.softmax(logits / TEMPERATURE, -1).double().numpy()
        order = np.argsort(-p, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(p[order]), TOP_P)) + 1]
        return int(self._active[int(self._rng.choice(kept, p=p[kept] / p[kept].sum()))])
