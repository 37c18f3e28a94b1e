"""Invariants of every world, checked at every step of every host.

    `AnswersEnd`      every request ends exactly once, in time; no token of it is lost or doubled
    `DraftsHold`      the tokens of one round come together, and as many as drafts account for
    `TextIsKept`      where all experts are replicas of one model, an answer is the text that one of
                      them alone would write, without a draft
    `SoundPicks`      only experts that are listed, connected and able are asked
    `Bounded`         every collection keeps its bound
    `TablesAgree`     when nothing changes any more, everybody lists those connected to it, and
                      nobody lists the dead
    `NothingLingers`  when nothing is asked any more, nobody holds on to an answer, a round or an
                      order

Those of the kill switch stand in `testing.world.halt_laws`; `all_laws` gives them, too. The laws
are about what others can see and what survives, so none of them knows how a machine does it, with
two exceptions: `Bounded` looks at the machines' collections, and `AsksFirst` at what a link has
heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from swarmllm.core.capacity import table as capacity
from swarmllm.core.decoding import patience, requests
from swarmllm.core.decoding.consent import decide
from swarmllm.core.decoding.pooling import Holder
from swarmllm.core.decoding.sampling import numbers
from swarmllm.core.events import Ended, TokenChosen
from swarmllm.core.peers import dialling as peering
from swarmllm.core.peers import router
from swarmllm.core.serving import admission as serving
from swarmllm.core.settings.table import LIST_ENTRIES
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import Open, PeerId, Score
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.halt_laws import (
    AcksAreTrue,
    AsksFirst,
    HaltedIsSilent,
    HaltsAreKept,
    HaltsArrive,
    OrdersAgree,
    OrdersAreGenuine,
    OrdersArePassedOn,
    OrdersAreWritten,
    StartsFromDisk,
)
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.network import CONNECTIONS_MAX
from swarmllm.testing.world.roles import HONEST, Answer
from swarmllm.wire import context
from swarmllm.wire.sparse import SparseList, decode_list

# The longest that a token can take before the request is given up.
TOKEN_S: Final = patience.ROUND_MAX_S + patience.EXPERT_WAIT_S + 5.0
LOOK_EVERY: Final = 64  # Steps of a host between two looks at its collections.


class AnswersEnd(Checker):
    """Every request ends once; its tokens are numbered without gap; between two of them lies no
    more than `TOKEN_S`."""

    LAW: Final = "every request ends exactly once, in time and whole"

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        if answer.ends:
            raise self.broken(
                self.LAW, host, f"token {chosen.index} of request {answer.request} after its end"
            )
        if chosen.index != len(answer.tokens) - 1:
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request}: token {chosen.index} comes as number"
                f" {len(answer.tokens) - 1}",
            )
        self._in_time(host, answer, answer.times[-2] if len(answer.times) > 1 else answer.asked_at)

    def ended(self, host: Host, answer: Answer, end: Ended) -> None:
        if len(answer.ends) != 1:
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request} ended {len(answer.ends)} times: {answer.ends}",
            )
        if end.tokens != len(answer.tokens):
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request} ended with {end.tokens} tokens,"
                f" and {len(answer.tokens)} came",
            )
        if end.reason == "length" and end.tokens != answer.order.max_tokens:
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request} ended by length at {end.tokens} of"
                f" {answer.order.max_tokens}",
            )
        self._in_time(host, answer, answer.times[-1] if answer.times else answer.asked_at)

    def settled(self) -> None:
        for answer in self.world.answers:
            if not answer.ends and answer.host.alive and answer.life == answer.host.life:
                self._in_time(
                    answer.host, answer, answer.times[-1] if answer.times else answer.asked_at
                )

    def _in_time(self, host: Host, answer: Answer, since: float) -> None:
        waited_s = self.world.now - max(since, host.thawed_at)
        if waited_s > TOKEN_S and not host.frozen:
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request} waited {waited_s:.1f} s at token {len(answer.tokens)}",
            )


class DraftsHold(Checker):
    """Tokens that a round brings together are told together, and each but the last is one that was
    drafted and accepted; where none is wanted none is drafted."""

    LAW: Final = "the tokens of a draft come together, and are accounted for"

    def __init__(self) -> None:
        # Request -> the round under way: its number, when it came, and how many are to follow.
        self._open: dict[int, tuple[int, float, int]] = {}
        self._gained: dict[int, int] = {}

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        request = answer.request
        number, at, left = self._open.pop(request, (chosen.round, self.world.now, chosen.shared))
        if (chosen.round, self.world.now) != (number, at):
            raise self.broken(
                self.LAW,
                host,
                f"request {request}: token {chosen.index} is of round {chosen.round}, and {left}"
                f" more of round {number} were to come",
            )
        if left > 1:
            self._open[request] = (number, at, left - 1)
            self._gained[request] = self._gained.get(request, 0) + 1

    def ended(self, host: Host, answer: Answer, end: Ended) -> None:
        gained = self._gained.pop(answer.request, 0)
        is_off = answer.order.speculation == "off"
        if not gained <= end.accepted <= end.drafted or (is_off and end.drafted):
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request}: {gained} tokens came with others, {end.accepted} of"
                f" {end.drafted} drafted ones were accepted",
            )
        if self._open.pop(answer.request, None) is not None:
            raise self.broken(self.LAW, host, f"request {answer.request} ended within a round")


class TextIsKept(Checker):
    """For worlds whose experts all have `model`, and none of which lies. A lost, doubled or stale
    token would change all that follow; so would a draft that is believed too early. Where lists are
    shorter than the vocabulary, only the likeliest tokens are looked at."""

    LAW: Final = "an answer of replicas is the text that one of them would write alone"

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model
        self._lists: dict[bytes, SparseList] = {}
        self._digests: dict[int, bytes] = {}  # Request -> of the text so far.

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        order = answer.order
        before = self._digests.get(answer.request) or context.digests(order.prompt)[-1]
        expected = self.after(order, answer.tokens[:-1], before)
        is_whole = host.settings[LIST_ENTRIES] >= order.vocab_size
        if chosen.token != expected and (is_whole or not order.sampling.temperature):
            raise self.broken(
                self.LAW,
                host,
                f"request {answer.request}: token {chosen.index} is {chosen.token} instead of"
                f" {expected}",
            )
        self._digests[answer.request] = context.extend(before, chosen.token)

    def after(self, order: GenerateRequest, written: Sequence[int], digest: bytes) -> int:
        """The token that one replica alone writes after the prompt and `written`, which have this
        digest."""
        found = self._lists.get(digest)
        if found is None:
            entries = LIST_ENTRIES.default  # It names the whole vocabulary of a world.
            data = self._model.list_after(digest, entries, 0)
            found = decode_list(data, entries, self._model.card.vocab_size)
            self._lists[digest] = found
        holder = Holder(self._model.card.digest, is_own=False)
        rng = numbers(order.sampling.seed, len(written))
        token, *_ = decide(order, [found], [1.0], [holder], rng, [*order.prompt, *written])
        return token


class SoundPicks(Checker):
    """Whoever is asked stands in the table of who asks, with a fitting vocabulary and context, and
    is connected."""

    LAW: Final = "only experts that are listed, connected and able are asked"

    def leaves(self, host: Host, peer: PeerId, message: Any) -> None:
        if host.behaviour is not HONEST or not isinstance(message, (Open, Score)):
            return
        record = next(
            (
                e.record
                for e in host.node.view(host.clock()).experts
                if e.peer == peer and e.connected
            ),
            None,
        )
        if isinstance(message, Open):
            if record is None:
                raise self.broken(
                    self.LAW,
                    host,
                    f"it opens a session at {peer}, which it does not list as connected",
                )
            if (
                record.vocab_fingerprint != message.vocab_fingerprint
                or record.model_digest != message.model_digest
            ):
                raise self.broken(
                    self.LAW,
                    host,
                    f"it opens a session at {peer} for another model or vocabulary than it offers",
                )
        elif record is not None and message.base + len(message.tokens) > record.context_max:
            raise self.broken(
                self.LAW,
                host,
                f"{message.base + len(message.tokens)} tokens for {peer},"
                f" which takes {record.context_max}",
            )


class Bounded(Checker):
    """Looked at every `LOOK_EVERY` steps of a host, since collections grow by one at a time."""

    LAW: Final = "every collection keeps its bound"

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}

    def stepped(self, host: Host, event: object) -> None:
        count = self._steps[host.number] = self._steps.get(host.number, 0) + 1
        if count % LOOK_EVERY == 0 and host.alive:
            for name, size, most in sizes(host):
                if size > most:
                    raise self.broken(self.LAW, host, f"{name} holds {size} of at most {most}")


def sizes(host: Host) -> Iterator[tuple[str, int, int]]:
    """(what, how many it holds, how many it may hold) of one host."""
    node = host.node
    yield "the capacity table", len(node._table), capacity.PEERS_MAX
    yield "the address book", len(node._peering._known), peering.KNOWN_MAX
    yield "the router's histories", len(node._router.histories()), router.HISTORY_MAX
    yield "answers", len(node._requests), requests.REQUESTS_MAX
    yield "rounds served", node._serving.rounds_open, serving.ROUNDS_MAX
    yield "connections", len(host.connections), CONNECTIONS_MAX
    for requester in node._serving._requesters.values():
        yield "sessions of one peer", len(requester.sessions), serving.SESSIONS_PER_PEER_MAX
        yield "rounds of one peer", requester.rounds, serving.ROUNDS_PER_PEER_MAX
    if host.halt_machine is not None:
        yield "control links", len(host.halt_machine._links), CONNECTIONS_MAX


class TablesAgree(Checker):
    """Asked once faults have been off for long enough: whoever runs an expert and is connected to a
    host is listed by it, and nobody lists a peer that has been gone for longer than records are
    believed."""

    LAW: Final = "tables agree when nothing changes"

    def settled(self) -> None:
        for host in self.world.alive():
            listed = {e.peer for e in host.node.view(host.clock()).experts}
            for peer, connection in host.connections.items():
                other = connection.other(host)
                if (
                    other.engine is not None
                    and not other.engine.is_down
                    and not other.frozen
                    and peer not in listed
                ):
                    raise self.broken(
                        self.LAW, host, f"it does not list {peer}, to which it is connected"
                    )
            for peer in sorted(listed - {host.peer}):
                other = self.world.host_of(peer)
                if not other.alive and self.world.now - other.died_at > capacity.RECORD_TTL_S + 1.0:
                    raise self.broken(
                        self.LAW,
                        host,
                        f"it lists {peer}, which has been gone for"
                        f" {self.world.now - other.died_at:.0f} s",
                    )


class NothingLingers(Checker):
    """Asked once everything has been quiet for long enough: whatever was asked has ended, at both
    ends, and who is gone left nothing."""

    LAW: Final = "nothing is left of what has ended"

    def settled(self) -> None:
        for host in self.world.alive():
            view = host.node.view(host.clock())
            orders = len(host.node._requests._orders)
            if view.answers_open or view.rounds_served_open or orders:
                raise self.broken(
                    self.LAW,
                    host,
                    f"{view.answers_open} answers, {view.rounds_served_open} rounds and {orders}"
                    " orders are open",
                )
            for peer in sorted(host.node._serving._requesters.keys() - host.connections.keys()):
                raise self.broken(
                    self.LAW, host, f"it keeps sessions of {peer}, to which it is not connected"
                )


def all_laws() -> tuple[Checker, ...]:
    """One of each that holds in every world, for one world."""
    orders = (
        HaltedIsSilent(),
        HaltsAreKept(),
        OrdersAreGenuine(),
        StartsFromDisk(),
        OrdersAreWritten(),
        AcksAreTrue(),
    )
    return (
        *orders,
        OrdersAgree(),
        AsksFirst(),
        OrdersArePassedOn(),
        HaltsArrive(),
        AnswersEnd(),
        DraftsHold(),
        SoundPicks(),
        Bounded(),
        TablesAgree(),
        NothingLingers(),
    )
