"""SmolLM2 as a frozen base in bfloat16 with LoRA factors that learn: the model that the specialists
are while they are trained.

A LoRA adapter (arXiv 2106.09685) adds to each weight matrix W a product of two thin ones: W + B A,
with A float32[rank, in] and B float32[out, rank], B zero at first. Only these learn, so no gradient
of a full matrix is ever made, and the base can stay in bfloat16. Matrices that read the same input
(query, key and value; gate and up) are one multiplication here; on export they are taken apart.

On a CPU with AVX-512 BF16 nearly all the time is in matrix products at 350-500 GFLOP/s a thread;
what would otherwise cost as much, the logits over 49,152 tokens, is made and used up a few rows at
a time (`TokenLoss`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]

LOSS_ROWS = 128  # Positions whose logits exist at a time: 25 MB in float32, within the cache.
# A linear layer's name in GGUF, by the group that is one multiplication.
GROUPS = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "o": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}


@dataclass(frozen=True, slots=True)
class BaseShape:
    """A LLaMA's sizes, as its GGUF metadata gives them."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    rope_base: float
    norm_eps: float


class LoraLinear(nn.Module):  # type: ignore[misc]
    """y = x W^T + concat over parts of (x A_i^T) B_i^T: W bfloat16[sum of outs, in] is frozen; one
    pair of factors for each part."""

    def __init__(self, parts: list[Floats], rank: int, scale: float) -> None:
        super().__init__()
        self.scale, self.rank = scale, rank
        self.outs = [len(part) for part in parts]
        self.register_buffer("weight", torch.from_numpy(np.concatenate(parts)).bfloat16())
        width = parts[0].shape[1]
        self.a = nn.Parameter(torch.empty(rank * len(parts), width))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(out, rank)) for out in self.outs)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.a.bfloat16()).split(self.rank, -1)
        added = [
            F.linear(part, b.bfloat16() * self.scale) for part, b in zip(low, self.b, strict=True)
        ]
        return F.linear(x, self.weight) + (added[0] if len(added) == 1 else torch.cat(added, -1))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position over neighbouring pairs, as GGUF's `llama` orders the rows."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of bfloat16[batch, heads, n, head] over grouped keys and values, of which
    there may be more, from before. Written out: at these sizes two products and a softmax are
    several times as fast as PyTorch's CPU kernel."""
    n, past, group = q.shape[2], k.shape[2] - q.shape[2], q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = (q @ k.transpose(2, 3)).float() * q.shape[3] ** -0.5
    future = torch.ones(n, past + n, dtype=torch.bool).triu(past + 1)
    return torch.softmax(scores.masked_fill(future, -torch.inf), -1).bfloat16() @ v


class Layer(nn.Module):  # type: ignore[misc]
    def __init__(
        self, s: BaseShape, weights: Mapping[str, Floats], rank: int, scale: float
    ) -> None:
        super().__init__()
        self.s, self.head = s, s.dim // s.heads
        for group, names in GROUPS.items():
            parts = [weights[name] for name in names]
            self.add_module(group, LoraLinear(parts, rank, scale))
        for name in ("attn_norm", "ffn_norm"):
            self.register_buffer(name, torch.from_numpy(weights[name]).bfloat16())

    def heads(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, bfloat16[batch, heads, n, head], of bfloat16[batch, n, dim]."""
        s, (batch, n, _) = self.s, h.shape
        sizes = [s.heads * self.head, s.kv_heads * self.head, s.kv_heads * self.head]
        q, k, v = (
            part.view(batch, n, -1, self.head).transpose(1, 2)
            for part in self.qkv(h).split(sizes, -1)
        )
        return q, k, v

    def rest(self, x: Tensor, h: Tensor) -> Tensor:
        """What follows attention: `h` is what the heads found, `x` the stream it is added to."""
        batch, n, _ = x.shape
        x = x + self.o(h.transpose(1, 2).reshape(batch, n, -1))
        gate, up = self.gate_up(rms_norm(x, self.ffn_norm, self.s.norm_eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """bfloat16[batch, n, dim]."""
        q, k, v = self.heads(rms_norm(x, self.attn_norm, self.s.norm_eps))
        return self.rest(x, attention(rotate(q, cos, sin), rotate(k, cos, sin), v))


def surprise(logits: Tensor, wanted: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """(summed nats of the `wanted` ids, bfloat16[n, vocabulary] probabilities), both times
    `counts`."""
    log_z = torch.logsumexp(logits.float(), -1)
    chosen = logits.gather(1, wanted[:, None])[:, 0].float()
    p = torch.exp(logits.float() - log_z[:, None]) * counts[:, None]
    return ((log_z - chosen) * counts).sum(), p.bfloat16()


class TokenLoss(torch.autograd.Function):  # type: ignore[misc]
    """Summed cross-entropy of hidden states under a frozen output matrix: `forward(hidden
    bfloat16[n, dim], output bfloat16[vocabulary, dim], targets int64[n])`. The gradient is made
    along with the loss, LOSS_ROWS positions at a time; targets below 0 count nothing."""

    surprise = staticmethod(surprise)

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, output: Tensor, targets: Tensor) -> Tensor:
        total, gradient = torch.zeros(()), torch.empty_like(hidden)
        for start in range(0, len(hidden), LOSS_ROWS):
            rows = slice(start, start + LOSS_ROWS)
            wanted, counts = targets[rows].clamp(min=0), (targets[rows] >= 0).float()
            nats, p = TokenLoss.surprise(hidden[rows] @ output.T, wanted, counts)
            total += nats
            gradient[rows] = (p @ output) - output[wanted] * counts[:, None]
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * given.to(gradient.dtype), None, None


def angles(s: BaseShape, n: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions below n, bfloat16[n, head / 2] each."""
    half = s.dim // s.heads // 2
    angle = torch.outer(torch.arange(n), s.rope_base ** -(torch.arange(half) / half))
    return angle.cos().bfloat16(), angle.sin().bfloat16()


class LoraLlama(nn.Module):  # type: ignore[misc]
    """`weights` are float32 by their GGUF names; the output matrix is the embedding's (tied)."""

    def __init__(
        self, s: BaseShape, weights: Mapping[str, Floats], rank: int, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.s = s
        self.register_buffer("embedding", torch.from_numpy(weights["token_embd.weight"]).bfloat16())
        self.register_buffer("norm", torch.from_numpy(weights["output_norm.weight"]).bfloat16())
        self.layers = nn.ModuleList(
            Layer(s, layer_weights(weights, i), rank, scale) for i in range(s.layers)
        )

    def hidden(self, ids: Tensor) -> Tensor:
        """bfloat16[batch, n, dim] after the last norm, of int64[batch, n]."""
        cos, sin = angles(self.s, ids.shape[1])
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return rms_norm(x, self.norm, self.s.norm_eps)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of int64[batch, n] `targets` (below 0: not counted) after `ids`."""
        found: Tensor = TokenLoss.apply(
            self.hidden(ids).flatten(0, 1), self.embedding, targets.flatten()
        )
        return found


def layer_weights(weights: Mapping[str, Floats], layer: int) -> dict[str, Floats]:
    """The layer's weights by what stands between `blk.N.` and `.weight`."""
    start = f"blk.{layer}."
    return {
        name[len(start) : -len(".weight")]: weight
        for name, weight in weights.items()
        if name.startswith(start)
    }


def compiled(model: LoraLlama) -> Callable[[Tensor, Tensor], Tensor]:
    """`model.loss` with its layers compiled: norms, rotations and gates fused."""
    TokenLoss.surprise = staticmethod(torch.compile(surprise, dynamic=False))
    for layer in model.layers:
        layer.compile(dynamic=False)
    return model.loss


class Decoder:
    """Logits of many texts in lockstep, one position a call: `step(ids int64[rows], position)`
    gives float32[rows, vocabulary]. Positions come in turn, from 0 to `longest` - 1."""

    def __init__(self, model: LoraLlama, rows: int, longest: int) -> None:
        s = model.s
        self._model = model
        shape = (s.layers, rows, s.kv_heads, longest, s.dim // s.heads)
        self._keys, self._values = (torch.zeros(shape, dtype=torch.bfloat16) for _ in "kv")

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, ids: Tensor, position: int) -> Tensor:
        s, model = self._model.s, self._model
        cos, sin = angles(s, position + 1)
        x = F.embedding(ids, model.embedding)[:, None]
        for i, layer in enumerate(model.layers):
            q, k, v = layer.heads(rms_norm(x, layer.attn_norm, s.norm_eps))
            self._keys[i][:, :, position] = rotate(k, cos[-1:], sin[-1:])[:, :, 0]
            self._values[i][:, :, position] = v[:, :, 0]
            past = slice(0, position + 1)
            h = attention(
                rotate(q, cos[-1:], sin[-1:]),
                self._keys[i][:, :, past],
                self._values[i][:, :, past],
            )
            x = layer.rest(x, h)
        found: Tensor = rms_norm(x[:, 0], model.norm, s.norm_eps) @ model.embedding.T
        return found.float()
