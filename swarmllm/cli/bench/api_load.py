"""The clients of the API's benchmark, in a process of their own: so many streams at once, read as
they come.

They share nothing with the node but the socket, so that reading costs the node nothing, and are
started before anything is measured. Each line of standard input is a load, `streams tokens`; what
they saw is a line of JSON on standard output, its times those of the monotonic clock, which is one
for the whole machine. They end with the node, which then closes their standard input.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

import trio

PATH: Final = "/v1/completions"
CHUNK_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Seen:
    """One stream: events with text, bytes, when it was asked for and the last byte came;
    `is_done`: it ended with `[DONE]`, `is_halted`: with an error that names a halt."""

    events: int = 0
    size_bytes: int = 0
    began_at: float = 0.0
    last_at: float = 0.0
    is_done: bool = False
    is_halted: bool = False


def request(port: int, tokens: int, seed: int) -> bytes:
    body = {
        "model": "local",
        "prompt": "It was a dark night, and the old man",
        "max_tokens": tokens,
        "temperature": 1.0,
        "seed": seed,
        "stream": True,
    }
    data = json.dumps(body).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + data


async def read_stream(port: int, tokens: int, seed: int, seen: Seen) -> None:
    tail = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        seen.began_at = time.monotonic()
        await stream.send_all(request(port, tokens, seed))
        while found := await stream.receive_some(CHUNK_BYTES):
            seen.last_at = time.monotonic()
            seen.size_bytes += len(found)
            seen.events += found.count(b'"text":')
            tail = (tail + found)[-CHUNK_BYTES:]
    seen.is_done = b"data: [DONE]" in tail
    seen.is_halted = b'"code":"halted"' in tail


async def load(port: int, streams: int, tokens: int) -> list[Seen]:
    every = [Seen() for _ in range(streams)]
    async with trio.open_nursery() as nursery:
        for seed, seen in enumerate(every):
            nursery.start_soon(read_stream, port, tokens, seed, seen)
    return every


def main() -> None:
    port = int(sys.argv[1])
    for line in sys.stdin:
        streams, tokens = map(int, line.split())
        seen = [asdict(one) for one in trio.run(load, port, streams, tokens)]
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
