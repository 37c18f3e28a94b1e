"""A model that cannot answer is not offered, one text without an answer costs nobody else theirs,
and a worker that cannot be started is tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
import trio

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.health import fault_of, probe_tokens, sample_speed
from swarmllm.adapters.llama.stepping import Stopped
from swarmllm.core.inputs import EngineLost, EngineReady
from swarmllm.core.serving.rows import Rows
from swarmllm.errors import LocalError
from swarmllm.messages import REFUSED_OUTPUT, Refused
from tests import ROOT
from tests.adapters.llama.models import model
from tests.adapters.llama.test_life import OPTIONS, sentence, until
from tests.contracts.engine_contract import PATIENCE_S, TEXT, ask, key, lists_of


def broken(path: Path, tensor: str, value: float, rows: Sequence[int] | None = None) -> Path:
    """The fixture model with a tensor, or some rows of it, full of one value."""
    path.write_bytes(model("f32").read_bytes())
    found = next(t for t in gguf.GGUFReader(path, "r+").tensors if t.name == tensor)
    found.data[slice(None) if rows is None else list(rows)] = value
    found.data.base.flush() if isinstance(found.data.base, np.memmap) else None
    return path


@pytest.mark.parametrize(
    ("tensor", "value", "words"),
    [
        ("output.weight", float("nan"), "no numbers"),
        ("blk.1.ffn_down.weight", float("nan"), "no numbers"),
        ("output_norm.weight", float("inf"), "logit"),
        ("output.weight", 0.0, "all of its logits are 0"),
    ],
)
def test_a_model_that_cannot_answer_is_refused_in_one_sentence_that_names_the_file(
    tmp_path: Path, tensor: str, value: float, words: str
) -> None:
    path = broken(tmp_path / "broken.gguf", tensor, value)
    said = sentence(path)
    assert words in said
    assert str(path) in said
    assert "choose another file" in said
    assert "download" not in said


def test_a_text_whose_logits_are_no_numbers_is_refused_and_the_worker_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poison = 66
    assert poison not in (*TEXT, *probe_tokens(512))
    path = broken(tmp_path / "poison.gguf", "token_embd.weight", float("nan"), [poison])

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(path, OPTIONS) as engine:
                first = engine.pid
                for n in range(3):
                    bad = ask([*TEXT, poison], session=n, targets=(3,))
                    assert await engine.score(key(n), bad) == Refused(n, 1, REFUSED_OUTPUT)
                # In the slot where it was.
                after = lists_of(await engine.score(key(0), ask(TEXT, session=0)))
                assert engine.pid == first
            async with LlamaEngine(model("f32"), OPTIONS) as engine:
                assert after == lists_of(await engine.score(key(0), ask(TEXT, session=0)))

    trio.run(main)
    (told,) = [one.getMessage() for one in caplog.records if "no numbers" in one.getMessage()]
    assert str(path) in told  # The owner is told once, however often he is asked.
    assert "choose another file" in told


def test_a_model_that_was_halted_before_it_could_be_looked_at_is_found_out_by_its_first_question(
    tmp_path: Path,
) -> None:
    path = broken(tmp_path / "broken.gguf", "output.weight", float("nan"))

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            halted = LlamaEngine(path, OPTIONS)
            halted.stop()
            async with halted as engine:
                engine.resume()
                assert isinstance(await engine.score(key(1), ask(TEXT)), Refused)
                assert "cannot answer" in (await until(engine, EngineLost)).reason

    trio.run(main)


def test_what_is_no_distribution_is_told_apart_from_what_is() -> None:
    row = np.linspace(-3, 3, 8, dtype=np.float32)[None]
    assert fault_of(row, 8) == ""
    impossible = row.copy()
    impossible[0, 2] = -np.inf
    assert fault_of(impossible, 8) == ""
    for value in (np.nan, np.inf):
        bad = row.copy()
        bad[0, 3] = value
        assert fault_of(bad, 8)
    assert fault_of(np.full((1, 8), -np.inf, np.float32), 8)
    assert fault_of(np.zeros((1, 8), np.float32), 8)
    assert fault_of(row, 9)


def test_crashes_in_a_row_are_counted_and_the_pause_is_told() -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model(), OPTIONS) as engine:
                for words in (
                    "; it starts again in 1 s",
                    "2 times in a row; it starts again in 2 s",
                ):
                    await until(engine, EngineReady)
                    assert engine.pid is not None
                    os.kill(engine.pid, signal.SIGKILL)
                    assert words in (await until(engine, EngineLost)).reason

    trio.run(main)


NO_DESCRIPTORS = """
import os, resource, signal, sys, trio
from pathlib import Path
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.core.inputs import EngineLost, EngineReady

async def main():
    options = EngineOptions(context_max=300, sessions_max=2, threads=1)
    async with LlamaEngine(Path(sys.argv[1]), options) as engine:
        await engine.inputs.receive()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        os.kill(engine.pid, signal.SIGKILL)
        told = []
        while len(told) < 2:
            if isinstance(event := await engine.inputs.receive(), EngineLost):
                told.append(event.reason)
                try:
                    while len(told) < 2:
                        held.append(os.dup(0))  # What the dead worker left.
                except OSError:
                    pass
        for descriptor in held:
            os.close(descriptor)
        while not isinstance(await engine.inputs.receive(), EngineReady):
            pass
        print(told[1])

with_limit = trio.run(main)
"""


def test_a_worker_that_dies_while_no_file_can_be_opened_is_started_again_later() -> None:
    command = [sys.executable, "-P", "-c", NO_DESCRIPTORS, str(model())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Too many open files" in done.stdout
    assert "ulimit -n" in done.stdout


def test_no_program_at_all_to_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def main() -> None:
        async with LlamaEngine(model(), EngineOptions(context_max=300)):
            raise AssertionError("it started")

    with pytest.raises(LocalError, match="cannot be started"):
        trio.run(main)


class Timed:
    """A model whose every step takes 0.25 s of its own clock; it stops at step `stops_at`."""

    vocab_size = 7

    def __init__(self, stops_at: int = 1000) -> None:
        self.seconds, self.rows, self.forgotten = 0.0, list[Rows](), list[int]()
        self._stops_at = stops_at

    def decode(self, rows: Rows) -> None:
        if len(self.rows) == self._stops_at:
            raise Stopped
        self.rows.append(rows)
        self.seconds += 0.25

    def forget(self, slot: int, length: int) -> None:
        self.forgotten.append(slot)


def test_the_speed_is_measured_for_a_second_and_leaves_nothing_behind() -> None:
    model = Timed()
    assert sample_speed(model, 3, 100, lambda: model.seconds) == 4.0  # type: ignore[arg-type]
    assert [rows.positions for rows in model.rows] == [[0], [1], [2], [3]]
    assert model.forgotten == [3]


def test_a_short_context_bounds_the_measurement() -> None:
    model = Timed()
    assert sample_speed(model, 0, 2, lambda: model.seconds) == 4.0  # type: ignore[arg-type]
    assert len(model.rows) == 2


def test_a_measurement_that_is_stopped_says_nothing() -> None:
    model = Timed(stops_at=2)
    assert sample_speed(model, 0, 100, lambda: model.seconds) == 0.0  # type: ignore[arg-type]
    assert model.forgotten == [0]
