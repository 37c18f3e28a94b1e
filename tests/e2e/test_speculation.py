"""Drafts between real node processes: whatever breaks, each token comes once, and the text is the
one that came without drafts while nothing broke; and the text of different models is that of strict
mode, however it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from swarmllm.adapters.models.library import bring
from swarmllm.cli.bench.speculation_exactness import ASKED, PROMPTS, Texts, differences, write
from swarmllm.cli.bench.speculation_faults import GREEDY, Toll, play
from swarmllm.runtime.model_reference import DemoExpert
from swarmllm.testing.gguf_fixture import write_model

pytestmark = pytest.mark.slow
ANSWERS = 4
TOKENS = 24


@pytest.mark.parametrize("is_expert", [True, False])
def test_answers_with_drafts_are_whole_and_the_same_while_lines_and_experts_break(
    tmp_path: Path, is_expert: bool
) -> None:
    model = write_model(tmp_path / "replica.gguf")

    async def body() -> Toll:
        return await play(
            *(model, tmp_path / "cache", ANSWERS, 3, lambda _: None), is_expert=is_expert
        )

    toll = trio.run(body)
    assert toll.faults == []
    assert (toll.answers, toll.whole) == (ANSWERS, ANSWERS)
    assert toll.same[GREEDY] == toll.asked[GREEDY] > 0
    assert toll.drafted > toll.accepted / 2 > 0
    assert sum(toll.harm.values()) > 0


def test_texts_of_different_models_are_those_of_strict_mode_however_they_are_drawn(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"

    async def body() -> tuple[Texts, ...]:
        names = ("prose", "prose-small")
        found = [
            await bring(DemoExpert(name), cache, may_fetch=False, show=lambda *_: None)
            for name in names
        ]
        models = [one.path for one in found]
        modes = ("off", "auto", "remote")
        return tuple(
            [await write(m, models, PROMPTS[:1], cache, lambda _: None, TOKENS) for m in modes]
        )

    strict, auto, remote = trio.run(body)
    assert len(strict.by_request) == len(ASKED)
    assert strict.drafted == 0
    assert differences(strict, auto) == differences(strict, remote) == []
    assert auto.drafted > auto.accepted > 0
    assert remote.drafted > 0
