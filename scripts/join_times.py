"""Measure how long a friend waits: from `swarmllm join INVITE` to a node that is ready, and to the
first token of its first answer, direct and through a relay (as root, with `ip` and `nft`).

    python scripts/join_times.py [RUNS]

In the laboratory of tests/reach, whose lines have no delay; the friend is at home behind a NAT, has
no model, and asks from the moment that its socket answers.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trio

from swarmllm.errors import SwarmError
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_fixture import write_model
from tests.reach.lab import Lab
from tests.reach.test_joining import START_S, invite_of, meet, opened

AGAIN_S = 0.05


async def friend_waits(lab: Lab, line: str) -> tuple[float, float]:
    """Seconds until a new node at home-b is ready, and until its first token."""
    began = trio.current_time()
    friend = await lab.join("home-b", "--model", "none", line)
    await friend.wait_for("ready", START_S)
    ready_s = trio.current_time() - began
    while not await writes(friend.folder):  # noqa: ASYNC110  It tells nobody when it can.
        await trio.sleep(AGAIN_S)
    first_s = trio.current_time() - began
    friend.process.terminate()
    await friend.process.wait()
    shutil.rmtree(friend.folder)  # The next one is another friend.
    return ready_s, first_s


async def writes(folder: Path) -> bool:
    try:
        async with asking(folder, "generate", prompt="The quick", max_tokens=1) as records:
            return "token" in [record["event"] async for record in records]
    except SwarmError:
        return False  # It knows no expert yet.


async def measure(runs: int, model: str) -> None:
    async with opened("relay", "home-b") as lab:
        public = await lab.join("relay", "--model", model)
        await public.wait_for("ready", START_S)
        line = str((await ask(public.folder, "invite"))["line"])
        show("direct", [await friend_waits(lab, line) for _ in range(runs)])
    async with opened("relay", "home-a", "home-b") as lab:
        relay = await lab.join("relay", "--model", "none", "--relay")
        await relay.wait_for("ready", START_S)
        known = ("--peer", lab.addr("relay"), "--behind-nat")
        inviter = await lab.join("home-a", "--model", model, *known)
        await inviter.wait_for("ready", START_S)
        await meet(inviter, relay)
        line = str((await invite_of(inviter))["line"])
        show("relayed", [await friend_waits(lab, line) for _ in range(runs)])


def show(how: str, waits: list[tuple[float, float]]) -> None:
    ready, first = zip(*waits, strict=True)
    print(f"{how}: ready after {said(ready)} s, first token after {said(first)} s")


def said(seconds: tuple[float, ...]) -> str:
    return ", ".join(f"{one:.1f}" for one in sorted(seconds))


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        trio.run(measure, runs, str(write_model(Path(folder) / "replica.gguf")))


if __name__ == "__main__":
    main()
