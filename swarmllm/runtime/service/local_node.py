"""A running node as its own program sees it: ask for text, look at the swarm, watch it change.

Everything here is a question or an order to the driver; the node's rules are in `core`, and how the
parts are put together is in `assembly`. `service` puts it to clients as questions and records.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import trio

from swarmllm.core.chat import ChatMessage, check_messages
from swarmllm.core.events import LifeEvent
from swarmllm.core.grammar import GrammarSource
from swarmllm.core.inputs import ContradictionProved, OwnerStops, ReceiptOffered
from swarmllm.core.metrics.observer import Observer, Sample
from swarmllm.core.metrics.state import Counted, state_samples
from swarmllm.core.node import Node
from swarmllm.core.peers.reachability import Reachability
from swarmllm.core.peers.view import ExpertView, NodeView
from swarmllm.core.trust.receipt import Signed
from swarmllm.core.values import ALL, Only
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.runtime.driver import Clock, Driver
from swarmllm.runtime.ports import Grammars, Network, Text, Traffic
from swarmllm.runtime.queues import LifeFeed
from swarmllm.runtime.service.answer import Answer
from swarmllm.runtime.service.request import DEFAULTS, NOTHING, TextRequest, parse_request

READY_WAIT_S = 10.0  # As long as an answer itself waits for its first expert.


@dataclass(frozen=True, slots=True)
class Status:
    """What `status` shows. `uptime_s` counts from the start of the driver, and so does the last;
    `troubles` are of this moment. `saves_failed` values could not be written to the disk.
    `crowding` counts connections that gave way, by the bound that was reached. `relay` is what this
    node lends as a relay, empty where it is none, `punching` how often a relay was left.
    `has_chat_template`: whether the model's file brings one; None without a model.
    """

    view: NodeView
    swarm: str
    uptime_s: float
    troubles: tuple[str, ...]
    saves_failed: int
    crowding: dict[str, int]
    relay: dict[str, int]
    punching: dict[str, int]
    has_chat_template: bool | None = None
    reach: Reachability | None = None
    """How this node is reached, `reach_says` in one sentence."""
    reach_says: str = ""


class LocalNode:
    """Made by `assembly.open_node`, and good for as long as that lasts."""

    def __init__(
        self,
        node: Node,
        driver: Driver,
        network: Network,
        text: Text,
        *,
        swarm: str = "private",
        defaults: TextRequest = DEFAULTS,
        troubles: Callable[[], tuple[str, ...]] = tuple,
        traffic: Callable[[], Traffic] = Traffic,
        reach: Callable[[], Reachability | None] = lambda: None,
        observer: Observer | None = None,
        grammars: Grammars | None = None,
        clock: Clock = trio.current_time,
        advice: Mapping[str, float] = NOTHING,
    ) -> None:
        """`defaults` holds what `generate` takes where the caller gives nothing, and `advice` what
        our model's makers advise for a conversation; `troubles` tells what is wrong now, in
        sentences, and `observer` what was counted so far."""
        self._node = node
        self._driver = driver
        self._network = network
        self._text = text
        self._swarm = swarm
        self.defaults = defaults
        self._advice = advice
        self._troubles = troubles
        self._traffic = traffic
        self._reach = reach
        self._observer = observer or Observer()
        self._grammars = grammars
        self._clock = clock
        self._began_at = clock()
        self._stop = trio.Event()
        self._receipts = itertools.count(1)

    # --- text -------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str = "",
        *,
        messages: Sequence[ChatMessage] = (),
        k: int | None = None,
        extra: int | None = None,
        quality: float | None = None,
        speculation: str | None = None,
        domain: str = "",
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        grammar: GrammarSource | None = None,
        schema: Mapping[str, Any] | None = None,
        **sampling: float,
    ) -> Answer:
        """Continue `prompt`, or answer the conversation `messages`, which is written as the model's
        chat template says; see `Answer` for how to read it. What is left out is as this node is
        set, or as `TextRequest` has it.

        With a `grammar` (or `schema`, short for one of the kind `json_schema`) the text is one of
        it, or cut off at `max_tokens`, and then the result's reason is `length`.

        `sampling` are the fields of `Sampling` by name, such as `temperature=0.7`; those left out
        are as in `TextRequest`. UsageError at once for a setting that makes no sense.
        """
        given = {
            "k": k,
            "extra": extra,
            "quality": quality,
            "speculation": speculation,
            "max_tokens": max_tokens,
            "seed": seed,
            **sampling,
        }
        params: dict[str, object] = {
            name: value for name, value in given.items() if value is not None
        }
        params |= {
            "prompt": prompt,
            "messages": [message.as_fields() for message in messages],
            "domain": domain,
            "stop": (stop,) if isinstance(stop, str) else tuple(stop),
            "grammar": grammar,
        }
        if schema is not None:
            params["grammar"] = GrammarSource("json_schema", json.dumps(schema))
        return self.answer(parse_request(params, self.defaults))

    def answer(
        self,
        request: TextRequest,
        *,
        among: frozenset[PeerId] | None = None,
        is_background: bool = False,
    ) -> Answer:
        """`generate` for a request that is put together already. `among`: only these experts are
        asked; `is_background`: nobody waits for it."""
        return Answer(
            *(self._driver, self._text, request, self.context_max, self._clock),
            *(self._node.settings, self._grammars),
            among=among,
            is_background=is_background,
            advice=self._advice,
            halted=lambda: self._node.halted(self._clock()),
        )

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Of a conversation as the chat template writes it. UsageError, LocalError: see
        `Text.encode_chat`."""
        check_messages(messages)
        await self._text.ready()
        return len((await self._text.encode_chat(messages)).ids)

    def context_max(self, only: Only = ALL) -> int | None:
        """The longest context, in tokens, of the experts that can be reached now; None if there are
        none."""
        return max(
            (
                e.record.context_max
                for e in self._reachable()
                if only.digest in {b"", e.record.model_digest} and (e.local or not only.own)
            ),
            default=None,
        )

    # --- the swarm --------------------------------------------------------------------------------

    @property
    def peer(self) -> PeerId:
        return self._network.peer

    @property
    def addrs(self) -> tuple[str, ...]:
        """The multiaddrs at which others can reach this node."""
        return self._network.addrs

    def view(self) -> NodeView:
        return self._node.view(self._clock())

    def status(self) -> Status:
        driver, view, traffic = self._driver, self.view(), self._traffic()
        reach = self._reach()
        return Status(
            view=view,
            swarm=self._swarm,
            uptime_s=self._clock() - self._began_at,
            troubles=self._troubles(),
            saves_failed=driver.saves_failed,
            crowding=dict(traffic.crowding),
            relay=dict(traffic.relay),
            punching=dict(traffic.punching),
            has_chat_template=None
            if view.card is None
            else bool(self._text.vocabulary.chat_template),
            reach=reach,
            reach_says="" if reach is None else reach.sentence(self._clock()),
        )

    def experts(self) -> tuple[ExpertView, ...]:
        """Every expert with our vocabulary that is known to be alive, our own included."""
        return self.view().experts

    async def bring_receipt(self, signed: Signed) -> int:
        """Have other holders look at a signed session; the number of what comes of it."""
        number = next(self._receipts)
        await self._driver.feed(ReceiptOffered(number, signed))
        return number

    async def exclude(self, peer: PeerId, model_digest: bytes, why: str) -> None:
        """Ask an expert no more for a time, since it was seen here to contradict itself."""
        await self._driver.feed(ContradictionProved(peer, model_digest, why))

    def metrics(self) -> list[Sample]:
        """What this node has counted so far, and how it is now; `core.metrics.table` says what each
        figure means."""
        traffic = self._traffic()
        counted = Counted(
            uptime_s=self._clock() - self._began_at,
            saves_failed=self._driver.saves_failed,
            crowding=traffic.crowding,
            connections=traffic.connections,
            gossip_sent_bytes=traffic.gossip_sent_bytes,
            gossip_received_bytes=traffic.gossip_received_bytes,
            relay=traffic.relay,
            punching=traffic.punching,
        )
        return [*self._observer.samples(), *state_samples(self.view(), counted)]

    def events(self) -> AbstractContextManager[LifeFeed[LifeEvent]]:
        """Experts and peers as they come and go: `with node.events() as events: async for event in
        events: ...`."""
        return self._driver.listening()

    async def wait_ready(self, experts: int = 1, timeout_s: float = READY_WAIT_S) -> int:
        """Wait until so many experts can be asked, or time is up; returns how many there are."""
        if experts < 0:
            raise UsageError(f"cannot wait for {experts} experts; give 0 or more")
        with self.events() as events:
            with trio.move_on_after(timeout_s):
                while len(self._reachable()) < experts:
                    try:
                        await anext(events)
                    except StopAsyncIteration:  # The node stopped.
                        break
        await trio.lowlevel.checkpoint()
        return len(self._reachable())

    def _reachable(self) -> list[ExpertView]:
        return [e for e in self.experts() if e.connected or e.local]

    # --- the end ----------------------------------------------------------------------------------

    def stop_here(self) -> None:
        """The owner's own stop: this node makes no tokens until `swarmllm start`, restarts
        included."""
        self._driver.act(OwnerStops())

    def request_stop(self) -> None:
        """Ask whoever runs this node to close it; `wait_stopped` tells them."""
        self._stop.set()

    async def wait_stopped(self) -> None:
        await self._stop.wait()
