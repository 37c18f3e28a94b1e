"""One small model and one running node for all tests that only ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmllm.testing.gguf_fixture import write_model
from tests.cli.command import RunningNode

# A swarm of its own may speak another vocabulary, and the fixture's is quick to load.
SWARM = "cli-test"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "fixture.gguf")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[RunningNode]:
    home = tmp_path_factory.mktemp("home")
    with RunningNode(
        home,
        home / "data",
        "--port",
        "0",
        "--swarm",
        SWARM,
        "--model",
        str(model),
        "--context",
        "256",
    ) as running:
        running.wait_for("ready")
        yield running
