"""Bit for bit: how a context reached the cache leaves no trace in the logits. With llama.cpp
itself, at full precision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from swarmllm.adapters.llama import llama_api
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import read_model_file
from swarmllm.adapters.llama.lease import Lease
from swarmllm.adapters.llama.stepping import shape_of, step
from swarmllm.core.serving.answers import SCORES
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.session import Order
from swarmllm.wire import context
from tests.adapters.llama.models import model

TEXT = [(i * 37 + i // 7) % 400 for i in range(120)]
OTHER = [(i * 53 + 11) % 400 for i in range(200)]


def whole_rows(rows: NDArray[np.float32], bounds: Sequence[tuple[int, int]]) -> list[bytes | None]:
    return [row.tobytes() for row in rows]


@contextmanager
def opened(kind: str, *, reproducible: bool = True, threads: int = 2) -> Iterator[Asker]:
    llama_api.capture_log()
    path = model(kind, dim=256)
    options = EngineOptions(
        context_max=300, sessions_max=4, threads=threads, reproducible=reproducible, batch_max=64
    )
    lease = Lease.create()
    loaded = llama_api.LlamaModel(path, read_model_file(path), options, 300, 4, lease.abort_address)
    yield Asker(loaded)
    loaded.close()
    lease.close()


class Asker:
    def __init__(self, loaded: llama_api.LlamaModel) -> None:
        self.model = loaded
        self.batcher = Batcher(shape_of(loaded), 4, 300, 0.0)
        self.last = 0

    def submit(self, session: int, text: Sequence[int], base: int, answer: Sequence[int]) -> int:
        self.last += 1
        digest = context.digests(text[:base])[-1]
        new = list(text[base:])
        assert not self.batcher.submit(
            Order(self.last, ("peer", session), 0, base, digest, new, list(answer), [], 8, 0, 0.0)
        )
        return self.last

    def run(self) -> dict[int, list[bytes]]:
        found = {}
        while self.batcher.waiting:
            for kind, order, lists, *_ in step(
                self.batcher, self.model, whole_rows, time.monotonic
            ):
                assert kind == SCORES
                found[order] = lists
        return found

    def rows(self, session: int, text: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Every row of `text`, appended in pieces of `sizes`, over and over."""
        rows: list[bytes] = []
        n = 0
        while len(rows) < len(text):
            end = min(len(text), len(rows) + sizes[n % len(sizes)])
            self.submit(session, text[:end], len(rows), range(end - len(rows)))
            [added] = self.run().values()
            rows += added
            n += 1
        return rows


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m"])
def test_logits_are_the_same_bits_whatever_way_the_context_was_computed(kind: str) -> None:
    with opened(kind) as asker:
        single = asker.rows(1, TEXT, [1])
        assert len(set(single)) == len(TEXT), "a test that compares equal rows proves nothing"
        asker.batcher.close(("peer", 1))
        assert asker.rows(1, TEXT, [len(TEXT)]) == single
        asker.batcher.close(("peer", 1))
        assert asker.rows(1, TEXT, [7, 1, 33, 2, 5]) == single
        asker.batcher.close(("peer", 1))
        # After a rejected draft:
        asker.submit(1, [*TEXT[:50], *OTHER[:9]], 0, [58])
        asker.run()
        asker.submit(1, TEXT, 50, range(len(TEXT) - 50))
        [rows] = asker.run().values()
        assert rows == single[50:]
        # From another session's cache:
        asker.submit(2, [*TEXT[:60], 3], 0, [60])
        asker.run()
        asker.submit(2, TEXT, 60, range(len(TEXT) - 60))
        [rows] = asker.run().values()
        assert rows == single[60:]


@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_1", "q4_k_m"])
def test_the_number_of_threads_leaves_no_trace(kind: str) -> None:
    with opened(kind, threads=1) as asker:
        single = asker.rows(1, TEXT, [1, 5])
    for threads in (2, 3):
        with opened(kind, threads=threads) as asker:
            assert asker.rows(1, TEXT, [1, 5]) == single


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_neighbours_leave_no_trace(kind: str) -> None:
    with opened(kind) as asker:
        single = asker.rows(1, TEXT[:60], [1])
        asker.batcher.close(("peer", 1))
        asker.submit(7, OTHER[:90], 0, [89])
        asker.run()
        rows = []
        for i in range(60):
            mine = asker.submit(1, TEXT[: i + 1], i, [0])
            asker.submit(7, OTHER[: 91 + i], 90 + i, [0])
            if i % 3 == 0:
                asker.submit(8, OTHER[: i // 3 * 5 + 5], i // 3 * 5, [4])
            rows += asker.run()[mine]
        assert rows == single


def test_a_row_that_nobody_wants_is_only_added_where_it_is_needed() -> None:
    for kind, rows_min in (("f32", 2), ("f16", 2), ("q8_0", 1), ("q4_0", 1), ("q4_1", 1)):
        with opened(kind) as asker:
            assert asker.model.rows_min == rows_min
    with opened("f16", reproducible=False) as asker:
        assert asker.model.rows_min == 1
