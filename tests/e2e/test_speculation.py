"""Drafts between real node processes: whatever breaks, each token comes once, and the text is the
one that came without drafts while nothing broke."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from swarmllm.cli.bench.speculation_faults import GREEDY, Toll, play
from swarmllm.testing.gguf_fixture import write_model

pytestmark = pytest.mark.slow
ANSWERS = 6


def test_answers_with_drafts_are_whole_and_the_same_while_lines_and_experts_break(
    tmp_path: Path,
) -> None:
    model = write_model(tmp_path / "replica.gguf")

    async def body() -> Toll:
        return await play(model, tmp_path / "cache", ANSWERS, 3, lambda _: None)

    toll = trio.run(body)
    assert toll.faults == []
    assert (toll.answers, toll.whole) == (ANSWERS, ANSWERS)
    assert toll.same[GREEDY] == toll.asked[GREEDY] > 0
    assert toll.drafted > toll.accepted / 2 > 0
    assert sum(toll.harm.values()) > 0
