"""A home invites another home: neither can be dialled, and one pasted line is all that the friend
has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import NodeProcess
from swarmllm.core.peers.relayed import CIRCUIT
from swarmllm.runtime.local_api.client import ask
from swarmllm.testing.gguf_fixture import write_model
from tests.reach.lab import MISSING
from tests.reach.test_joining import START_S, TOKENS, meet, opened, until, write

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


async def invite_of(node: NodeProcess) -> dict[str, Any]:
    """Once the node is reached through a relay."""

    async def is_relayed() -> bool:
        return any(CIRCUIT in addr for addr in (await ask(node.folder, "status"))["addrs"])

    await until(is_relayed)
    return await ask(node.folder, "invite")


def test_a_home_joins_another_home_with_one_line_through_a_relay(tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "replica.gguf"))

    async def main() -> None:
        async with opened("relay", "home-a", "home-b") as lab:
            relay = await lab.join("relay", "--model", "none", "--relay")
            await relay.wait_for("ready", START_S)
            known = ("--peer", lab.addr("relay"), "--behind-nat")
            inviter = await lab.join("home-a", "--model", model, *known)
            await inviter.wait_for("ready", START_S)
            await meet(inviter, relay)
            invite = await invite_of(inviter)
            friend = await lab.join("home-b", "--model", "none", str(invite["line"]))
            await friend.wait_for("ready", START_S)
            await meet(friend, inviter)
            assert (await write(friend))["tokens"] == TOKENS

    trio.run(main)
