"""The model that a swarm's voters chose: offered where nobody named one, loaded only with the
owner's consent, and only if it is the file that was voted for."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from swarmllm.adapters.llama.demo import bundled
from swarmllm.adapters.store import SqliteStore
from swarmllm.cli import first_model
from swarmllm.cli.first_model import TINY, Chosen, choose
from swarmllm.cli.voted_model import VotedModel, voted_model
from swarmllm.core.governance.changes import MODEL
from swarmllm.core.governance.state_file import STATE_KEY, Saved, pack
from swarmllm.errors import LocalError
from swarmllm.messages.governance import SetDefaultModel
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import Auto, DemoExpert, HubModel
from swarmllm.wire.codec import encode

HUB = VotedModel(HubModel("owner/model", "m.gguf"), bytes(32))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # None of this machine's models.
    (tmp_path / "data").mkdir()
    return Config(tmp_path / "data", tmp_path / "cache")


def remember(config: Config, reference: str, digest: bytes = bytes(32)) -> None:
    """The node of this folder had that in force when it ran last."""
    value = (b"\1" * 32, tuple(encode(SetDefaultModel(reference, digest))))
    with SqliteStore(config.data_dir / "store.sqlite", lambda _: None) as store:
        store.save(STATE_KEY, pack(Saved(in_force={MODEL: value})))


def chosen(config: Config, voted: VotedModel | None, **more: bool) -> Chosen | None:
    yes, tiny, as_json = (more.get(name, name == "as_json") for name in ("yes", "tiny", "as_json"))
    return choose(config, yes=yes, tiny=tiny, as_json=as_json, voted=voted)


def test_a_node_knows_what_was_in_force_when_it_ran_last(config: Config) -> None:
    assert voted_model(config) is None
    remember(config, "hf:owner/model/m.gguf")
    assert voted_model(config) == HUB
    remember(config, "llama3-demo:ops", b"\7" * 32)
    assert voted_model(config) == VotedModel(DemoExpert("ops"), b"\7" * 32)


def test_votes_never_choose_a_file_of_this_machine(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(config, "/etc/passwd")
    assert voted_model(config) is None
    assert "'/etc/passwd', which this version does not know" in capsys.readouterr().err


def test_what_cannot_be_read_offers_nothing(config: Config) -> None:
    with SqliteStore(config.data_dir / "store.sqlite", lambda _: None) as store:
        store.save(STATE_KEY, b"damaged")
    assert voted_model(config) is None


def test_it_is_not_fetched_without_its_owners_consent(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(config, HUB) == Auto()
    assert "--yes fetches it" in capsys.readouterr().err
    assert chosen(config, HUB, yes=True) == HUB
    assert chosen(replace(config, offline=True), HUB, yes=True) == Auto()
    assert chosen(config, HUB, tiny=True) == TINY
    assert chosen(replace(config, model="smollm2"), HUB) is None, "what was named goes first"


@pytest.mark.parametrize(("answer", "expected"), [("y", HUB), ("", HUB), ("n", TINY)])
def test_a_person_is_asked_and_their_no_is_a_no(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    expected: Chosen,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(first_model, "_is_seen", lambda: True)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("builtins.input", lambda: answer)
    assert chosen(config, HUB, as_json=False) == expected
    assert "The voters of this swarm chose hf:owner/model/m.gguf" in capsys.readouterr().err


def test_what_is_here_is_loaded_unasked(config: Config) -> None:
    demo = VotedModel(DemoExpert("ops"), bytes(32))
    assert chosen(config, demo) == demo


def test_a_file_that_is_not_the_one_that_was_voted_for_is_not_loaded(
    config: Config, tmp_path: Path
) -> None:
    from swarmllm.adapters.models.library import find

    card = next(card for card in bundled() if card.name == "ops")
    reference = DemoExpert("ops")
    path = find(reference, tmp_path / "cache", may_fetch=False, progress=lambda *_: None).path
    VotedModel(reference, sha256(path.read_bytes()).digest()).check(path, config)
    VotedModel(reference, bytes.fromhex(card.gguf_sha256)).check(path, config)
    with pytest.raises(LocalError, match="so it is not loaded"):
        VotedModel(reference, bytes(32)).check(path, config)
