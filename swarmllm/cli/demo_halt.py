"""The end of the demo: one operator stops all four nodes in the middle of their answers, and only
two together start them again.

The keys are thrown away afterwards; what they sign goes in through one node, as an operator's order
does, and reaches the others by the swarm alone. Times are those that the nodes themselves put on
their records, on the clock of this one machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from swarmllm.cli.demo_cast import Cast, Prompt
from swarmllm.cli.demo_view import DemoView
from swarmllm.cli.operators.publishing import hand_over
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.cli.processes import NodeProcess
from swarmllm.errors import LocalError
from swarmllm.messages import Halt
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record

LONG: Final = 1000  # Tokens: no answer ends by itself before the order comes.
BEFORE: Final = 5  # Tokens of each answer before the orders come, and again after the forged ones.
STREAM_S: Final = 60.0  # For those tokens: four answers at once share this machine.
# For all to have stopped. Fifteen times what is promised; past that the check fails and says so.
HALT_S: Final = 15.0
PROMISED_S: Final = 1.0
ACKS_S: Final = 5.0
QUIET_S: Final = 1.5  # How long after the order tokens are looked for.
SHORT: Final = 12  # Tokens of the answer afterwards.


@dataclass
class Stream:
    """What one node writes, answer after answer, until one ends with something else than the end of
    its text."""

    node: NodeProcess
    prompt: Prompt
    cast: Cast
    tokens: list[Record] = field(default_factory=list)
    current: int = 0  # Tokens of the answer that runs now.
    end: Record | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    async def run(self, view: DemoView) -> None:
        seed = 0
        while self.end is None:
            seed += 1
            async with asking(
                self.node.folder,
                "generate",
                max_tokens=LONG,
                seed=seed,
                **self.prompt.asked(),
                **self.cast.asking,
            ) as records:
                async for record in records:
                    self._take(record)
                    view.streamed(self.node, record)

    def _take(self, record: Record) -> None:
        if record["event"] == "token":
            self.tokens.append(record)
            self.current += 1
        elif record["event"] == "end" and record["reason"] in {"eos", "length"}:
            self.current = 0
        elif record["event"] == "end":
            self.end = record
        before, self.changed = self.changed, trio.Event()
        before.set()

    async def write(self, tokens: int) -> None:
        """Until it has so many tokens. LocalError if that takes too long or its node ends it."""
        await self._until(lambda: len(self.tokens) >= tokens, f"{tokens} tokens")

    async def reach_the_middle(self) -> None:
        """Until the answer that runs now has a token: one may have ended by itself just now, and
        the next not have begun."""
        await self._until(lambda: self.current > 0, "the first token of an answer")

    async def _until(self, done: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(STREAM_S):
            while not done() and self.end is None:
                await self.changed.wait()
        if not done():
            why = (
                f"ended by {self.end['reason']}"
                if self.end is not None
                else f"not more within {STREAM_S:.0f} s"
            )
            raise LocalError(
                f"{self.node.name} wrote {len(self.tokens)} tokens, not {what}:"
                f" {why}{self.node.last_words()}"
            )

    @property
    def text(self) -> str:
        return "".join(token["text"] for token in self.tokens)


async def halt_and_resume(
    view: DemoView, nodes: Sequence[NodeProcess], ring: Ring, cast: Cast
) -> None:
    view.chapter("one operator stops all four in mid-stream; two together start them again")
    view.say(
        "  All four write at once, each with the help of the others."
        " Then orders come in through one of them.\n",
        "dim",
    )
    streams = [Stream(n, prompt, cast) for n, prompt in zip(nodes, cast.every, strict=True)]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.run, view)
        with view.waiting("four answers at once"):
            for stream in streams:
                await stream.write(BEFORE)
            await _forged(view, nodes[0], ring, streams)
            while not all(stream.current for stream in streams):
                for stream in streams:
                    await stream.reach_the_middle()
        order, data = ring.halt()
        began_at = time.time()
        await hand_over(nodes[1].folder, [data], ACKS_S, as_json=False)
        view.ordered(nodes[1], order)
        await _stopped(view, streams, order, began_at)
        nursery.cancel_scope.cancel()
    view.stopped([(s.node, s.text, _ms(s.tokens[-1], began_at), s.end) for s in streams])
    await _silent(view, streams, began_at, cast)
    await _resume(view, nodes, ring, order)
    await _replayed(view, nodes, data, cast)


def _ms(record: Record, began_at: float) -> float:
    return 1000 * (float(record["time"]) - began_at)


async def _forged(view: DemoView, node: NodeProcess, ring: Ring, streams: Sequence[Stream]) -> None:
    """A signature that is not of the key it names, and an operator of another swarm."""
    _, foreign = Ring().halt()
    refused: list[str] = []
    for record in (ring.forged_halt(), foreign):
        refused += (await hand_over(node.folder, [record], 0.0, as_json=False)).refused
    before = [len(stream.tokens) for stream in streams]
    for stream, count in zip(streams, before, strict=True):
        await stream.write(count + BEFORE)
    halted = await _halted([stream.node for stream in streams])
    detail = (
        f"bad signature and another swarm's operator: {len(refused)} of 2 refused;"
        " all four went on writing"
    )
    view.checked("forged_halt_does_nothing", len(refused) == 2 and not halted, detail)


async def _halted(nodes: Sequence[NodeProcess]) -> list[str]:
    """The names of the nodes that say of themselves that they are halted."""
    return [node.name for node in nodes if (await ask(node.folder, "halt_status"))["halted"]]


def _is_order(order: Halt, record: Record) -> bool:
    return record.get("seq") == order.seq


async def _stopped(view: DemoView, streams: Sequence[Stream], order: Halt, began_at: float) -> None:
    for stream in streams:
        await stream.node.wait_for("halted", HALT_S, partial(_is_order, order), "its halt")
        with trio.move_on_after(HALT_S):
            while stream.end is None:
                await stream.changed.wait()
    flags = [stream.node.found("halted", partial(_is_order, order)) for stream in streams]
    told = [_ms(flag, began_at) for flag in flags if flag is not None]
    ends = [stream.end for stream in streams if stream.end is not None]
    ended = [_ms(end, began_at) for end in ends if end["reason"] == "halted"]
    within = len(told) == len(ended) == len(streams) and max(told + ended) <= 1000 * PROMISED_S
    detail = f"{len(told)} of {len(streams)} halted, {len(ended)} running answers ended by it"
    view.checked(
        "halt_stops_every_node",
        within,
        f"{detail}, the last after {max([*told, *ended], default=0):.0f} ms",
    )


async def _silent(view: DemoView, streams: Sequence[Stream], began_at: float, cast: Cast) -> None:
    """No token of the answers that ran, and none of new ones."""
    refused = 0
    for stream in streams:
        async with asking(
            stream.node.folder,
            "generate",
            max_tokens=1,
            seed=1,
            **stream.prompt.asked(),
            **cast.asking,
        ) as records:
            found = [record async for record in records]
        refused += [(r["event"], r.get("reason")) for r in found] == [("end", "halted")]
    await trio.sleep(max(0.0, began_at + QUIET_S - time.time()))
    last = max(_ms(stream.tokens[-1], began_at) for stream in streams)
    later = sum(
        _ms(token, began_at) > 1000 * PROMISED_S for stream in streams for token in stream.tokens
    )
    detail = (
        f"the last one {_side(last)}, none later than 1 s;"
        f" {refused} of {len(streams)} refuse a new question"
    )
    view.checked("no_token_after_the_halt", not later and refused == len(streams), detail)


def _side(ms: float) -> str:
    return f"{ms:.0f} ms after it" if ms > 0 else f"{-ms:.0f} ms before it"


async def _resume(view: DemoView, nodes: Sequence[NodeProcess], ring: Ring, order: Halt) -> None:
    """One signature first, then both."""
    refused = (
        await hand_over(nodes[2].folder, [ring.resume(order, signers=1)], 0.0, as_json=False)
    ).refused
    halted = await _halted(nodes)
    detail = (
        f"{refused[0] if refused else 'it was not refused'};"
        f" {len(halted)} of {len(nodes)} stay halted"
    )
    view.checked(
        "one_resume_signature_is_refused", len(refused) == 1 and len(halted) == len(nodes), detail
    )
    began_at = time.time()
    await hand_over(nodes[2].folder, [ring.resume(order)], ACKS_S, as_json=False)
    back = [
        await node.wait_for("resumed", HALT_S, partial(_is_later, began_at), "its start")
        for node in nodes
    ]
    halted = await _halted(nodes)
    last = max(_ms(record, began_at) for record in back)
    view.checked(
        "two_resume",
        not halted,
        f"{len(nodes) - len(halted)} of {len(nodes)} run again, the last after {last:.0f} ms",
    )


def _is_later(began_at: float, record: Record) -> bool:
    return float(record["time"]) >= began_at - 0.001  # Records are rounded to the millisecond.


async def _replayed(view: DemoView, nodes: Sequence[NodeProcess], data: bytes, cast: Cast) -> None:
    """The order that was lifted, once more and through every node; then a question to one of
    them."""
    news = 0
    for node in nodes:
        delivery = await hand_over(node.folder, [data], 0.0, as_json=False)
        news += sum(outcome["outcome"] != "known" for outcome in delivery.outcomes)
    halted = await _halted(nodes)
    detail = (
        "the order that was lifted, once more to all:"
        f" {len(nodes) - len(halted)} of {len(nodes)} run on"
    )
    view.checked("replayed_halt_does_nothing", not news and not halted, detail)
    tokens: list[Record] = []
    end: Record | None = None
    with trio.move_on_after(STREAM_S):
        async with asking(
            nodes[0].folder,
            "generate",
            max_tokens=SHORT,
            seed=1,
            **cast.every[0].asked(),
            **cast.asking,
        ) as records:
            async for record in records:
                view.streamed(nodes[0], record)
                if record["event"] == "token":
                    tokens.append(record)
                elif record["event"] == "end":
                    end = record
    text = "".join(token["text"] for token in tokens)
    whole = (
        end is not None
        and end["reason"] in {"length", "eos"}
        and end["tokens"] == len(tokens) > 0
        and end["text"] == text
    )
    view.checked("an_answer_afterwards", whole, f"{nodes[0].name} writes again: “{text.strip()}”")
