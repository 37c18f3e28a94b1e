"""Training a specialist: what is fast there is what is plain, and stopping changes nothing.

For environments with PyTorch (the dependency group `train`); skipped without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scripts.lora_chat import Turn, questions, turns_of_dialogue, write_answers  # noqa: E402
from scripts.lora_corpus import Stream, Streams  # noqa: E402
from scripts.lora_export import Recipe, adapter_of, reference  # noqa: E402
from scripts.lora_model import Decoder, LoraLlama, TokenLoss  # noqa: E402
from scripts.train_lora_experts import Run, load_model, shape_of, train, window  # noqa: E402
from swarmllm.adapters.llama.gguf_tensors import GgufTensors  # noqa: E402
from swarmllm.testing.gguf_fixture import FixtureShape, write_model  # noqa: E402

TOKENS = 512
LENGTH = 32
RECIPE = Recipe("code", "a test", rate=1e-2, rank=4, alpha=8.0)


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> GgufTensors:
    return GgufTensors(write_model(tmp_path_factory.mktemp("base") / "base.gguf", FixtureShape()))


@pytest.fixture(name="streams", scope="module")
def _streams() -> Streams:
    rng = np.random.default_rng(9)
    text = np.tile(rng.integers(0, TOKENS, 40), 60).astype(np.int32)
    chat = Stream(text[::-1].copy(), np.arange(len(text)) % 3 > 0)
    return Streams(text, text, chat, chat)


def model_of(base: GgufTensors) -> LoraLlama:
    return load_model(base, RECIPE.rank, RECIPE.alpha / RECIPE.rank)


def trained(base: GgufTensors, streams: Streams, folder: Path, *stops: int) -> Run:
    """Up to each of `stops` in turn, started anew each time; the last is the number of steps."""
    for stop in stops:
        run = Run(model_of(base), RECIPE, folder)
        while run.step < stop:
            run.learn(*window(streams, run.step, LENGTH), stops[-1])
        run.save()
    return run


def test_stopping_and_going_on_changes_nothing(
    base: GgufTensors, streams: Streams, tmp_path: Path
) -> None:
    whole = trained(base, streams, tmp_path / "a", 12)
    parts = trained(base, streams, tmp_path / "b", 3, 4, 12)
    assert whole.step == parts.step == 12
    mine, theirs = dict(whole.model.named_parameters()), dict(parts.model.named_parameters())
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert any(factor.abs().sum() > 0 for name, factor in mine.items() if ".b." in name)


def test_it_learns_and_only_the_factors_do(
    base: GgufTensors, streams: Streams, tmp_path: Path
) -> None:
    run = Run(model_of(base), RECIPE, tmp_path)
    assert {name.split(".")[-2] for name, _ in run.model.named_parameters()} <= {
        *("b", "qkv", "o", "gate_up", "down")
    }
    before = {name: value.clone() for name, value in run.model.named_buffers()}
    ids, targets = window(streams, 0, LENGTH)
    first = run.learn(ids, targets, 60)
    for _ in range(59):
        last = run.learn(ids, targets, 60)
    assert last < first / 2
    assert all(torch.equal(before[name], value) for name, value in run.model.named_buffers())


def test_the_loss_in_pieces_is_cross_entropy() -> None:
    rng = torch.Generator().manual_seed(1)
    hidden = torch.randn(300, 64, generator=rng).bfloat16().requires_grad_()
    output = torch.randn(TOKENS, 64, generator=rng).bfloat16()
    targets = torch.randint(-1, TOKENS, (300,), generator=rng)
    found = TokenLoss.apply(hidden, output, targets)
    found.backward()
    plain = hidden.detach().float().requires_grad_()
    wanted = torch.nn.functional.cross_entropy(
        plain @ output.float().T, targets, ignore_index=-1, reduction="sum"
    )
    wanted.backward()
    assert abs(float(found) / float(wanted) - 1) < 0.01
    assert plain.grad is not None
    assert hidden.grad is not None
    error = (hidden.grad.float() - plain.grad).norm() / plain.grad.norm()
    assert float(error) < 0.05


def test_without_training_it_is_the_base_and_the_decoder_agrees(base: GgufTensors) -> None:
    """Against the plain LLaMA in float32 that cards are measured with; the rest is bfloat16's."""
    model = model_of(base)
    ids = torch.randint(0, 400, (2, 20), generator=torch.Generator().manual_seed(2))
    wanted = reference(base, shape_of(base)).logits(ids)
    decoder = Decoder(model, 2, 20)
    for position in range(20):
        found = decoder.step(ids[:, position], position)
    # The fixture's output matrix is its own, SmolLM2's the embedding: compare what leads to it.
    hidden = model.hidden(ids).float()
    plain = reference(base, shape_of(base)).hidden(ids)
    assert float((hidden - plain).norm() / plain.norm()) < 0.05
    tied = hidden[:, -1] @ model.embedding.float().T
    assert float((found - tied).norm() / tied.norm()) < 0.05
    assert wanted.shape == (2, 20, TOKENS)


def test_what_is_exported_is_what_was_trained(
    base: GgufTensors, streams: Streams, tmp_path: Path
) -> None:
    run = trained(base, streams, tmp_path, 30)
    adapter, merged = adapter_of("code", run.model, base)
    path = tmp_path / "merged.gguf"
    path.write_bytes(merged)
    ids, _ = window(streams, 5, LENGTH)
    plain = reference(GgufTensors(path), run.model.s).hidden(ids)
    before = reference(base, run.model.s).hidden(ids)
    with torch.no_grad():
        hidden = run.model.hidden(ids).float()
    changed = float((plain - before).norm() / plain.norm())
    assert float((hidden - plain).norm() / plain.norm()) < changed / 4
    assert len(adapter.factors) == 7 * run.model.s.layers


def test_answers_wait_for_no_longer_question() -> None:
    """A model that always says the next number, and 9 is the end."""

    def step(ids: Any, _: int) -> Any:
        return 100.0 * torch.nn.functional.one_hot((ids + 1) % 10, 10).float()

    found = write_answers(step, [[3], [0, 1, 2, 3, 7], [5, 4]], end=9, tokens=3, seed=1)
    assert found == [[4, 5, 6], [8], [5, 6, 7]]


def test_questions_differ() -> None:
    found = questions()
    assert len(set(found)) == len(found) > 300


def test_dialogues_become_turns() -> None:
    text = "Q: What is wrong?\na: 1\nb: 2\n\nA: Too few experts.\n\nQ: And then?\nA: It helped."
    assert turns_of_dialogue(text) == (
        Turn("user", "What is wrong?\na: 1\nb: 2"),
        Turn("assistant", "Too few experts."),
        Turn("user", "And then?"),
        Turn("assistant", "It helped."),
    )
    assert turns_of_dialogue("Q: What?\nQ: Why?\nA: So.") == ()
    assert turns_of_dialogue("No dialogue.") == ()


def test_a_run_writes_its_log(base: GgufTensors, streams: Streams, tmp_path: Path) -> None:
    run = Run(model_of(base), RECIPE, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.train_lora_experts.LENGTH", LENGTH)
        train(run, streams, 20, every=10, length=LENGTH)
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert Run(model_of(base), RECIPE, tmp_path).step == 20
