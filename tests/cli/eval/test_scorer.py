"""The scorer asks the model for what it says it asks for, on paper; and tells what goes wrong in
one line."""

from __future__ import annotations

import errno
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from swarmllm.cli.eval import scorer
from swarmllm.cli.eval.scorer import score
from swarmllm.cli.eval.shapes import SHAPES, compare
from swarmllm.core.serving.rows import Rows
from swarmllm.wire.sparse import decode_list

VOCABULARY = 300


class PaperModel:
    """Logits are a function of all tokens of the sequence so far; it checks that positions come in
    order."""

    vocab_size = VOCABULARY
    batch_max = 64
    outputs_max = 64

    def __init__(self, rows_min: int = 1, cells: int = 1000) -> None:
        self.rows_min, self.cells = rows_min, cells
        self.held: dict[int, list[int]] = {}
        self.noise = 0.0

    def decode(self, rows: Rows) -> npt.NDArray[np.float32]:
        assert len(rows.tokens) >= self.rows_min
        found = []
        for token, position, slot, output in zip(
            rows.tokens, rows.positions, rows.slots, rows.outputs, strict=True
        ):
            context = self.held.setdefault(slot, [])
            assert position == len(context) < self.cells
            context.append(token)
            if output:
                found.append(
                    logits_after(context)
                    + self.noise * len(rows.tokens) * np.arange(VOCABULARY, dtype=np.float32)
                )
        return np.array(found, np.float32).reshape(-1, VOCABULARY)

    def forget(self, slot: int, start: int) -> None:
        del self.held.setdefault(slot, [])[start:]

    def copy(self, source: int, target: int) -> None:
        self.held[target] = list(self.held[source])


def logits_after(context: list[int]) -> npt.NDArray[np.float32]:
    seed = [len(context), *context[-50:]]
    return np.random.default_rng(seed).normal(0, 3, VOCABULARY).astype(np.float32)


def _exact(context: list[int], token: int) -> float:
    logits = logits_after(context).astype(np.float64)
    return float(logits[token] - np.log(np.exp(logits).sum()))


@pytest.mark.parametrize("rows_min", [1, 2])
@pytest.mark.parametrize("length", [1, 64, 65, 130])
def test_each_token_is_scored_after_bos_and_all_before_it(length: int, rows_min: int) -> None:
    tokens = [(7 * i) % VOCABULARY for i in range(length)]
    found = score(PaperModel(rows_min), tokens, bos=299, context=500)
    assert found.logprobs == pytest.approx(
        [_exact([299, *tokens[:t]], tokens[t]) for t in range(length)], abs=1e-5
    )
    assert len(found.lists) == length
    assert len(found.tails) == -(-length // 8)
    top = int(logits_after([299]).argmax())
    decoded = decode_list(found.lists[0], 256, VOCABULARY)
    assert decoded.ids[decoded.logprobs.argmax()] == top
    assert decoded.tail == pytest.approx(found.tails[0], abs=0.01)
    assert (found.wire_tv < 0.02).all()
    assert (found.wire_nats < 0.01).all()


def test_a_document_beyond_the_context_is_read_in_windows_that_overlap_by_half() -> None:
    tokens = [(11 * i) % VOCABULARY for i in range(100)]
    found = score(PaperModel(cells=41), tokens, bos=299, context=40)
    inputs = [299, *tokens]
    assert len(found.logprobs) == 100
    assert found.logprobs[39] == pytest.approx(_exact(inputs[:40], tokens[39]), abs=1e-5)
    assert found.logprobs[40] == pytest.approx(_exact(inputs[20:41], tokens[40]), abs=1e-5)
    assert found.logprobs[99] == pytest.approx(_exact(inputs[60:100], tokens[99]), abs=1e-5)


def test_batch_shapes_are_compared_with_one_at_a_time() -> None:
    tokens, beside = list(range(100)), list(range(100, 200))
    exact = compare(PaperModel(rows_min=2), tokens, beside, 200)
    assert [one["shape"] for one in exact] == list(SHAPES[1:])
    assert all(one["max_nats"] == one["max_tv"] == 0.0 for one in exact)
    model = PaperModel()
    model.noise = 1e-4
    assert all(float(one["max_tv"]) > 0 for one in compare(model, tokens, beside, 200))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_a_full_disk_or_memory_is_one_line(
    error: Exception,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fail(order: dict[str, Any]) -> None:
        raise error

    monkeypatch.setattr(scorer, "_work", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(
        sys, "stdin", io.StringIO(json.dumps({"path": "m.gguf", "folder": str(tmp_path)}) + "\n")
    )
    scorer.main()
    [line] = capsys.readouterr().out.splitlines()
    assert says in json.loads(line)["error"]
