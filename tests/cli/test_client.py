"""The node that a command starts for itself is in the swarm of the user's own node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.invite_samples import INVITE
from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT
from swarmllm.adapters.models.catalog import SMOLLM2_135M
from swarmllm.assembly.invite import INVITE_FILE
from swarmllm.cli import client
from swarmllm.cli.client import _as_joined
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.testing.operators import Operator
from swarmllm.wire.invite import write_line

WE = Operator("inviter")


def joined(folder: Path, **changes: object) -> Config:
    """The settings of a folder that joined by an invite, which ran out meanwhile."""
    invite = replace(INVITE, addrs=("/ip4/192.5.5.241/tcp/7339",), **changes)  # type: ignore[arg-type]
    (folder / INVITE_FILE).write_text(write_line(invite, WE.public_key, WE.sign))
    return Config(folder, folder)


def test_a_command_without_a_node_asks_the_swarm_that_the_folder_has_joined(tmp_path: Path) -> None:
    found, vocabulary = _as_joined(joined(tmp_path))
    assert vocabulary == INVITE.vocabulary.hex()
    assert (found.swarm, found.charter) == (INVITE.name, INVITE.swarm.hex())
    assert found.peers[0].startswith("/ip4/192.5.5.241/")
    assert found.invite == ""
    (tmp_path / "other").mkdir()
    other = Config(tmp_path / "other", tmp_path)
    assert _as_joined(other) == (other, "")


def test_a_command_without_a_node_loads_no_model_of_another_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[Path] = []
    monkeypatch.setattr(client, "place_of", lambda *_: here[0] if here else None)
    config, smollm2 = Config(tmp_path, tmp_path), SMOLLM2_135M.vocabulary

    def loads(vocabulary: str) -> bool:
        return client._has_model_of(vocabulary, config)

    known = ("", LLAMA3_FINGERPRINT, smollm2, "ab" * 32)
    assert [loads(one) for one in known] == [True, True, False, False], "the tiny expert"
    here.append(tmp_path)
    assert [loads(one) for one in known] == [True, False, True, False], "SmolLM2"


def test_a_closed_swarm_lets_in_nodes_and_no_commands(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="“friends” is closed, and a node for one command is no"):
        _as_joined(joined(tmp_path, ticket=bytes(16)))
