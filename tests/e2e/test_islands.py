"""One swarm on two networks that never met, over real connections: each half writes, votes, halts
and resumes by itself, and one invite makes them one swarm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.adapters.ledger import LedgerFile
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.adapters.terms_file import render_terms, terms_path
from swarmllm.assembly import LEDGER_FILE, Parts, open_node
from swarmllm.core.governance.mandate import DEFAULTS, naming
from swarmllm.core.settings.table import EXTRA
from swarmllm.errors import HaltedError
from swarmllm.messages.governance import NO_BASE, Proposal, SetSetting, Vote
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.operators import Founders, Operator
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

VOTERS: Final = [Operator(f"island voter {number}") for number in range(3)]
TERMS: Final = replace(DEFAULTS, review_h=1)
WE: Final = Founders("islands", voter=[one.public_key for one in VOTERS], ext=naming(TERMS))
MEET_S: Final = 60.0  # On a machine with much else to do; alone it takes two or three.
NODES: Final = ("west 1", "west 2", "east 1", "east 2")


@asynccontextmanager
async def node_in(folder: Path, **settings: Any) -> AsyncIterator[LocalNode]:
    """A node on loopback that looks for nobody by itself."""
    plain = Config(folder, folder, listen_host="127.0.0.1", port=0, lan=False, api=False)
    model = ScriptedEngine(ScriptedModel(folder.name, len(folder.name)), service_s=0.001)
    parts = Parts(engine=model, text=ScriptedText(frozenset()))
    async with open_node(replace(plain, **settings), parts=parts) as node:
        yield node


async def writes(node: LocalNode) -> bool:
    """Whether an answer at this node comes to its end."""
    answer = node.generate("abc", k=2, max_tokens=4)
    try:
        async for _ in answer:
            continue
    except HaltedError:
        return False
    return answer.result is not None and answer.result.reason == "length"


async def publish(folder: Path, record: bytes) -> None:
    async with asking(folder, "halt_publish", records=[record.hex()], wait_s=5.0) as told:
        outcomes = [one async for one in told if one["event"] == "imported"]
    assert outcomes[0]["outcomes"][0]["outcome"] == "applied", outcomes


async def govern(folder: Path, author: Operator, *voters: Operator) -> str:
    """Somebody proposes on one side, and some vote there; the id of the proposal."""
    action = encode(SetSetting(EXTRA.code, 3))
    digest = bytes.fromhex((await ask(folder, "halt_status"))["digest"])
    proposal = Proposal(
        *(WE.swarm, 1, author.id, 1, 3, action, NO_BASE, 1, digest, b"\7" * 32, "", 0)
    )
    id = sha256(encode(proposal)).digest()
    votes = [(Vote(WE.swarm, 1, id, one.id, 1, 0), one) for one in voters]
    signed = [
        sign_record(record, [(who.public_key, who.sign)]).hex()
        for record, who in ((proposal, author), *votes)
    ]
    await ask(folder, "submit", records=signed)
    return id.hex()


async def until(is_so: Any) -> None:
    with trio.fail_after(MEET_S):
        while not await is_so():  # noqa: ASYNC110  It tells when asked.
            await trio.sleep(0.05)


class Islands:
    """Two nodes on each side; the second one in the west is stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folders = {name: folder / name.replace(" ", "-") for name in NODES}
        self.charter = folder / "charter"
        self.charter.write_text(render([sheet_of(WE.charter)]))
        terms_path(self.charter).write_text(render_terms(TERMS))
        self.nodes: dict[str, LocalNode] = {}

    async def start(self, stack: AsyncExitStack, name: str, **settings: Any) -> None:
        opened = node_in(self.folders[name], **settings)
        self.nodes[name] = await stack.enter_async_context(opened)

    def side(self, name: str) -> set[str]:
        """The peers on the side of this node."""
        half = name.split(maxsplit=1)[0]
        return {node.peer for other, node in self.nodes.items() if other.startswith(half)}

    async def are_apart(self) -> bool:
        """Each knows the experts of its own side, and may ask them."""
        found = [
            {expert.peer for expert in node.experts() if expert.connected or expert.local}
            == self.side(name)
            and not node.view().halted
            for name, node in self.nodes.items()
        ]
        return all(found)

    async def are_mixed(self) -> bool:
        return all(
            any(one.connected and one.peer not in self.side(name) for one in node.experts())
            for name, node in self.nodes.items()
        )

    async def agree(self, ids: set[str]) -> bool:
        """All hold the same orders, and what was proposed on either side."""
        for folder in self.folders.values():
            shown = {one["id"] for one in (await ask(folder, "proposals"))["proposals"]}
            if not ids <= shown:
                return False
        return (
            len({(await ask(one, "halt_status"))["digest"] for one in self.folders.values()}) == 1
        )

    def logs(self) -> dict[str, list[bytes]]:
        """The entries of all ledgers."""
        found = {}
        for name, folder in self.folders.items():
            with LedgerFile(folder / LEDGER_FILE) as log:
                found[name] = [leaf for _, leaf in log.leaves()]
        return found


def test_two_networks_become_one_swarm_by_one_invite(tmp_path: Path) -> None:
    async def body() -> None:
        swarm, under = Islands(tmp_path), {"charter": str(tmp_path / "charter")}
        folders, nodes = swarm.folders, swarm.nodes
        async with AsyncExitStack() as stack:
            await swarm.start(stack, "west 1", **under)
            await swarm.start(stack, "east 1", **under)
            await swarm.start(stack, "east 2", **under, peers=(nodes["east 1"].addrs[0],))
            known = {"peers": (nodes["west 1"].addrs[0],)}
            async with AsyncExitStack() as passing:
                await swarm.start(passing, "west 2", **under, **known)
                await until(swarm.are_apart)
                ids = {
                    await govern(folders["west 2"], VOTERS[0], VOTERS[0], VOTERS[1]),
                    await govern(folders["east 1"], VOTERS[2], VOTERS[2]),
                }
                await publish(folders["west 1"], WE.halt(1))
                assert [await writes(nodes[name]) for name in NODES] == [False, False, True, True]
                await publish(folders["west 2"], WE.resume({0: 1}))
                await until(swarm.are_apart)
                assert await writes(nodes["west 1"])
            before = swarm.logs()
            line = str((await ask(folders["east 1"], "invite"))["line"])
            await swarm.start(stack, "west 2", invite=line, **known)
            await until(swarm.are_mixed)
            await until(lambda: swarm.agree(ids))
            assert [await writes(node) for node in nodes.values()] == [True] * 4
            assert not any(node.view().halted for node in nodes.values())
            after = swarm.logs()
            assert [after[name][: len(before[name])] for name in NODES] == [*before.values()]

    trio.run(body)
