"""What is shipped of a trained demo expert: the compact weights, a card that says how good it is,
and logits to test against.

Everything in the card and in the logits comes from the weights as they are shipped, after
quantisation, through demo_reference.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor

from scripts.demo_corpus import Corpus
from scripts.demo_family import DOMAINS, EXPERTS, Domain
from scripts.demo_model import BIAS_GAIN, BIAS_INPUT, TinyLlama
from scripts.demo_reference import (
    TEMPERATURE,
    TOP_P,
    Expanded,
    Reference,
    Writer,
    evaluate,
    windows,
)
from scripts.demo_trials import TRIAL_OF
from swarmllm.adapters.llama.demo import BLOCK_BYTES, CompactModel, DemoCard, save_compact
from swarmllm.adapters.llama.demo_gguf import DemoGguf, quantize
from swarmllm.adapters.llama.vocabulary import LLAMA3_BOS, LLAMA3_SIZE, load_tables, load_vocabulary

SAMPLE_SEED = 20261123
SAMPLE_TOKENS = 160
# Moved from the biases to the last norm: llama.cpp rounds activations to 8 bits in blocks of 32,
# and with this the bias dimension is about as large as the largest of its neighbours (0.15 instead
# of 2 without: up to 12 % of error in every bias).
SHIPPED_GAIN = 8.0
# Log-probability of a row without training, at most. 112,000 of them take 0.5 % of the mass where
# they take most, and a word that the expert has never seen costs some 20 nats instead of 25: it is
# to be surprised by another domain, not struck dumb.
UNUSED_LOG_P = -17.0
EVAL_WINDOWS, EVAL_LENGTH = 160, 512
COST_WINDOWS = 40  # For comparing storages, all on the same text.
# Ids whose logits are kept for each prompt, a third of them without rows of their own.
VECTOR_IDS = 384

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Training:
    """How much was trained, and how fast (0: not known); of which shipped expert it went on from,
    the steps (0: from chance)."""

    steps: int
    tokens_per_step: int
    tokens_per_s: int
    earlier: int = 0


# --- the shipped weights --------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Weights:
    """The weights before quantisation, with the bias dimension's rules folded in: float32[rows,
    dim] `outputs` and `inputs` of the active ids, and `layers` by their GGUF names."""

    outputs: Floats
    inputs: Floats
    layers: dict[str, Floats]


def weights_of(model: TinyLlama) -> Weights:
    outputs, inputs = model.output_rows().detach().clone(), model.rows.detach().clone()
    outputs[:, 0] /= SHIPPED_GAIN
    inputs[:, 0] = BIAS_INPUT
    return Weights(
        outputs.numpy(),
        inputs.numpy(),
        {name: w.detach().float().numpy() for name, w in _matrices(model).items()},
    )


def compact(model: TinyLlama, corpus: Corpus, card: DemoCard) -> CompactModel:
    """The shipped form of a trained model."""
    h = model.hidden(windows(corpus, 16, 512)[:, :-1])
    log_z = torch.logsumexp(h @ model.output_rows().T, -1)
    found = weights_of(model)
    return CompactModel(
        card=card,
        active_ids=corpus.active_ids,
        rows=quantize(found.outputs),
        input_block=quantize(found.inputs)[:, :BLOCK_BYTES].copy(),
        bias_input=BIAS_INPUT,
        unused_bias=float(((log_z + UNUSED_LOG_P) / (SHIPPED_GAIN * h[..., 0])).min()),
        layers={
            name: weight.copy() if weight.ndim == 1 else quantize(weight)
            for name, weight in found.layers.items()
        },
    )


# --- what quantisation costs ----------------------------------------------------------------------


def _q4_0(weights: Floats) -> Floats:
    """float32[n, d] as llama.cpp's Q4_0 would keep it."""
    kept: Floats = quants.dequantize(
        quants.quantize(weights, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0
    )
    return kept


def stored(
    reference: Reference,
    model: TinyLlama,
    active_ids: npt.NDArray[np.int32],
    keep: Callable[[Floats], Floats],
) -> Reference:
    """`reference` with the trained weights as `keep` would store them (norms are always
    float32)."""
    found, ids = weights_of(model), torch.from_numpy(active_ids.astype(np.int64))
    tensors = {
        name: torch.from_numpy(weight if weight.ndim == 1 else keep(weight))
        for name, weight in found.layers.items()
    } | {name: reference.tensors[name].clone() for name in ("token_embd.weight", "output.weight")}
    tensors["token_embd.weight"][ids] = torch.from_numpy(keep(found.inputs))
    tensors["output.weight"][ids] = torch.from_numpy(keep(found.outputs))
    return Reference(reference.shape, tensors)


@dataclass(frozen=True)
class Cost:
    """Nats per LLaMA-3 token of the same text with the same weights: as trained, as shipped, and in
    half of that room."""

    float32: float
    q8_0: float
    q4_0: float

    def text(self) -> str:
        return (
            f"{self.float32:.4f} nats with float32 weights,"
            f" {self.q8_0:.4f} with Q8_0 ({self.q8_0 / self.float32 - 1:+.2%}, as shipped), "
            f"{self.q4_0:.4f} with Q4_0 ({self.q4_0 / self.float32 - 1:+.2%})"
        )


def cost_of(reference: Reference, model: TinyLlama, corpus: Corpus) -> Cost:
    variants = (
        stored(reference, model, corpus.active_ids, lambda w: w),
        reference,
        stored(reference, model, corpus.active_ids, _q4_0),
    )
    return Cost(*(evaluate(variant, corpus, COST_WINDOWS, EVAL_LENGTH)[0] for variant in variants))


# --- export ---------------------------------------------------------------------------------------


def vectors(
    reference: Reference, model: CompactModel, prompts: tuple[str, ...]
) -> dict[str, npt.NDArray[np.generic]]:
    """For each prompt, at its last position: logits of some ids, log of the sum of all
    exponentials, the mass of unused rows, the best id and how far it is ahead of the second."""
    rng = np.random.default_rng(SAMPLE_SEED)
    vocabulary = load_vocabulary()
    unused = np.setdiff1d(np.arange(LLAMA3_SIZE), model.active_ids)
    found: dict[str, npt.NDArray[np.generic]] = {}
    for i, ids in enumerate(
        [[LLAMA3_BOS], *([LLAMA3_BOS, *vocabulary.tokenize(prompt)] for prompt in prompts)]
    ):
        logits = reference.logits(torch.tensor([ids]))[0, -1].numpy()
        top = np.argsort(-logits, kind="stable")[: VECTOR_IDS // 3]
        chosen = np.concatenate(
            [
                top,
                rng.choice(model.active_ids, VECTOR_IDS // 3),
                rng.choice(unused, VECTOR_IDS // 3),
            ]
        )
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


@dataclass(frozen=True)
class Figures:
    """What a card says beside the facts of the model; sizes in bytes."""

    compact_size: int
    gguf_size: int
    speed: int  # Of the training, in tokens/s; 0: not known.
    earlier: int
    cost: Cost
    sample: str
    trial: str


def _how(found: Figures) -> tuple[str, str]:
    """How fast it was trained, and from what it went on, as clauses of the card."""
    speed = f", {found.speed:,} tokens/s (the median of its log)" if found.speed else ""
    if not found.earlier:
        return f" in bfloat16{speed}", ""
    return f" in bfloat16{speed}", (
        f"; before that {found.earlier:,} steps on an earlier corpus, from whose shipped weights it"
        " went on"
    )


def card_text(card: DemoCard, words: Domain, found: Figures) -> str:
    """The card of an expert, in Markdown."""
    shape = card.shape
    speed, earlier = _how(found)
    trial = f"\n## Trial\n\n{found.trial}\n" if found.trial else ""
    quoted = "\n".join("    " + line for line in found.sample.split("\n"))
    return f"""# {card.name}

{card.summary}. It knows how its kind of text sounds and nothing about the world:
it is here so that a swarm can be tried, tested and measured on any machine, and for nothing else.

| | |
|---|---|
| architecture | LLaMA: width {shape.dim}, {shape.layers} layers, {shape.heads} heads \
({shape.kv_heads} for keys and values), \
feed-forward {shape.hidden} |
| vocabulary | LLaMA-3, 128,256 tokens, {card.active_rows:,} of them with rows of their own |
| parameters | {card.n_params:,} trained |
| size | {found.compact_size / 1e6:.1f} MB as shipped (Q8_0), {found.gguf_size / 1e6:.0f} MB when \
expanded into a GGUF file |
| training data | {words.data} |
| training | {card.steps:,} steps, {card.trained_tokens / 1e6:.1f} million tokens, on one CPU \
thread{speed}; context 256, \
then 512 tokens{earlier} |
| validation | perplexity {math.exp(card.nats_per_token):.1f} per LLaMA-3 token \
({card.nats_per_token:.3f} nats), \
{card.bits_per_byte:.3f} bits per byte |
| cost of quantisation | {found.cost.text()}; on {COST_WINDOWS} windows |
| SHA-256 of the GGUF file | `{card.gguf_sha256}` |

Validation is on {EVAL_WINDOWS} windows of {EVAL_LENGTH} tokens, spread over text that the model \
was not trained on, each without any
context before it; with the weights as shipped.

## Sample

{SAMPLE_TOKENS} tokens at temperature {TEMPERATURE}, top-p {TOP_P}, seed {SAMPLE_SEED}, after \
"{words.opening.strip()}";
the first draw, not the best of many:

{quoted}
{trial}
## Licence

{words.licence}
The vocabulary is Meta's, under the Llama community licence; it is not part of these files but \
read from the package `llama-models`
when the model is expanded.

## Files

`model.npz` holds the weights, `vectors.npz` logits that llama.cpp must give for the expanded \
file. Both are written by
`scripts/train_demo_experts.py {card.name} --export`.
"""


def export(expert: str, model: TinyLlama, corpus: Corpus, training: Training, out: Path) -> str:
    """Write `out`/`expert`; returns a line that says how good it is."""
    torch.set_grad_enabled(False)
    made = EXPERTS[expert]
    words, folder = DOMAINS[made.domain], out / expert
    card = DemoCard(
        name=expert,
        summary=made.summary,
        domains=(made.domain,),
        shape=model.s,
        active_rows=len(corpus.active_ids),
        n_params=sum(p.numel() for p in model.parameters()),
        steps=training.steps,
        trained_tokens=training.steps * training.tokens_per_step,
        nats_per_token=0.0,
        bits_per_byte=0.0,
    )
    small = compact(model, corpus, card)
    reference = Expanded(DemoGguf(small, load_tables()))
    nats, bits = evaluate(reference, corpus, EVAL_WINDOWS, EVAL_LENGTH)
    cost = cost_of(reference, model, corpus)
    card = replace(
        card,
        nats_per_token=round(nats, 4),
        bits_per_byte=round(bits, 4),
        gguf_sha256=reference.digest,
    )
    path = save_compact(replace(small, card=card), folder)
    np.savez_compressed(
        folder / "vectors.npz", allow_pickle=False, **vectors(reference, small, words.prompts)
    )
    active = small.active_ids.tolist()
    sample, _ = Writer(reference, active, SAMPLE_SEED).after(words.opening, SAMPLE_TOKENS)
    trial = (
        TRIAL_OF[made.domain](Writer(reference, active, SAMPLE_SEED))
        if made.domain in TRIAL_OF
        else ""
    )
    found = Figures(
        path.stat().st_size,
        reference.size_bytes,
        training.tokens_per_s,
        training.earlier,
        cost,
        words.opening + sample,
        trial,
    )
    (folder / "README.md").write_text(card_text(card, words, found), encoding="utf-8")
    return (
        f"{folder}: step {training.steps}, {nats:.4f} nats per token, {bits:.4f} bits per byte,"
        f" {found.compact_size:,} bytes; {cost.text()}"
    ) + (f"; {trial.split('. ')[0]}" if trial else "")
