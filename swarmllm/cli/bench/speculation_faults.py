"""Answers with drafts through a network that breaks: whether every token comes once, and whether
the text is the one that came without a draft while nothing broke.

The requester and three experts are node processes with one model, so that a text is the same
whoever is left. Then the same once more with a requester that has no expert, so that a remote one
makes the drafts. Between them lies the internet: every message takes its time, with jitter; and a
script drawn from a seed resets connections, stops lines for a while, and kills expert processes,
which are started again. Every other answer is greedy. The others are drawn with a seed; there an
engine's rounding, which differs with what it computes together, may choose another token once in a
while, so only the greedy ones have to be the same.
"""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.adapters.models.library import bring
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.bench.transport import START_S
from swarmllm.cli.demo_view import known
from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import DemoExpert
from swarmllm.runtime.service.record import Record
from swarmllm.testing.proxy import Link, Proxy, open_proxy

ANSWERS, ANSWERS_QUICK = 100, 10
EXPERTS: Final = 3
LINK: Final = Link(delay_s=0.025, jitter=0.4)
TOKENS: Final = 48
ANSWER_S: Final = 120.0
GAP_S: Final = (0.1, 1.0)  # Between two things that happen.
STILL_S: Final = (0.05, 1.0)  # How long a line stands still, and a process that was killed is gone.
HARM: Final = {"reset": 6, "pause": 4, "kill": 1}  # How often each happens, beside the others.
PROMPTS: Final = (
    "It was a dark night, and the old man",
    "She had never seen the sea before, but",
    "The first thing that he said was",
)
GREEDY, DRAWN = 0.0, 0.8


@dataclass(slots=True)
class Toll:
    """What the answers came to, and what had happened to them. `same`: texts that came as without
    drafts and faults, by temperature, of so many `asked`."""

    whole: int = 0
    asked: dict[float, int] = field(default_factory=lambda: {GREEDY: 0, DRAWN: 0})
    same: dict[float, int] = field(default_factory=lambda: {GREEDY: 0, DRAWN: 0})
    drafted: int = 0
    accepted: int = 0
    failovers: int = 0
    harm: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HARM, 0))
    faults: list[str] = field(default_factory=list)
    """What was wrong with answers that were not whole."""

    @property
    def answers(self) -> int:
        return sum(self.asked.values())


@dataclass(slots=True)
class _Expert:
    name: str
    arguments: Sequence[str]
    proxy: Proxy
    node: NodeProcess


async def measure(
    quick: bool, config: Config, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    found = await bring(
        DemoExpert("prose"),
        config.cache_dir,
        may_fetch=not config.offline,
        show=lambda *_: say("making the model ready"),
    )
    count = ANSWERS_QUICK if quick else ANSWERS
    for is_expert in (True, False):
        toll = await play(found.path, config.cache_dir, count, 1, say, is_expert=is_expert)
        yield Measurement(
            "answers with drafts through faults that are whole",
            toll.whole,
            "answers",
            count,
            {
                "drafter": "own" if is_expert else "remote",
                **{"k": EXPERTS, "one_way_ms": 1000 * LINK.delay_s, "jitter": LINK.jitter},
                "tokens": TOKENS,
            },
            count,
            {
                "greedy_same": f"{toll.same[GREEDY]} of {toll.asked[GREEDY]}",
                "drawn_same": f"{toll.same[DRAWN]} of {toll.asked[DRAWN]}",
                "drafted": toll.drafted,
                "accepted": toll.accepted,
                "failovers": toll.failovers,
                **toll.harm,
                "faults": toll.faults,
            },
        )


async def play(
    model: Path,
    cache_dir: Path,
    answers: int,
    seed: int,
    say: Callable[[str], None],
    *,
    is_expert: bool = True,
) -> Toll:
    """Ask `answers` times while things break, drawn from `seed`. `is_expert`: the requester has the
    model, too."""
    toll, rng = Toll(), random.Random(seed)
    with temporary_folder() as folder:
        async with AsyncExitStack() as stack:
            fleet = await stack.enter_async_context(open_fleet(folder))
            own = model if is_expert else None
            requester, experts = await _start(fleet, stack, model, own, cache_dir, say)
            wanted: dict[tuple[str, float], list[Record]] = {}
            for prompt in PROMPTS[: max(1, answers // 2)]:
                for heat in (GREEDY, DRAWN):
                    say("texts without drafts, while nothing breaks")
                    wanted[prompt, heat] = await _ask(requester, prompt, heat, "off")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_harm, fleet, experts, rng, toll)
                for number in range(answers):
                    prompt, heat = list(wanted)[number % len(wanted)]
                    say(f"answer {number + 1} of {answers}, while things break")
                    count(
                        *(toll, await _ask(requester, prompt, heat, "auto"), heat),
                        wanted[prompt, heat],
                    )
                nursery.cancel_scope.cancel()
    return toll


def count(toll: Toll, found: list[Record], heat: float, wanted: list[Record]) -> None:
    *tokens, end = found
    toll.asked[heat] += 1
    toll.drafted += end["drafted"]
    toll.accepted += end["accepted"]
    toll.failovers += end["failovers"]
    indices = [one["index"] for one in tokens]
    if (indices, end["reason"], end["tokens"]) == (list(range(TOKENS)), "length", TOKENS):
        toll.whole += 1
    else:
        toll.faults.append(f"{end['reason']} after {indices[-3:]}: {end.get('error')}")
    toll.same[heat] += end["text"] == wanted[-1]["text"]


async def _harm(fleet: Fleet, experts: Sequence[_Expert], rng: random.Random, toll: Toll) -> None:
    while True:
        await trio.sleep(rng.uniform(*GAP_S))
        expert = rng.choice(experts)
        (what,) = rng.choices(list(HARM), list(HARM.values()))
        still_s = rng.uniform(*STILL_S)
        toll.harm[what] += 1
        match what:
            case "reset":
                expert.proxy.reset()
            case "pause":
                expert.proxy.pause()
                await trio.sleep(still_s)
                expert.proxy.resume()
            case _:
                expert.node.process.kill()
                await expert.node.process.wait()
                await trio.sleep(still_s)
                expert.node = await fleet.start(expert.name, expert.arguments)


async def _ask(requester: NodeProcess, prompt: str, heat: float, speculation: str) -> list[Record]:
    """The records of its tokens, and that of its end."""
    request: dict[str, Any] = {
        "prompt": prompt,
        "k": EXPERTS,
        "extra": 1,
        "max_tokens": TOKENS,
        "temperature": heat,
        "seed": 1,
        "speculation": speculation,
    }
    found: list[Record] = []
    with trio.move_on_after(ANSWER_S):
        async with asking(requester.folder, "generate", **request) as answer:
            async for record in answer:
                if record["event"] in {"token", "end"}:
                    found.append(record)
                if record["event"] == "end":
                    return found
    raise LocalError(
        f"the requester made {len(found)} tokens within {ANSWER_S:.0f} s{requester.last_words()}"
    )


async def _start(
    fleet: Fleet,
    stack: AsyncExitStack,
    model: Path,
    own: Path | None,
    cache_dir: Path,
    say: Callable[[str], None],
) -> tuple[NodeProcess, list[_Expert]]:
    common = [
        *("--swarm", f"bench-{secrets.token_hex(4)}", "--cache-dir", str(cache_dir)),
        *("--no-lan", "--listen", "127.0.0.1", "--threads", "1"),
    ]
    experts: list[_Expert] = []
    addresses: list[str] = []
    for number in range(1, EXPERTS + 1):
        say(f"starting expert {number} of {EXPERTS}")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            # Free a moment ago; the node says so if somebody was quicker.
            port: int = probe.getsockname()[1]
        proxy = await stack.enter_async_context(open_proxy("127.0.0.1", port, LINK, seed=number))
        announced = f"/ip4/127.0.0.1/tcp/{proxy.port}"
        place = ["--port", str(port), "--announce", announced, *addresses]
        arguments = [*common, "--model", str(model), *place]
        node = await fleet.start(f"expert {number}", arguments)
        ready = await node.wait_for("listening", START_S)
        addresses += [argument for addr in ready["addrs"] for argument in ("--peer", addr)]
        experts.append(_Expert(node.name, arguments, proxy, node))
    options = [*common, "--model", str(own or "none"), *addresses]
    requester = await fleet.start("requester", options)
    await requester.wait_for("ready", START_S)
    with trio.move_on_after(START_S):
        while len(known(requester, "expert")) < EXPERTS:
            await requester.change()
        return requester, experts
    raise LocalError(f"the requester did not find all experts within {START_S:.0f} s")
