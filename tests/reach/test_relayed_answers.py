"""An answer written with an expert behind a NAT: its record is found, and a relay leads there."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from swarmllm.runtime.local_api.client import ask
from swarmllm.testing.gguf_fixture import write_model
from tests.reach.lab import MISSING
from tests.reach.test_joining import START_S, TOKENS, meet, opened, write

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def test_a_home_writes_with_the_expert_of_another_home_that_only_a_relay_knows(
    tmp_path: Path,
) -> None:
    """The office's router makes a hole impossible, so that all of it goes through the relay."""
    model = write_model(tmp_path / "replica.gguf")

    async def main() -> None:
        async with opened("relay", "home-a", "office") as lab:
            relay = await lab.join("relay", "--model", "none", "--relay")
            await relay.wait_for("ready", START_S)
            peer = ("--peer", lab.addr("relay"))
            hidden = await lab.join("office", "--model", str(model), "--behind-nat", *peer)
            home = await lab.join("home-a", "--model", str(model), *peer)
            for node in (hidden, home):
                await node.wait_for("ready", START_S)
                await meet(node, relay)
            await meet(home, hidden)
            assert (await write(home))["tokens"] == TOKENS
            lent = (await ask(relay.folder, "status"))["relay"]
            assert lent["circuits"] >= 1
            assert lent["carried_bytes"] > 5_000

    trio.run(main)
