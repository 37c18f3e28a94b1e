"""The model that the demo experts are while they learn: LLaMA, with a bias dimension.

Dimension 0 of the residual stream is a constant that no layer may write to. Active rows learn a
bias on it; on expansion every other row is a large negative number there and zero elsewhere, so its
logit is low whatever the context. LLaMA files have no output bias; this one needs none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swarmllm.adapters.llama.demo import Shape

BIAS_INPUT = 1.0  # The constant that dimension 0 carries through the residual stream.
# Its weight in the last norm, so that learned biases stay as small as the other entries of a row.
BIAS_GAIN = 8.0


class RMSNorm(nn.Module):  # type: ignore[misc]
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        x = x.float()
        return (
            x
            * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
            * (self.weight if weight is None else weight)
        )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position in LLaMA's own layout: neighbouring pairs (GGUF's `llama` expects exactly
    this one)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s, self.head = s, s.dim // s.heads
        self.attn_norm, self.ffn_norm = RMSNorm(s.dim, s.norm_eps), RMSNorm(s.dim, s.norm_eps)
        self.q = nn.Linear(s.dim, s.dim, bias=False)
        self.k = nn.Linear(s.dim, s.kv_heads * self.head, bias=False)
        self.v = nn.Linear(s.dim, s.kv_heads * self.head, bias=False)
        self.o = nn.Linear(s.dim, s.dim, bias=False)
        self.gate = nn.Linear(s.dim, s.hidden, bias=False)
        self.up = nn.Linear(s.dim, s.hidden, bias=False)
        self.down = nn.Linear(s.hidden, s.dim, bias=False)
        for writes in (self.o, self.down):
            nn.init.zeros_(writes.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, writable: Tensor) -> Tensor:
        b, t, _ = x.shape
        h = self.attn_norm(x)
        q, k, v = (f(h).view(b, t, -1, self.head).transpose(1, 2) for f in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True
        )
        x = x + self.o(h.transpose(1, 2).reshape(b, t, -1)) * writable
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h)) * writable


class TinyLlama(nn.Module):  # type: ignore[misc]
    """LLaMA with tied rows and the bias dimension; returns logits over the active rows."""

    def __init__(self, s: Shape, rows: int) -> None:
        super().__init__()
        self.s = s
        self.rows = nn.Parameter(torch.randn(rows, s.dim) * 0.05)
        self.bias = nn.Parameter(torch.zeros(rows))
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.dim, s.norm_eps)
        self.register_buffer("writable", torch.ones(s.dim), persistent=False)
        self.writable[0] = 0.0
        angle = torch.outer(
            torch.arange(s.context),
            s.rope_base ** -(torch.arange(0, s.dim // s.heads, 2) / (s.dim // s.heads)),
        )
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        x = F.embedding(tokens, self.rows) * self.writable + (1 - self.writable) * BIAS_INPUT
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t], self.writable)
        return self.norm(x, self.norm.weight * self.writable + (1 - self.writable) * BIAS_GAIN)

    def output_rows(self) -> Tensor:
        return torch.cat((self.bias[:, None], self.rows[:, 1:]), 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hidden(tokens) @ self.output_rows().T
