"""A node that is brought receipts: it believes nobody, and acts on what it has seen itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.assembly import open_node
from swarmllm.core.trust.receipt import written
from swarmllm.errors import LocalError
from swarmllm.messages import SessionRecord
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.service.record import Record
from swarmllm.testing.memory_network import MemorySwarm
from swarmllm.wire.envelope import seal
from tests.assembly.test_assembly import config_in, parts_on, run, scripted
from tests.core.trust.test_receipt import session
from tests.core.trust.test_transcript import DIGEST

LIAR = ephemeral_key()


def receipt(*numbers: int) -> str:
    found = session(*numbers)
    record = SessionRecord(found.session, DIGEST, len(found.rounds), found.link)
    return written([(seal(record, LIAR.public_key, LIAR.sign), found.rounds)]).decode()


async def told(data: Path, op: str, **params: object) -> list[Record]:
    async with asking(data, op, **params) as records:
        return [record async for record in records]


def test_a_contradiction_excludes_its_expert_also_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kept: list[Record] = []

    async def body() -> None:
        async with AsyncExitStack() as stack:
            wire = await stack.enter_async_context(MemorySwarm())
            config = config_in(tmp_path)
            await stack.enter_async_context(open_node(config, parts=parts_on(wire, scripted())))
            assert await told(data, "accuse", receipts=[receipt(1, 2), receipt(1, 2)]) == []
            (found,) = await told(data, "accuse", receipts=[receipt(1, 2), receipt(1, 3)])
            assert found["peer"] == LIAR.peer
            spoilt = receipt(1, 2).replace("A", "B", 1)
            with pytest.raises(LocalError, match="proves nothing"):
                await told(data, "accuse", receipts=[spoilt])
            (verdict,) = await told(data, "verify", receipt=receipt(1, 2))
            assert verdict["verdict"] == "nobody to ask"

    async def again() -> None:
        async with MemorySwarm() as wire, open_node(config_in(tmp_path), parts=parts_on(wire)):
            kept.extend((await told(data, "audits"))[0]["accounts"])

    run(body)
    run(again)
    (account,) = kept
    assert account["peer"] == LIAR.peer
    assert account["standing"] == "excluded"
    assert "contradict" in account["why"]
