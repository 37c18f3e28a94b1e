"""Train the bundled demo experts: tiny LLaMA-architecture models over the LLaMA-3 vocabulary.

    python scripts/train_demo_experts.py prose --corpus ../shared/corpora/prose --steps 3000

Trains on one CPU thread by default, in bfloat16, from a fixed seed. Interrupt it whenever you like: it writes a checkpoint every
few minutes and goes on from there when it is started again. `--export` writes the compact form that the package ships, a model
card, and the logits that the test suite compares llama.cpp with.

Three ideas keep a 128,256-word model small enough to train on a laptop:

* **Active ids.** Only ids that are frequent in the corpus get rows of their own. A rarer token is written as the two BPE pieces
  it was merged from (recursively), so every text can still be learned and generated.
* **A bias dimension.** Dimension 0 of the residual stream is a constant that no layer may write to. Active rows learn a bias on
  it; on expansion every other row is a large negative number there and zero elsewhere, so its logit is low whatever the context.
  LLaMA files have no output bias; this one needs none.
* **Warm-up, stable, decay.** The learning rate is constant until the last fifth of `--steps`, so a run can be prolonged later.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swarmllm.adapters.llama.demo import CompactModel
from swarmllm.adapters.llama.vocabulary import LLAMA3_BOS, LLAMA3_EOS, load_merge_ranks, load_vocabulary

ROOT = Path(__file__).resolve().parent.parent
BIAS_INPUT = 1.0  # The constant that dimension 0 carries through the residual stream.
BIAS_GAIN = 8.0  # Its weight in the last norm, so that learned biases stay as small as the other entries of a row.
SEED = 20261123


@dataclass(frozen=True)
class Shape:
    """Width and depth of one expert, in LLaMA's terms."""

    dim: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 704
    context: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5


SHAPES = {"prose": Shape(), "code": Shape()}
MIN_COUNT = 8  # Ids seen less often than this are split into their pieces (about 1 % of the tokens).


# --- corpus ------------------------------------------------------------------------------------------------------------------


def clean_book(text: str) -> str:
    """Unwrap paragraphs and drop the marks of the digital edition, so that the model learns sentences and not line breaks."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if not lines or any("[Illustration" in line for line in lines):
            continue
        wrapped = len(lines) > 1 and sum(map(len, lines[:-1])) / (len(lines) - 1) > 45
        paragraph = (" " if wrapped or len(lines) == 1 else "\n").join(lines).replace("_", "")
        if not re.search(r" {4}|\.{4}", paragraph):  # Tables of contents.
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def read_prose(corpus: Path) -> Iterator[tuple[str, str]]:
    """(training text, validation text) of every book; the last 5 % of a book is never trained on."""
    for path in sorted(corpus.glob("*.txt")):
        text = clean_book(path.read_text(encoding="utf-8"))
        cut = text.rfind("\n\n", 0, int(len(text) * 0.95))
        yield text[:cut], text[cut:].strip()


def read_code(_: Path) -> Iterator[tuple[str, str]]:
    """(training text, validation text) of the running interpreter's standard library; one file in twenty is validation."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
        if re.match(r"(site-packages|encodings|pydoc_data|lib2to3)/", name) or ("test" in name and bucket % 3):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if 200 < len(text) < 200_000 and sum(map(str.isascii, text)) > 0.99 * len(text):
            yield ("", text) if bucket % 20 == 7 else (text, "")


READERS = {"prose": read_prose, "code": read_code}


@dataclass
class Corpus:
    """Token streams over dense row numbers (0 is BOS, 1 is EOS), and the vocabulary id of each row."""

    active_ids: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    valid_tokens: int  # Before splitting: the unit that perplexity is reported in.


def split_rare(ranks: dict[bytes, int]) -> dict[int, tuple[int, int]]:
    """For every id made of two pieces: the pieces of its last BPE merge."""
    pieces: dict[int, tuple[int, int]] = {}
    for token, rank in ranks.items():
        best = min(
            (
                (max(ranks[token[:i]], ranks[token[i:]]), i)
                for i in range(1, len(token))
                if token[:i] in ranks and token[i:] in ranks
            ),
            default=None,
        )
        if best is not None:
            pieces[rank] = (ranks[token[: best[1]]], ranks[token[best[1] :]])
    return pieces


def prepare(expert: str, corpus: Path, cache: Path) -> Corpus:
    if cache.exists():
        return Corpus(**{k: v if v.ndim else int(v) for k, v in np.load(cache).items()})
    vocabulary = load_vocabulary()
    documents = [(vocabulary.encode(a), vocabulary.encode(b)) for a, b in READERS[expert](corpus)]
    if not documents:
        raise SystemExit(f"train_demo_experts: no text found in {corpus}")
    ranks = load_merge_ranks()
    pieces = split_rare(ranks)
    counts = Counter(token for train, _ in documents for token in train)
    keep = {rank for token, rank in ranks.items() if len(token) == 1} | {t for t, n in counts.items() if n >= MIN_COUNT}

    def split(token: int) -> list[int]:
        if token in keep or token not in pieces:
            return [token]
        left, right = pieces[token]
        return split(left) + split(right)

    streams: list[list[int]] = [[], []]
    for document in documents:
        for stream, tokens in zip(streams, document, strict=True):
            if tokens:
                stream += [LLAMA3_BOS, *(part for token in tokens for part in split(token)), LLAMA3_EOS]
    seen = sorted(set(streams[0]) | set(streams[1]) | keep - {LLAMA3_BOS, LLAMA3_EOS})
    active = np.array([LLAMA3_BOS, LLAMA3_EOS, *(t for t in seen if t < LLAMA3_BOS)], np.int32)
    row = {int(token): i for i, token in enumerate(active)}
    train, valid = (np.array([row[t] for t in stream], np.int32) for stream in streams)
    found = Corpus(active, train, valid, sum(len(b) for _, b in documents))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **asdict(found))
    return found


# --- model -------------------------------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (self.weight if weight is None else weight)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position in LLaMA's own layout: neighbouring pairs (GGUF's `llama` expects exactly this one)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
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
        h = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
        x = x + self.o(h.transpose(1, 2).reshape(b, t, -1)) * writable
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h)) * writable


class TinyLlama(nn.Module):
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
        angle = torch.outer(torch.arange(s.context), s.rope_base ** -(torch.arange(0, s.dim // s.heads, 2) / (s.dim // s.heads)))
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


# --- training ----------------------------------------------------------------------------------------------------------------


def windows(stream: np.ndarray, length: int, batch: int, step: int) -> Tensor:
    """The batch of one step: a pure function of (seed, step), so that a resumed run sees what an uninterrupted one would."""
    rng = np.random.default_rng((SEED, step))
    starts = rng.integers(0, len(stream) - length, batch)
    found = np.stack([stream[i : i + length + 1] for i in starts])
    found[:, 0] = 0  # Every context begins with BOS, as at inference.
    return torch.from_numpy(found.astype(np.int64))


def rate(step: int, steps: int) -> float:
    """Warm-up over 100 steps, stable, then linear decay over the last fifth."""
    decay = max(1, steps // 5)
    return min(1.0, (step + 1) / 100, max(0.02, (steps - step) / decay))


def optimizers(model: TinyLlama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers (about twice the progress per token of Adam here), Adam for rows and norms."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.02),
        torch.optim.Adam(others, lr=0.004, betas=(0.9, 0.98), eps=1e-8),
    ]


def loss_of(model: TinyLlama, batch: Tensor, reduction: str = "mean") -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)


@torch.no_grad()
def validate(model: TinyLlama, corpus: Corpus, length: int, limit: int) -> float:
    """Nats per vocabulary token on the first `limit` windows of the validation text."""
    count = min(limit, (len(corpus.valid) - 1) // length)
    total = 0.0
    for i in np.linspace(0, len(corpus.valid) - length - 1, count).astype(int):
        window = corpus.valid[i : i + length + 1].astype(np.int64)
        window[0] = 0
        total += float(loss_of(model, torch.from_numpy(window)[None], "sum"))
    return total / (count * length) * len(corpus.valid) / corpus.valid_tokens


def train(args: argparse.Namespace, corpus: Corpus, work: Path) -> TinyLlama:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    torch.manual_seed(SEED)
    shape = SHAPES[args.expert]
    model = TinyLlama(shape, len(corpus.active_ids))
    found = optimizers(model)
    base = [[g["lr"] for g in o.param_groups] for o in found]
    checkpoint, step = work / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for o, s in zip(found, state["optimizers"], strict=True):
            o.load_state_dict(s)
        step = state["step"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in found], "step": step}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)  # Never half a checkpoint.

    n_params = sum(p.numel() for p in model.parameters())
    console = Console(stderr=True)
    console.print(
        f"{args.expert}: {n_params:,} parameters, {len(corpus.active_ids):,} active ids, {len(corpus.train):,} tokens, step {step}"
    )
    saved, started, first, smooth = time.monotonic(), time.monotonic(), step, float("nan")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, (work / "log.jsonl").open("a") as log:
        task = progress.add_task(args.expert, total=args.steps, completed=step)
        while step < args.steps:
            length, batch = (args.length, args.batch) if step < args.steps * 9 // 10 else (args.length * 2, args.batch // 2)
            for o, rates in zip(found, base, strict=True):
                for group, lr in zip(o.param_groups, rates, strict=True):
                    group["lr"] = lr * rate(step, args.steps)
            loss = loss_of(model, windows(corpus.train, length, batch, step))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for o in found:
                o.step()
                o.zero_grad()
            step += 1
            smooth = float(loss) if math.isnan(smooth) else 0.98 * smooth + 0.02 * float(loss)
            speed = (step - first) * args.length * args.batch / (time.monotonic() - started)
            progress.update(task, completed=step, description=f"{args.expert} loss {smooth:.3f} {speed:,.0f} tokens/s")
            if step % 50 == 0:
                row = {"step": step, "loss": round(smooth, 4), "tokens_per_s": round(speed)}
                if step % 500 == 0 or step == args.steps:
                    row["valid"] = round(validate(model, corpus, 512, 40), 4)
                print(json.dumps(row), file=log, flush=True)
            if time.monotonic() - saved > 180 or step == args.steps:
                save()
                saved = time.monotonic()
    return model


# --- export ------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def compact(args: argparse.Namespace, model: TinyLlama, corpus: Corpus) -> CompactModel:
    """The shipped form; `unused_bias` puts every row without training about exp(-22) below the rest (total mass below 1e-4)."""
    window = torch.from_numpy(corpus.valid[: 512 * 16].astype(np.int64)).view(16, 512)
    window[:, 0] = 0
    h = model.hidden(window)
    log_z = torch.logsumexp(h @ model.output_rows().T, -1)
    unused_bias = float(((log_z - 22.0) / h[..., 0]).min())
    layers = {}
    for i, block in enumerate(model.blocks):
        parts = {"attn_q": block.q, "attn_k": block.k, "attn_v": block.v, "attn_output": block.o}
        parts |= {"ffn_gate": block.gate, "ffn_up": block.up, "ffn_down": block.down}
        for name, part in parts.items():
            weight = part.weight.detach().clone()
            if name in ("attn_output", "ffn_down"):
                weight[0] = 0.0  # No layer writes to the bias dimension.
            layers[f"blk.{i}.{name}.weight"] = weight.numpy()
        layers[f"blk.{i}.attn_norm.weight"] = block.attn_norm.weight.numpy()
        layers[f"blk.{i}.ffn_norm.weight"] = block.ffn_norm.weight.numpy()
    norm = model.norm.weight.detach().clone()
    norm[0] = BIAS_GAIN
    layers["output_norm.weight"] = norm.numpy()
    return CompactModel(
        name=args.expert,
        shape=asdict(model.s),
        active_ids=corpus.active_ids,
        rows=model.rows.detach().numpy(),
        bias=model.bias.detach().numpy(),
        bias_input=BIAS_INPUT,
        unused_bias=unused_bias,
        layers=layers,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expert", choices=sorted(SHAPES))
    parser.add_argument(
        "--corpus", type=Path, default=ROOT.parent / "shared" / "corpora" / "prose", help="folder of .txt books (prose)"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--length", type=int, default=256, help="tokens per window; doubled for the last tenth of the steps")
    parser.add_argument("--batch", type=int, default=16, help="windows per step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / ".train", help="folder for the token cache, checkpoints and logs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work / args.expert
    corpus = prepare(args.expert, args.corpus, work / "tokens.npz")
    train(args, corpus, work)
    sys.exit(0)


if __name__ == "__main__":
    main()
