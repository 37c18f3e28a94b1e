"""The published dialogues and breaches on a real connection: a raw client writes the published
bytes and reads the published answers.

Cites protocols/streams.md (STREAM-6) and vectors/dialogues.json."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.core.inputs import PeerConnected, PeerLost, Received
from swarmllm.wire.codec import EXPERT_REPLIES, decode
from tests import ROOT
from tests.adapters.libp2p.halt_stream_support import attacked, strikes
from tests.adapters.libp2p.support import QUICK, RawPeer, ended, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import network_of
from tests.adapters.libp2p.test_streams import listening_for_goodbye
from tests.contracts.network_contract import DEADLINE_S, Member

VECTORS = json.loads(
    (ROOT / "protocols" / "vectors" / "dialogues.json").read_text(encoding="utf-8")
)
DIALOGUES = {one["name"]: one["steps"] for one in VECTORS["dialogues"]}
ASKING = "client's expert stream"


async def read(stream: Any, size: int) -> bytes:
    found = b""
    with trio.fail_after(DEADLINE_S):
        while len(found) < size:
            got = await stream.read(size - len(found))
            assert got, "the stream ended"
            found += got
    return found


@pytest.mark.parametrize(
    "name", ["a question", "a cache that was lost", "refused 4: no such session", "a shuffle"]
)
def test_the_published_frames_cross_a_real_connection_unchanged(name: str) -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream, heard = await stranger.open(conn, EXPERT_PROTOCOL), 0
        for step in (one for one in DIALOGUES[name] if one.get("stream") == ASKING):
            data = bytes.fromhex(step["hex"])
            if step["from"] == "client":
                await stream.write(data)
                got = await node.hears(Received, lambda one: one.peer == stranger.peer, skip=heard)
                heard += 1
                assert (type(got.message).__name__, got.size_bytes) == (step["type"], len(data))
            else:
                node.network.send(stranger.peer, decode(data[4:], EXPERT_REPLIES))
                assert await read(stream, len(data)) == data
        assert strikes(node, stranger.peer) == 0

    attacked(attack)


@pytest.mark.parametrize("breach", VECTORS["breaches"], ids=lambda one: one["name"])
def test_a_client_that_breaks_the_protocol_sees_what_the_vectors_say(
    breach: dict[str, Any],
) -> None:
    async def main() -> None:
        sees, goodbyes = breach["sees"], list[int]()
        async with members(1, timing=QUICK) as (node,), raw_peer() as stranger:
            listening_for_goodbye(stranger, goodbyes)
            conn = await stranger.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(bytes.fromhex(breach["hex"]))
            if "goodbye" in sees:
                with trio.fail_after(DEADLINE_S):
                    await ended(stream)
                await until(lambda: goodbyes)
                assert goodbyes == [sees["goodbye"]]
                await node.hears(PeerLost, lambda one: one.peer == stranger.peer)
            else:
                answer = bytes.fromhex(sees["answer"])
                assert await read(stream, len(answer)) == answer
                assert node.count(PeerLost) == 0
            assert strikes(node, stranger.peer) == sees["strikes"]

    trio.run(main)
