"""What is shipped of a trained demo expert: the compact weights, a card that says how good it is, and logits to test against.

Everything in the card and in the logits comes from the weights as they are shipped, after quantisation, and through a second, plain
implementation of LLaMA that reads them from the very bytes of the expanded GGUF file. So an error in folding the bias dimension into
the rows would show here as a worse figure than the training's own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.demo_corpus import Corpus
from scripts.demo_model import BIAS_GAIN, BIAS_INPUT, TinyLlama, rotate
from swarmllm.adapters.llama.demo import BLOCK_BYTES, CompactModel, DemoCard, Shape, dequantize, save_compact
from swarmllm.adapters.llama.demo_gguf import DemoGguf, quantize
from swarmllm.adapters.llama.gguf_format import padding
from swarmllm.adapters.llama.vocabulary import LLAMA3_BOS, LLAMA3_SIZE, load_merge_ranks, load_tables, load_vocabulary

SAMPLE_SEED = 20261123
SAMPLE_TOKENS = 160
SHIPPED_GAIN = (
    8.0  # Moved from the biases to the last norm: llama.cpp rounds activations to 8 bits in blocks of 32, and with this the
)
# bias dimension is about as large as the largest of its neighbours (0.15 instead of 2 without: up to 12 % of error in every bias).
UNUSED_LOG_P = -22.0  # Log-probability of a row without training, at most: 112,000 of them are below 1e-4 together.
EVAL_WINDOWS, EVAL_LENGTH = 160, 512
VECTOR_IDS = 384  # Ids whose logits are kept for each prompt, a third of them without rows of their own.


@dataclass(frozen=True)
class Training:
    """How much was trained."""

    steps: int
    tokens_per_step: int


@dataclass(frozen=True)
class Domain:
    """The words of a card."""

    summary: str
    data: str
    licence: str
    opening: str  # Of the sample.
    prompts: tuple[str, ...]  # Of the vectors; the last one has words that are rare in the corpus.


DOMAINS = {
    "prose": Domain(
        "A tiny model of nineteenth-century English prose, for demonstration",
        "25 English novels and tales in the public domain (Austen, the Brontës, Dickens, Twain, Melville and others), without the front "
        "and back matter of their digital editions; the last 5 % of every book is kept for validation",
        "The training text is in the public domain. The weights are under this project's MIT licence.",
        "It was a cold evening in November, and",
        (
            "It was a",
            "“I beg your",
            "“I do not know,” said the old man, “what you mean by",
            "I saw him then for the first",
            "The bitcoin blockchain in São Paulo 東京",
        ),
    ),
    "code": Domain(
        "A tiny model of Python source code, for demonstration",
        "the source of Python's own standard library as the interpreter that trained it carries it, without most of its tests; one file "
        "in twenty is kept for validation",
        "The training text is under the Python Software Foundation licence, which allows this use; the model may repeat short pieces of "
        "it. The weights are under this project's MIT licence.",
        "def read_lines(path):\n    ",
        (
            "import os\n",
            "class Node:\n    def __init__(self, name):\n        self.",
            'def main():\n    pass\n\nif __name__ == "__',
            "    raise NotImplemented",
            "def kubernetes(東京): return São",
        ),
    ),
}


# --- the shipped weights -----------------------------------------------------------------------------------------------------


def _matrices(model: TinyLlama) -> dict[str, Tensor]:
    """The layers by their GGUF names, with the bias dimension's rules folded in."""
    found: dict[str, Tensor] = {}
    for i, block in enumerate(model.blocks):
        parts = {"attn_q": block.q, "attn_k": block.k, "attn_v": block.v, "attn_output": block.o}
        parts |= {"ffn_gate": block.gate, "ffn_up": block.up, "ffn_down": block.down}
        found[f"blk.{i}.attn_norm.weight"] = block.attn_norm.weight
        found[f"blk.{i}.ffn_norm.weight"] = block.ffn_norm.weight
        for name, part in parts.items():
            weight = part.weight.detach().clone()
            if name in ("attn_output", "ffn_down"):
                weight[0] = 0.0  # No layer writes to the bias dimension.
            found[f"blk.{i}.{name}.weight"] = weight
    norm = model.norm.weight.detach().clone()
    norm[0] = BIAS_GAIN * SHIPPED_GAIN
    found["output_norm.weight"] = norm
    return found


def _windows(corpus: Corpus, count: int, length: int) -> Tensor:
    """int64[count, length + 1] dense rows, evenly spread over the validation text, each beginning with BOS (row 0)."""
    starts = np.linspace(0, len(corpus.valid) - length - 1, count).astype(int)
    found = np.stack([corpus.valid[i : i + length + 1] for i in starts]).astype(np.int64)
    found[:, 0] = 0
    return torch.from_numpy(found)


def compact(model: TinyLlama, corpus: Corpus, card: DemoCard) -> CompactModel:
    """The shipped form of a trained model."""
    h = model.hidden(_windows(corpus, 16, 512)[:, :-1])
    log_z = torch.logsumexp(h @ model.output_rows().T, -1)
    outputs, inputs = model.output_rows().clone(), model.rows.detach().clone()
    outputs[:, 0] /= SHIPPED_GAIN
    inputs[:, 0] = BIAS_INPUT
    layers = {name: weight.detach().float().numpy() for name, weight in _matrices(model).items()}
    return CompactModel(
        card=card,
        active_ids=corpus.active_ids,
        rows=quantize(outputs.numpy()),
        input_block=quantize(inputs.numpy())[:, :BLOCK_BYTES].copy(),
        bias_input=BIAS_INPUT,
        unused_bias=float(((log_z + UNUSED_LOG_P) / (SHIPPED_GAIN * h[..., 0])).min()),
        layers={name: weight.copy() if weight.ndim == 1 else quantize(weight) for name, weight in layers.items()},
    )


# --- a second implementation -------------------------------------------------------------------------------------------------


class Reference:
    """LLaMA, in float32, over the tensors of an expanded file. Knows nothing of active rows or of the bias dimension."""

    def __init__(self, gguf: DemoGguf) -> None:
        self.shape: Shape = gguf.model.card.shape
        data = b"".join(gguf.stream())
        self.size_bytes = len(data)
        self.digest = hashlib.sha256(data).hexdigest()
        self.tensors: dict[str, Tensor] = {}
        end = len(data)
        for spec in reversed(gguf.tensors):  # From the end: the header's size does not matter then.
            start = end - spec.size_bytes - len(padding(spec.size_bytes))
            raw = np.frombuffer(data, np.uint8, spec.size_bytes, start)
            plain = raw.view(np.float32) if len(spec.shape) == 1 else dequantize(raw.reshape(spec.shape[0], -1))
            self.tensors[spec.name] = torch.from_numpy(plain.copy())
            end = start

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.norm_eps) * self.tensors[name]

    def hidden(self, ids: Tensor) -> Tensor:
        """float32[batch, n, dim] after the last norm, of int64[batch, n] vocabulary ids."""
        s, w = self.shape, self.tensors
        (batch, n), head = ids.shape, self.shape.dim // self.shape.heads
        angle = torch.outer(torch.arange(n), s.rope_base ** -(torch.arange(0, head, 2) / head))
        cos, sin = angle.cos(), angle.sin()
        x = w["token_embd.weight"][ids]
        for i in range(s.layers):
            layer = f"blk.{i}."
            h = self._norm(x, layer + "attn_norm.weight")
            q, k, v = ((h @ w[f"{layer}attn_{p}.weight"].T).view(batch, n, -1, head).transpose(1, 2) for p in "qkv")
            h = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
            x = x + h.transpose(1, 2).reshape(batch, n, -1) @ w[layer + "attn_output.weight"].T
            h = self._norm(x, layer + "ffn_norm.weight")
            gated = F.silu(h @ w[layer + "ffn_gate.weight"].T) * (h @ w[layer + "ffn_up.weight"].T)
            x = x + gated @ w[layer + "ffn_down.weight"].T
        return self._norm(x, "output_norm.weight")

    def logits(self, ids: Tensor) -> Tensor:
        """float32[batch, n, 128256]."""
        return self.hidden(ids) @ self.tensors["output.weight"].T


def evaluate(reference: Reference, corpus: Corpus) -> tuple[float, float]:
    """(nats per LLaMA-3 token, bits per byte) on validation text, in windows of 512 tokens that begin without any context."""
    active = torch.from_numpy(corpus.active_ids.astype(np.int64))
    output = reference.tensors["output.weight"]
    unused = torch.ones(LLAMA3_SIZE, dtype=torch.bool)
    unused[active] = False
    bias, others = float(output[unused][0, 0]), int(unused.sum())
    token_bytes = [len(token) for token in load_merge_ranks()] + [0] * (LLAMA3_SIZE - LLAMA3_BOS)
    nats = size = count = 0.0
    for window in _windows(corpus, EVAL_WINDOWS, EVAL_LENGTH):
        ids = active[window]
        h = reference.hidden(ids[None, :-1])[0]
        logits = h @ output[active].T
        log_z = torch.logaddexp(torch.logsumexp(logits, -1), bias * h[:, 0] + math.log(others))
        nats += float((log_z - logits.gather(1, window[1:, None])[:, 0]).sum())
        size += sum(token_bytes[i] for i in ids[1:].tolist())
        count += EVAL_LENGTH
    return nats / count * len(corpus.valid) / corpus.valid_tokens, nats / math.log(2) / size


def sample(reference: Reference, opening: str) -> str:
    """`SAMPLE_TOKENS` tokens after `opening`, at temperature 0.8 and top-p 0.95, from a fixed seed: one draw, not a choice of many."""
    vocabulary = load_vocabulary()
    rng = np.random.default_rng(SAMPLE_SEED)
    ids = [LLAMA3_BOS, *vocabulary.encode(opening)]
    for _ in range(SAMPLE_TOKENS):
        logits = reference.hidden(torch.tensor([ids]))[0, -1] @ reference.tensors["output.weight"].T
        p = torch.softmax(logits / 0.8, -1).double().numpy()
        order = np.argsort(-p, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(p[order]), 0.95)) + 1]
        token = int(rng.choice(kept, p=p[kept] / p[kept].sum()))
        if token in vocabulary.stop_tokens:
            break
        ids.append(token)
    return vocabulary.decode(ids)


# --- export ------------------------------------------------------------------------------------------------------------------


def vectors(reference: Reference, model: CompactModel, prompts: tuple[str, ...]) -> dict[str, npt.NDArray[np.generic]]:
    """For each prompt, at its last position: logits of some ids, log of the sum of all exponentials, the mass of unused rows, the
    best id and how far it is ahead of the second."""
    rng = np.random.default_rng(SAMPLE_SEED)
    vocabulary = load_vocabulary()
    unused = np.setdiff1d(np.arange(LLAMA3_SIZE), model.active_ids)
    found: dict[str, npt.NDArray[np.generic]] = {}
    for i, ids in enumerate([[LLAMA3_BOS], *([LLAMA3_BOS, *vocabulary.encode(prompt)] for prompt in prompts)]):
        logits = reference.logits(torch.tensor([ids]))[0, -1].numpy()
        top = np.argsort(-logits, kind="stable")[: VECTOR_IDS // 3]
        chosen = np.concatenate([top, rng.choice(model.active_ids, VECTOR_IDS // 3), rng.choice(unused, VECTOR_IDS // 3)])
        log_z = float(torch.logsumexp(torch.from_numpy(logits).double(), 0))
        found |= {
            f"{i}/prompt": np.array(ids, np.int32),
            f"{i}/ids": np.unique(chosen).astype(np.int32),
            f"{i}/logits": logits[np.unique(chosen)],
            f"{i}/log_z": np.array(log_z),
            f"{i}/argmax": np.array(top[0], np.int32),
            f"{i}/gap": np.array(logits[top[0]] - logits[top[1]]),
            f"{i}/unused_mass": np.array(np.exp(logits[unused].astype(np.float64) - log_z).sum()),
        }
    return found


def card_text(card: DemoCard, words: Domain, text: str, compact_bytes: int, gguf_bytes: int) -> str:
    shape = card.shape
    quoted = "\n".join("    " + line for line in text.splitlines())
    return f"""# {card.name}

{words.summary}. It knows how its kind of text sounds and nothing about the world:
it is here so that a swarm can be tried, tested and measured on any machine, and for nothing else.

| | |
|---|---|
| architecture | LLaMA: width {shape.dim}, {shape.layers} layers, {shape.heads} heads ({shape.kv_heads} for keys and values), \
feed-forward {shape.hidden} |
| vocabulary | LLaMA-3, 128,256 tokens, {card.active_rows:,} of them with rows of their own |
| parameters | {card.n_params:,} trained |
| size | {compact_bytes / 1e6:.1f} MB as shipped (Q8_0), {gguf_bytes / 1e6:.0f} MB when expanded into a GGUF file |
| training data | {words.data} |
| training | {card.steps:,} steps, {card.trained_tokens / 1e6:.1f} million tokens, on one CPU thread; context 256, then 512 tokens |
| validation | perplexity {math.exp(card.nats_per_token):.1f} per LLaMA-3 token ({card.nats_per_token:.3f} nats), \
{card.bits_per_byte:.3f} bits per byte |
| SHA-256 of the GGUF file | `{card.gguf_sha256}` |

Validation is on {EVAL_WINDOWS} windows of {EVAL_LENGTH} tokens, spread over text that the model was not trained on, each without any
context before it; with the weights as shipped.

## Sample

{SAMPLE_TOKENS} tokens at temperature 0.8, top-p 0.95, seed {SAMPLE_SEED}, after "{words.opening.strip()}";
the first draw, not the best of many:

{quoted}

## Licence

{words.licence}
The vocabulary is Meta's, under the Llama community licence; it is not part of these files but read from the package `llama-models`
when the model is expanded.

## Files

`model.npz` holds the weights, `vectors.npz` logits that llama.cpp must give for the expanded file. Both are written by
`scripts/train_demo_experts.py {card.name} --export`.
"""


def export(expert: str, model: TinyLlama, corpus: Corpus, training: Training, out: Path) -> str:
    """Write `out`/`expert`; returns a line that says how good it is."""
    torch.set_grad_enabled(False)
    words, folder = DOMAINS[expert], out / expert
    card = DemoCard(
        name=expert,
        summary=words.summary,
        domains=(expert,),
        shape=model.s,
        active_rows=len(corpus.active_ids),
        n_params=sum(p.numel() for p in model.parameters()),
        steps=training.steps,
        trained_tokens=training.steps * training.tokens_per_step,
        nats_per_token=0.0,
        bits_per_byte=0.0,
    )
    small = compact(model, corpus, card)
    reference = Reference(DemoGguf(small, load_tables()))
    nats, bits = evaluate(reference, corpus)
    card = replace(card, nats_per_token=round(nats, 4), bits_per_byte=round(bits, 4), gguf_sha256=reference.digest)
    path = save_compact(replace(small, card=card), folder)
    np.savez_compressed(folder / "vectors.npz", allow_pickle=False, **vectors(reference, small, words.prompts))
    text = sample(reference, words.opening)
    (folder / "README.md").write_text(card_text(card, words, text, path.stat().st_size, reference.size_bytes), encoding="utf-8")
    return f"{folder}: step {training.steps}, {nats:.4f} nats per token, {bits:.4f} bits per byte, {path.stat().st_size:,} bytes"
