"""A hostile peer of a real node: whatever it sends as records of governance changes nothing that it
has no right to, is counted against it where it breaks the protocol, and costs a bounded sum."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import trio

from swarmllm.adapters.libp2p.lane import StreamEnded, write_all
from swarmllm.cli.demo_voters import Voters
from swarmllm.core.governance.mandate import scope_of
from swarmllm.core.settings.table import EXTRA
from swarmllm.messages.governance import (
    GOV_FRAME_MAX,
    Proposal,
    SetDigest,
    SetRecords,
    SetSetting,
    Vote,
)
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.ports import GOV_PROTOCOL
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.framing import frame
from swarmllm.wire.signed import key_id, sign_record
from tests.adapters.libp2p.halt_stream_support import key_that
from tests.adapters.libp2p.support import ended, raw_peer
from tests.cli.command import DEADLINE_S, RunningNode

pytestmark = pytest.mark.slow

MANY: Final = 10_000
FLOOD_S: Final = 2.0
MORE_MEMORY_MAX: Final = 64 << 20  # Bytes. All that is sent is 5 MB; what is kept of it, some KB.


@dataclass
class Attacked:
    """The node, and what its voters sign."""

    node: RunningNode
    voters: Voters
    draft: Proposal

    @property
    def scope(self) -> bytes:
        return scope_of(self.voters.state.swarm, self.voters.state.charters)

    def signed(self, record: Proposal | Vote, by: str = "ann") -> bytes:
        key = self.voters.keys[by]
        return sign_record(record, [(key.public_key, key.sign)])

    def proposal(self, number: int) -> Proposal:
        return replace(self.draft, seq=number + 1, why=f"reason {number}")

    def vote(self, proposal: Proposal, yes: int, by: str = "ann") -> Vote:
        key = key_id(self.voters.keys[by].public_key)
        return Vote(proposal.swarm, 1, sha256(encode(proposal)).digest(), key, yes, yes)

    def group(self, *records: bytes) -> bytes:
        return frame(SetRecords(self.scope, records))

    async def shown(self) -> list[dict[str, Any]]:
        """The proposals, but for how long ago each came."""
        found: list[dict[str, Any]] = (await ask(self.node.data, "proposals"))["proposals"]
        return [{name: one[name] for name in one if name != "seen_s"} for one in found]

    async def sees(self, count: int) -> list[dict[str, Any]]:
        """Until it shows so many proposals."""
        with trio.fail_after(DEADLINE_S):
            while len(found := await self.shown()) < count:  # noqa: ASYNC110  It tells when asked.
                await trio.sleep(0.02)
        return found

    def memory(self) -> int:
        """Resident bytes of the node's process."""
        pages = Path(f"/proc/{self.node.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def stream(attacked: Attacked) -> AsyncIterator[Any]:
    """A new peer's stream of governance to the node."""
    ready = attacked.node.wait_for("ready")
    at: Any = SimpleNamespace(addrs=(ready["invite"],), peer=ready["peer"])
    async with raw_peer(key=key_that(lambda peer: peer < ready["peer"])) as peer:
        connection = await peer.dial(at)
        found = await peer.open(connection, GOV_PROTOCOL)
        await write_all(found, frame(SetDigest(attacked.scope, bytes(8))))
        yield found


async def send(found: Any, frames: Iterable[bytes]) -> bool:
    """Whether the node took them all, and did not end the stream."""
    try:
        for one in frames:
            await write_all(found, one)
    except StreamEnded:
        return False
    return True


async def is_ended(found: Any) -> None:
    with trio.fail_after(DEADLINE_S):
        await ended(found)


def test_a_peer_that_floods_a_node_with_records_changes_nothing_and_pays(tmp_path: Path) -> None:
    voters = Voters(bytes(range(32)))
    charter = ("--charter", str(voters.write(tmp_path / "charter")))
    data = tmp_path / "data"
    with RunningNode(tmp_path, data, "--port", "0", "--model", "none", *charter) as node:
        node.wait_for("ready")
        trio.run(_all_attacks, node, voters)


async def _all_attacks(node: RunningNode, voters: Voters) -> None:
    asked = {"action": encode(SetSetting(EXTRA.code, 2)).hex(), "why": "w"}
    key = voters.keys["ann"].public_key.hex()
    answer = await ask(node.data, "propose", key=key, **asked)
    attacked = Attacked(node, voters, decode(bytes.fromhex(answer["payload"]), (Proposal,)))
    await _ten_thousand_by_one_author(attacked)
    await _replays_and_contradictions(attacked)
    before = await attacked.shown()
    for name, frames in _breaches(attacked).items():
        async with stream(attacked) as found:
            await send(found, frames)
            await is_ended(found)
        assert await attacked.shown() == before, name
    status = await ask(node.data, "status")
    assert (status["state"], status["peers"]) == ("running", [])


async def _ten_thousand_by_one_author(attacked: Attacked) -> None:
    memory = attacked.memory()
    async with stream(attacked) as found:
        records = (attacked.signed(attacked.proposal(number)) for number in range(MANY))
        with trio.move_on_after(FLOOD_S):  # The node reads no faster than the peer's budget.
            await send(found, map(attacked.group, records))
        held = await attacked.sees(4)
    assert len(held) == 4
    assert {one["state"] for one in held} == {"open"}
    assert attacked.memory() < memory + MORE_MEMORY_MAX


async def _replays_and_contradictions(attacked: Attacked) -> None:
    """A yes and a no of one voter count as none, however often either is said."""
    ids = {one["id"] for one in await attacked.shown()}
    first = next(
        proposal
        for number in range(MANY)
        if sha256(encode(proposal := attacked.proposal(number))).hexdigest() in ids
    )
    votes = [attacked.signed(attacked.vote(first, yes)) for yes in (1, 0)]
    async with stream(attacked) as found:
        group = attacked.group(attacked.signed(first), *votes)
        assert await send(found, [group] * 60), "what is known is no breach"
        id = sha256(encode(first)).hexdigest()
        with trio.fail_after(DEADLINE_S):
            while True:
                one = next(one for one in await attacked.shown() if one["id"] == id)
                if one["double"]:
                    break
                await trio.sleep(0.02)
    assert (one["yes"], one["no"], one["state"]) == ([], [], "open")
    assert one["double"] == [key_id(attacked.voters.keys["ann"].public_key).hex()]


def _breaches(attacked: Attacked) -> dict[str, list[bytes]]:
    """Each of them costs whoever sends it the connection, at the third at the latest."""
    fifth = attacked.proposal(MANY)
    good = attacked.signed(fifth, "ben")
    forged = [good[:-1] + bytes((good[-1] ^ number,)) for number in (1, 2, 3)]
    theirs = replace(fifth, author=key_id(attacked.voters.keys["ben"].public_key))
    foreign = [
        attacked.signed(replace(theirs, swarm=bytes([number]) * 32), "ben") for number in (1, 2, 3)
    ]
    return {
        "badly signed": [attacked.group(one) for one in forged],
        "of another swarm": [attacked.group(one) for one in foreign],
        "too long": [struct.pack(">I", GOV_FRAME_MAX + 1) + bytes(64)] * 3,
        "no frame": [struct.pack(">I", 3) + b"\xc1\xc1\xc1"] * 3,
        "no record": [attacked.group(b"\xc1" * 64)] * 3,
    }
