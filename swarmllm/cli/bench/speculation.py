"""Speculation between real node processes: tokens per second of every drafter beside strict mode,
at several distances and numbers of experts.

The requester has an expert of its own, and three others answer from behind proxies that take the
one-way delay in each direction. What a draft is worth depends on how much of the ensemble its
expert is. So there are three kinds of prompts: of *one domain*, which the requester's own expert
knows and no other does; of a *shared domain*, which a smaller expert knows too; and *mixed* ones,
which turn from code to prose. The same prompts are asked with the same seeds in every mode, one
mode after the other prompt by prompt, so that what else happens on the machine falls on all. (That
the texts are the same is for tests to show: here what is learned of the experts in one answer
weighs in the next.) The ceiling of a row is what its own tokens per round would give if a round
took a round trip and one step of the engine (a remote drafter's: one more for each token of the
draft), and no less than a step of the requester's engine for each token.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.adapters.models.catalog import SPECIALISTS
from swarmllm.adapters.models.library import bring
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.bench.steps import step_seconds
from swarmllm.cli.bench.transport import START_S, round_trip, start_behind_proxy
from swarmllm.cli.demo_view import known
from swarmllm.cli.eval.corpora import bundled_corpora, read_corpus
from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.cli.rounds import uses
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import DemoExpert, SmolLM2, parse_reference
from swarmllm.runtime.service.record import Record
from swarmllm.testing.proxy import Link

MODES: Final = ("off", "local", "lookup", "remote", "auto")
DELAYS_MS: Final = (0.0, 10.0, 25.0, 50.0, 100.0, 200.0)
DELAYS_QUICK_MS: Final = (25.0, 100.0)
QUICKER: Final = ("local", "auto")  # Than strict mode, by far.
KINDS: Final = ("one-domain", "shared-domain", "mixed")
TOKENS_MIN, TOKENS_MAX = 24, 64
SECONDS_PER_ANSWER: Final = 5.0  # In strict mode.
PROMPTS: Final = 3
PROMPT_CHARACTERS: Final = 300
ANSWER_S: Final = 180.0
GOAL: Final = 0.97  # Of strict mode.


@dataclass(frozen=True, slots=True)
class Place:
    """What is measured in one go: a number of experts, a one-way delay and a kind of prompts."""

    k: int
    delay_ms: float
    kind: str


@dataclass
class Tally:
    """What the answers of one mode have added up to."""

    tokens: int = 0
    seconds: float = 0.0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    sizes: int = 0
    replies: int = 0

    def count(self, times: Sequence[float], records: Sequence[Record], end: Record) -> None:
        # The first token waits for the prompt.
        self.tokens += len(times) - 1
        self.seconds += times[-1] - times[0]
        self.rounds += end["rounds"] - 1
        self.drafted += end["drafted"]
        self.accepted += end["accepted"]
        remote = [use["bytes"] for one in records[1:] for use in uses(one) if use["bytes"]]
        self.sizes, self.replies = self.sizes + sum(remote), self.replies + len(remote)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


async def measure(
    quick: bool, config: Config, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    for place in places(quick):
        async with aclosing(measure_at(place, config, say)) as figures:
            async for measurement in figures:
                yield measurement


def places(quick: bool) -> list[Place]:
    """Every distance with K = 4; fewer experts at two of them, where prompts are of one domain or
    of two."""
    if quick:
        return [Place(4, delay_ms, kind) for delay_ms in DELAYS_QUICK_MS for kind in KINDS]
    most = [Place(4, delay_ms, kind) for delay_ms in DELAYS_MS for kind in KINDS]
    fewer = product((1, 2), DELAYS_QUICK_MS, ("one-domain", "mixed"))
    return [*most, *(Place(*one) for one in fewer)]


async def measure_at(
    place: Place, config: Config, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """Every mode at one place, in a swarm of its own."""
    models = [await _path(reference, config, say) for reference in _experts(config, place.kind)]
    say("decode step")
    step_s, _ = await step_seconds(1, models[0], config.cache_dir)
    link = Link(delay_s=place.delay_ms / 1000)
    rtt_s = await round_trip(link)
    say(f"{place.delay_ms:.0f} ms, K={place.k}, {place.kind} prompts")
    with temporary_folder() as folder:
        async with open_swarm(folder, link, models, config.cache_dir, say) as requester:
            prompts = _prompts(place.kind)
            found = await _modes(requester, place.k, prompts, 1 / (rtt_s + step_s))
    for mode, tally in found.items():
        yield _row(mode, tally, found["off"], rtt_s, step_s, place)


def _experts(config: Config, kind: str) -> Sequence[DemoExpert | SmolLM2]:
    """Four of one vocabulary; the first is the requester's own."""
    own = "code" if kind == "one-domain" else "prose"
    if isinstance(parse_reference(config.model), SmolLM2):
        first = SmolLM2(own)
        others = [SmolLM2(name) for name in sorted(SPECIALISTS)[:3] if name != own]
        return [first, *others, SmolLM2()]
    names = ("prose", "prose-small", "code", "ops")
    return [DemoExpert(own), *(DemoExpert(name) for name in names if name != own)]


async def _path(
    reference: DemoExpert | SmolLM2, config: Config, say: Callable[[str], None]
) -> Path:
    def show(done: int, total: int) -> None:
        say(f"making {reference} ready: {done} of {total} bytes")

    may_fetch = not config.offline
    return (await bring(reference, config.cache_dir, may_fetch=may_fetch, show=show)).path


def _prompts(kind: str) -> list[str]:
    """Texts that the experts have never read."""
    corpora = bundled_corpora()
    prose, code = (
        [passage.text for passage in read_corpus(name, corpora[name])[: 2 * PROMPTS]]
        for name in ("prose", "code")
    )
    cut = PROMPT_CHARACTERS
    match kind:
        case "one-domain":
            return [text[:cut] for text in code[:PROMPTS]]
        case "shared-domain":
            return [text[:cut] for text in prose[:PROMPTS]]
        case _:
            turns = zip(code[:PROMPTS], prose[PROMPTS:], strict=True)
            return [f"{a[: cut // 2]}\n\n{b[: cut // 2]}" for a, b in turns]


async def _modes(
    requester: NodeProcess, k: int, prompts: Sequence[str], strict_rate: float
) -> dict[str, Tally]:
    """What came of the prompts in each mode. `strict_rate`: what strict mode can reach; where a
    mode is hardly quicker, fewer tokens say as much."""
    few = int(min(TOKENS_MAX, max(TOKENS_MIN, SECONDS_PER_ANSWER * strict_rate)))
    tallies = {mode: Tally() for mode in MODES}
    for number, prompt in enumerate(prompts):
        for mode in MODES:
            tokens = TOKENS_MAX if mode in QUICKER else few
            request = {"prompt": prompt, "k": k, "extra": 0, "seed": number, "speculation": mode}
            await _ask(requester, {**request, "max_tokens": tokens}, tallies[mode])
    return tallies


def _row(
    mode: str, tally: Tally, strict: Tally, rtt_s: float, step_s: float, place: Place
) -> Measurement:
    per_round = tally.tokens / max(1, tally.rounds)
    drafted = tally.drafted / max(1, tally.rounds)
    round_s = rtt_s + step_s * (1 + (drafted if mode == "remote" else 0))
    own_s = step_s * per_round if mode in {"local", "auto"} else 0.0
    details = {
        "tokens": tally.tokens,
        "tokens_per_round": round(per_round, 2),
        "drafted_per_round": round(drafted, 2),
        "accepted": round(tally.accepted / tally.drafted, 3) if tally.drafted else None,
        "bytes_per_expert_and_token": round(tally.sizes / max(1, tally.replies)),
        "times_strict": round(tally.rate / strict.rate, 3),
        "round_trip_ms": round(1000 * rtt_s, 1),
    }
    return Measurement(
        f"speed with speculation {mode}",
        tally.rate,
        "tokens/s",
        per_round / max(round_s, own_s),
        {"k": place.k, "one_way_ms": place.delay_ms, "prompts": place.kind},
        GOAL * strict.rate,
        details,
    )


async def _ask(requester: NodeProcess, request: dict[str, Any], tally: Tally) -> None:
    times: list[float] = []
    records: list[Record] = []
    with trio.move_on_after(ANSWER_S):
        async with asking(requester.folder, "generate", **request) as answer:
            async for record in answer:
                if record["event"] == "token":
                    times.append(trio.current_time())
                    records.append(record)
                elif record["event"] == "end" and len(times) > 1:
                    tally.count(times, records, record)
                    return
    raise LocalError(
        f"the requester made {len(times)} tokens within {ANSWER_S:.0f} s{requester.last_words()}"
    )


@asynccontextmanager
async def open_swarm(
    folder: Path,
    link: Link,
    models: Sequence[Path],
    cache_dir: Path,
    say: Callable[[str], None],
    more: Sequence[str] = (),
) -> AsyncIterator[NodeProcess]:
    """A requester with the first of the models, which knows an expert with each of the others.
    `more`: options of all of them."""
    async with AsyncExitStack() as stack:
        common = [
            *("--swarm", f"bench-{secrets.token_hex(4)}", "--cache-dir", str(cache_dir)),
            *("--no-lan", "--listen", "127.0.0.1", "--threads", "1", *more),
        ]
        fleet = await stack.enter_async_context(open_fleet(folder))
        addresses: list[str] = []
        for number, model in enumerate(models[1:], start=1):
            say(f"{link.delay_s * 1000:.0f} ms: starting expert {number} of {len(models) - 1}")
            options = [*common, "--model", str(model)]
            node = await start_behind_proxy(fleet, stack, f"expert {number}", link, options)
            ready = await node.wait_for("listening", START_S)
            addresses += [argument for addr in ready["addrs"] for argument in ("--peer", addr)]
        options = [*common, "--model", str(models[0]), *addresses]
        requester = await start_behind_proxy(fleet, stack, "requester", link, options)
        await requester.wait_for("ready", START_S)
        with trio.move_on_after(START_S):
            while len(known(requester, "expert")) < len(models) - 1:
                await requester.change()
        if len(known(requester, "expert")) < len(models) - 1:
            raise LocalError(f"the requester did not find all experts within {START_S:.0f} s")
        yield requester
