"""Receipts of answers over HTTP: asked for with the answer, and fetched by the name that the client
drew."""

from __future__ import annotations

from swarmllm.core.trust.receipt import read
from swarmllm.testing.sealing import MemoSessions
from tests.api.http_client import serving
from tests.api.test_hard_cases import CHAT, chat
from tests.clock import under_mock_clock

NAME = "0123456789abcdef" * 2


@under_mock_clock
async def test_an_answer_has_a_receipt_if_the_client_has_named_one() -> None:
    sessions = MemoSessions()
    async with serving([None, 7, 8], sessions=sessions) as client:
        asked = chat(model="swarm", max_tokens=4)
        got = await client.post(CHAT, asked | {"swarm": {"receipt": NAME, "k": 2}})
        assert got.status == 200, got.body
        found = await client.get(f"/api/receipts/{NAME}")
        assert found.status == 200, found.body
        signed = read(found.body, sessions.unseal)
        experts = {member.peer for member in client.swarm.members[1:]}
        assert {one.peer for one in signed} == experts
        assert all(one.found.said for one in signed)
        again = await client.get(f"/api/receipts/{NAME}")
        assert again.body == found.body


@under_mock_clock
async def test_without_a_name_nothing_is_kept_and_what_is_no_name_is_refused() -> None:
    async with serving([None, 7, 8], sessions=MemoSessions()) as client:
        assert (await client.post(CHAT, chat(model="swarm", max_tokens=2))).status == 200
        missing = await client.get(f"/api/receipts/{NAME}")
        assert missing.status == 404
        assert b"no receipt" in missing.body
        for name in ("x", NAME.upper(), NAME + "0", "../../etc/passwd"):
            body = chat(model="swarm", max_tokens=2) | {"swarm": {"receipt": name}}
            refused = await client.post(CHAT, body)
            assert refused.status == 400
            assert b"receipt" in refused.body
