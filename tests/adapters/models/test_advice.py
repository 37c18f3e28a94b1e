"""What the makers of a model advise for a chat: its file's word first, ours of the default model
next."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.adapters.models.advice import advice_of
from swarmllm.adapters.models.library import Found
from swarmllm.runtime.model_reference import OwnFile, SmolLM2
from swarmllm.testing.gguf_fixture import write_model

SAID = {"temp": 0.25, "top_k": 20, "top_p": 7.5, "penalty_last_n": -1, "mirostat": 2}
MEANT = {"temperature": 0.25, "top_k": 20}  # The others make no sense here.
OURS = {"temperature": 0.2, "top_p": 0.9}


@pytest.mark.parametrize(("is_ours", "silent"), [(True, OURS), (False, {})])
def test_a_file_is_believed_as_far_as_it_makes_sense_and_ours_need_not_speak(
    tmp_path: Path, is_ours: bool, silent: dict[str, float]
) -> None:
    for said, meant in ((SAID, MEANT), ({}, silent)):
        path = write_model(tmp_path / f"{len(said)}.gguf", sampling=said)
        reference = SmolLM2() if is_ours else OwnFile(path)
        assert advice_of(Found(reference, path)) == meant
