"""Train the bundled demo experts: tiny LLaMA-architecture models over the LLaMA-3 vocabulary.

    python scripts/train_demo_experts.py prose --corpus FOLDER_OF_TXT_FILES --steps 3000

Trains on one CPU thread by default, in bfloat16, from a fixed seed. Interrupt it whenever you like:
it writes a checkpoint every few minutes and goes on from there when it is started again. `--export`
writes the newest checkpoint as the compact form that the package ships, with its model card and the
logits that the test suite compares llama.cpp with.

Interrupting and resuming changes nothing: the batch of a step is a function of the seed and the
step. The learning rate is warmed up, constant, and decays over the last fifth of `--steps`, so a
run can be prolonged later. The table of experts is demo_family.py, their text demo_corpus.py, the
model demo_model.py, and what is shipped demo_export.py.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if not __package__:  # Started as a file: only its own folder is on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.demo_corpus import Corpus, prepare
from scripts.demo_export import Training, export
from scripts.demo_family import DOMAINS, EXPERTS, Domain
from scripts.demo_model import TinyLlama
from scripts.demo_restore import restored
from swarmllm.adapters.llama.demo import bundled_folder, load_compact
from swarmllm.adapters.llama.vocabulary import load_vocabulary

ROOT = Path(__file__).resolve().parent.parent
SEED = 20261123


def windows(
    stream: npt.NDArray[np.int32],
    length: int,
    batch: int,
    step: int,
    begins: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """The batch of one step: a pure function of (seed, step), so that a resumed run sees what an
    uninterrupted one would. Half of it begins where a document does, if `begins` says where."""
    rng = np.random.default_rng((SEED, step))
    starts = rng.integers(0, len(stream) - length, batch)
    if begins is not None:
        starts[: batch // 2] = rng.choice(begins[begins < len(stream) - length], batch // 2)
    found = np.stack([stream[i : i + length + 1] for i in starts])
    found[:, 0] = 0  # Every context begins with BOS, as at inference.
    return torch.from_numpy(found.astype(np.int64))


def rate(step: int, steps: int) -> float:
    """Warm-up over 100 steps, stable, then linear decay over the last fifth."""
    decay = max(1, steps // 5)
    return min(1.0, (step + 1) / 100, max(0.02, (steps - step) / decay))


def optimizers(model: TinyLlama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers (about twice the progress per token of Adam here), Adam
    for rows and norms."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.02),
        torch.optim.Adam(others, lr=0.004, betas=(0.9, 0.98), eps=1e-8),
    ]


def loss_of(
    model: TinyLlama, batch: Tensor, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """`weight`: of each row, as the token that is to come."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch[:, :-1])
    return F.cross_entropy(
        logits.float().flatten(0, 1), batch[:, 1:].flatten(), weight, reduction=reduction
    )


def weight_of(domain: Domain, active_ids: npt.NDArray[np.int32]) -> Tensor | None:
    """Of each row; None if all weigh the same."""
    if not domain.weighed:
        return None
    vocabulary = load_vocabulary()
    found = torch.ones(len(active_ids))
    for text, weight in domain.weighed.items():
        (token,) = vocabulary.tokenize(text)
        found[int(np.flatnonzero(active_ids == token)[0])] = weight
    return found


def validate(model: TinyLlama, corpus: Corpus, length: int, limit: int) -> float:
    """Nats per vocabulary token on the first `limit` windows of the validation text."""
    count = min(limit, (len(corpus.valid) - 1) // length)
    total = 0.0
    for i in np.linspace(0, len(corpus.valid) - length - 1, count).astype(int):
        window = corpus.valid[i : i + length + 1].astype(np.int64)
        window[0] = 0
        with torch.no_grad():
            total += float(loss_of(model, torch.from_numpy(window)[None], "sum"))
    return total / (count * length) * len(corpus.valid) / corpus.valid_tokens


class Run:
    """A model in training: it goes on from its checkpoint, if there is one."""

    def __init__(self, args: argparse.Namespace, corpus: Corpus, work: Path) -> None:
        torch.manual_seed(SEED)
        self.args, self.corpus = args, corpus
        self.model = TinyLlama(EXPERTS[args.expert].shape, len(corpus.active_ids))
        self.optimizers = optimizers(self.model)
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        domain = DOMAINS[EXPERTS[args.expert].domain]
        self._weight = weight_of(domain, corpus.active_ids)
        is_begin = corpus.train == 0
        self._begins = np.flatnonzero(is_begin) if domain.by_document else None
        self.step = 0
        self._checkpoint = work / "checkpoint.pt"
        if args.start is not None:
            self.model.load_state_dict(restored(load_compact(args.start), corpus, self.model))
        if self._checkpoint.exists():
            self._restore()

    def _restore(self) -> None:
        state = torch.load(self._checkpoint)
        self.model.load_state_dict(state["model"])
        for o, s in zip(self.optimizers, state["optimizers"], strict=True):
            o.load_state_dict(s)
        self.step = state["step"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
        }
        torch.save(state, self._checkpoint.with_suffix(".tmp"))
        self._checkpoint.with_suffix(".tmp").replace(self._checkpoint)  # Never half a checkpoint.

    def advance(self) -> float:
        """One step; the loss before it, in nats per token."""
        args, length, batch = self.args, self.args.length, self.args.batch
        if self.step >= args.steps * 9 // 10:
            length, batch = length * 2, batch // 2
        for o, rates in zip(self.optimizers, self.rates, strict=True):
            for group, lr in zip(o.param_groups, rates, strict=True):
                group["lr"] = lr * args.rate * rate(self.step, args.steps)
        chosen = windows(self.corpus.train, length, batch, self.step, self._begins)
        loss = loss_of(self.model, chosen, weight=self._weight)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for o in self.optimizers:
            o.step()
            o.zero_grad()
        self.step += 1
        return float(loss.item())


def train(args: argparse.Namespace, corpus: Corpus, work: Path) -> TinyLlama:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    run = Run(args, corpus, work)
    n_params = sum(p.numel() for p in run.model.parameters())
    console = Console(stderr=True)
    console.print(
        f"{args.expert}: {n_params:,} parameters, {len(corpus.active_ids):,} active ids,"
        f" {len(corpus.train):,} tokens, step {run.step}"
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    saved = started = time.monotonic()
    first, smooth = run.step, float("nan")
    with Progress(*columns, console=console) as progress, (work / "log.jsonl").open("a") as log:
        task = progress.add_task(args.expert, total=args.steps, completed=run.step)
        while run.step < args.steps:
            loss = run.advance()
            smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
            speed = (run.step - first) * args.length * args.batch / (time.monotonic() - started)
            progress.update(
                task,
                completed=run.step,
                description=f"{args.expert} loss {smooth:.3f} {speed:,.0f} tokens/s",
            )
            if run.step % 50 == 0:
                row = {"step": run.step, "loss": round(smooth, 4), "tokens_per_s": round(speed)}
                if run.step % 500 == 0 or run.step == args.steps:
                    row["valid"] = round(validate(run.model, corpus, 512, 40), 4)
                print(json.dumps(row), file=log, flush=True)
            if time.monotonic() - saved > 180 or run.step == args.steps:
                run.save()
                saved = time.monotonic()
    return run.model


def load_checkpoint(expert: str, corpus: Corpus, work: Path) -> tuple[TinyLlama, int]:
    """(model, step) of the newest checkpoint."""
    checkpoint = work / "checkpoint.pt"
    if not checkpoint.exists():
        raise SystemExit(
            f"train_demo_experts: there is no checkpoint {checkpoint} yet: train first"
        )
    state = torch.load(checkpoint)
    model = TinyLlama(EXPERTS[expert].shape, len(corpus.active_ids))
    model.load_state_dict(state["model"])
    return model.eval(), int(state["step"])


def logged_speed(log: Path) -> int:
    """The median tokens/s of a run's log; 0 without one."""
    if not log.exists():
        return 0
    found = [
        json.loads(line)["tokens_per_s"] for line in log.read_text(encoding="utf-8").splitlines()
    ]
    return round(float(np.median(found))) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("expert", choices=list(EXPERTS))
    parser.add_argument(
        "--corpus",
        type=Path,
        default=ROOT / "corpora" / "prose",
        help="folder of books as .txt files (prose; the others need none)",
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--length",
        type=int,
        default=256,
        help="tokens per window; doubled for the last tenth of the steps",
    )
    parser.add_argument("--batch", type=int, default=16, help="windows per step")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument(
        "--start", type=Path, help="folder of a shipped expert to go on from, instead of chance"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / ".train",
        help="folder for the token cache, checkpoints and logs",
    )
    parser.add_argument(
        "--export",
        action="store_true",
        help="write the shipped form of the newest checkpoint; no training",
    )
    parser.add_argument(
        "--out", type=Path, default=bundled_folder(), help="folder for the exported experts"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work / args.expert
    work.mkdir(parents=True, exist_ok=True)
    domain = EXPERTS[args.expert].domain
    corpus = prepare(domain, args.corpus, args.work / domain / "tokens.npz")
    if args.export:
        model, step = load_checkpoint(args.expert, corpus, work)
        print(
            export(
                args.expert,
                model,
                corpus,
                Training(
                    *(step, args.length * args.batch, logged_speed(work / "log.jsonl")),
                    load_compact(args.start).card.steps if args.start is not None else 0,
                ),
                args.out,
            )
        )
    else:
        train(args, corpus, work)


if __name__ == "__main__":
    main()
