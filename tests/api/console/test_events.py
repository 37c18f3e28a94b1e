"""The stream of events: the newest state, at most once a second, for few clients."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import trio

from swarmllm.api.console.events import CLIENTS_MAX, KEEP_ALIVE_S, LIFE_MAX, News, summary
from tests.api.console.records import status
from tests.api.http_client import Client, Got, serving
from tests.clock import under_mock_clock


def told(got: Got, kind: str) -> list[Any]:
    return [event for name, event in zip(got.names, got.events, strict=True) if name == kind]


async def watch(client: Client, got: Got, gone: trio.Event) -> None:
    await client.send("GET", "/api/events", b"", {}, got, gone)


@under_mock_clock
async def test_a_client_is_told_each_state_once_at_most_each_second() -> None:
    async with serving([7, 8]) as client, trio.open_nursery() as nursery:
        got, gone = Got(), trio.Event()
        nursery.start_soon(watch, client, got, gone)
        await trio.sleep(9.5)
        assert got.headers["content-type"].startswith("text/event-stream")
        states = told(got, "state")
        assert {(one["state"], one["usable"]) for one in states} == {("running", 2)}
        assert all(one != other for one, other in pairwise(states))
        assert len(states) <= 10
        client.swarm.members[1].kill()
        await trio.sleep(60)
        assert told(got, "state")[-1]["usable"] == 1
        assert "peer_lost" in {one["event"] for one in told(got, "life")}
        gone.set()


@under_mock_clock
async def test_a_quiet_stream_says_that_it_lives() -> None:
    news, outlet = News(), Slow()
    async with trio.open_nursery() as nursery:
        writing: Any = outlet
        nursery.start_soon(news.write_to, writing)
        for _ in range(5):
            outlet.reads.release()
        await trio.sleep(2.5 * KEEP_ALIVE_S)
        nursery.cancel_scope.cancel()
    assert outlet.written == [b": keep-alive\n\n"] * 2


@under_mock_clock
async def test_one_client_too_many_is_told_so_and_who_leaves_makes_room() -> None:
    async with serving([7]) as client, trio.open_nursery() as nursery:
        gone = trio.Event()
        for _ in range(CLIENTS_MAX):
            nursery.start_soon(watch, client, Got(), gone)
        await trio.sleep(0.1)
        refused = await client.get("/api/events")
        assert refused.status == 429
        assert "streams of events" in refused.json()["error"]["message"]
        gone.set()
        await trio.sleep(0.1)
        again, left = Got(), trio.Event()
        nursery.start_soon(watch, client, again, left)
        await trio.sleep(0.1)
        assert again.status == 200
        left.set()


class Slow:
    """An outlet whose client reads when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reads = trio.Semaphore(0)

    async def write(self, data: bytes) -> None:
        await self.reads.acquire()
        self.written.append(data)


@under_mock_clock
async def test_a_client_that_reads_slowly_gets_the_newest_state_and_the_last_of_life() -> None:
    news, outlet = News(), Slow()
    async with trio.open_nursery() as nursery:
        writing: Any = outlet
        nursery.start_soon(news.write_to, writing)
        for at in range(1_000):
            news.tell({"event": "peer_found", "at": at})
            news.state = {"at": at}
            news.bell.set()
            if at == 0:
                await trio.sleep(0.1)  # It has the first ones in hand.
        outlet.reads.release()
        outlet.reads.release()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    second = outlet.written[1].decode()
    lines = [json.loads(line[6:]) for line in second.split("\n") if line.startswith("data: ")]
    assert [one["at"] for one in lines] == [*range(1_000 - LIFE_MAX, 1_000), 999]


def test_what_passes_by_itself_is_no_news() -> None:
    now = summary({"status": status(time=1.0, uptime_s=5.0)})
    assert now == summary({"status": status(time=2.0, uptime_s=6.0)})
    assert now != summary({"status": status(time=2.0, answers_open=9)})
