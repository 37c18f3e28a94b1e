"""`swarmllm models` on a machine where nothing was fetched yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swarmllm.adapters.models import library, wheel
from swarmllm.adapters.models.catalog import SMOLLM2_135M, SPECIALISTS
from swarmllm.assembly import configure
from swarmllm.cli.models import remove_model
from swarmllm.runtime.model_reference import SmolLM2
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


def test_specialists_are_counted_by_their_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They stay when their base goes, and need it no more."""
    file = tmp_path / "made.gguf"
    file.write_bytes(bytes(3000))
    here = replace(SPECIALISTS["code"], place=lambda _: file)
    monkeypatch.setitem(SPECIALISTS, "code", here)
    monkeypatch.setattr(wheel, "remove", lambda *_: 5000)
    config = configure(cache_dir=str(tmp_path / "cache"))
    assert library.place_of(SmolLM2("code"), config.cache_dir) == file
    found = library.find(
        SmolLM2("code"), config.cache_dir, may_fetch=False, progress=lambda *_: None
    )
    assert found.path == file
    assert remove_model(config, "smollm2", as_json=False) == 0
    said = capfd.readouterr()
    assert "5.0 kB are free again" in said.out
    assert "smollm2:code (3.0 kB)" in said.err


def test_what_is_shown_of_a_model_is_in_words(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "show", "smollm2:code")
    assert "144.8 MB" in done.out
    assert "a node serves 2048 tokens" in done.out
    assert not {"n params", "size bytes", "context max", "digest"} & set(done.out.split("  "))


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
