"""One answer, token by token: ask K of N experts in parallel, pool what comes back, sample, repeat (strict mode: one token a round).

The requester owns the text; an expert is only a cache of it. So every request says what it builds on, any expert can take part in any
token after catching up, and a death costs one prefill elsewhere, never the answer. A round ends with K answers, as soon as those
still to come would change little, or at its deadline with those that are there; with none it goes on to ask others, down to the local
expert, and tells the user so. With `quality` below 1 a round begins with one expert and goes on to K only where that one is unsure.

Laws: a request ends exactly once; no token is lost or doubled whoever dies; at most one question per expert is open at a time; a late
answer still counts for its own round and otherwise only for the expert's record.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, assert_never

from swarmllm.core.decoding.escalation import surprise
from swarmllm.core.decoding.panel import Panel
from swarmllm.core.decoding.pooling import pool
from swarmllm.core.decoding.round import Ask, Member, Question, Reply, Round, Step, Swarm
from swarmllm.core.decoding.sampling import draw
from swarmllm.core.events import Ended, EndReason, ExpertsWeighed, ExpertUse, Noticed, TokenChosen
from swarmllm.core.peers.router import Candidate
from swarmllm.core.values import GenerateOrder
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    TOKENS_MAX,
    Busy,
    Close,
    ExpertReply,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
    Scores,
)
from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list

EXPERT_WAIT_S = 10.0  # Without any expert at all: discovery on a LAN takes 2-3 s, a DHT look-up may take as long again.
ROUND_MAX_S = 60.0  # A round that nobody answers ends the request: the slowest sensible prefill is shorter.
RETRY_S = 0.25  # How often to look for somebody new when all are asked and silent.
STRAGGLER_RATIO = 3.0  # Once somebody answered, the others get this many times as long.
STRAGGLER_FLOOR_S = 0.25
LATE_RATIO = 1.5  # Once enough have answered, an expert that weighs much gets this many times as long, and at least ...
LATE_FLOOR_S = 0.02  # ... so much longer: a token without it would be worse, a token without end worse still.
BUSY_MIN_S = 0.05  # An expert that says "busy, retry at once" must not become a tight loop.
NEEDS_MAX = 4  # Need replies of one expert in one round before it counts as misbehaving.
INSURANCE_S = 0.1  # Of an expert's time: what insurance against one that is only late may cost it.
ANYBODY = 1 << 30
CAUGHT_UP = 16  # Tokens missing, up to which an expert answers in a step and not after a prompt.
EXPLORE_SALT = 0x5EED  # Keeps the draws of exploration apart from those of sampling.
ENTRIES = 256


class Generation:
    """The machine of one request. Every method takes the time and returns what to do; `ended` is final."""

    def __init__(self, request: int, session: int, order: GenerateOrder, now: float) -> None:
        self.request = request
        self.session = session
        self.order = order
        self.ended = False
        self.members: dict[PeerId, Member] = {}
        self._panel = Panel(order, random.Random(order.sampling.seed ^ EXPLORE_SALT))
        self._evidence = self._panel.gate.positions
        self._tokens = list(order.prompt)
        self._digests = context.digests(order.prompt)
        self._rng = random.Random(order.sampling.seed)
        self._refused: set[PeerId] = set()
        self._index = 0
        self._failovers = 0
        self._local_only = 0
        self._level: int | None = None  # The number of experts that the user last heard of.
        self._round = Round(now, now + EXPERT_WAIT_S, order.k)
        self._retry_at = now

    def next_deadline(self) -> float:
        """When `timer` wants to be called."""
        return min(self._round.deadline_at, self._retry_at) if self._wants_more() else self._round.deadline_at

    # --- inputs --------------------------------------------------------------------------------------------------------------

    def start(self, swarm: Swarm, now: float) -> list[Step]:
        return self._begin(swarm, now)

    def received(self, swarm: Swarm, peer: PeerId, reply: ExpertReply, size_bytes: int, now: float) -> list[Step]:
        """An expert's answer. RemoteError: it breaks the protocol; the expert is out of this answer, nothing else changed."""
        member = self.members.get(peer)
        question = member.question if member is not None else None
        if member is None or question is None or reply.round != question.round:
            return []  # Nobody waits for it any more.
        match reply:
            case Scores():
                self._scored(swarm, peer, member, question, reply, size_bytes, now)
                if not question.final and question.round == self._index and peer in self._round.asked:
                    return self._ask(peer, member, swarm.digest, now)
                if question.round != self._index:
                    return [*self._rejoin(swarm, peer, member, now), *self._settle(swarm, now)]
            case Need(have=have):
                return self._needed(swarm, peer, member, question, have, now)
            case Busy(retry_after_ms=retry_ms):
                member.question = None
                swarm.rest(peer, max(BUSY_MIN_S, retry_ms / 1000), now)
                self._failed(peer)
            case Refused():
                self._drop(peer)
                self._refused.add(peer)
            case _:
                assert_never(reply)
        return self._settle(swarm, now)

    def lost(self, swarm: Swarm, peer: PeerId, now: float) -> list[Step]:
        """The connection to an expert is gone, and with it the session there."""
        if peer not in self.members:
            return []
        if self.members[peer].question is not None and self.members[peer].have:
            self._failovers += 1
        self._drop(peer)
        return self._settle(swarm, now)

    def misbehaved(self, swarm: Swarm, peer: PeerId, now: float) -> list[Step]:
        """The expert broke the protocol; it is not asked again for this answer."""
        self._refused.add(peer)
        return self.lost(swarm, peer, now)

    def timer(self, swarm: Swarm, now: float) -> list[Step]:
        """A deadline may have come: go on with what is there, or look for others."""
        current = self._round
        if now >= current.started_at + (ROUND_MAX_S if current.asked else EXPERT_WAIT_S) and not current.replies:
            return self._end("error", self._despair(now - current.started_at))
        if now >= current.deadline_at and current.asked:
            if len(current.replies) >= current.wanted:
                return self._complete(swarm, now)  # Who is slower than the others has missed nothing.
            for peer in self._waiting():
                if peer not in current.late:
                    current.late.add(peer)
                    swarm.missed(peer, now)
            if current.replies:
                return self._complete(swarm, now)
            current.deadline_at = min(now + 2 * RETRY_S, current.started_at + ROUND_MAX_S)
            steps = self._widen(swarm, now, current.wanted + self.order.extra)
            self._failovers += bool(steps)
            return steps
        if now >= self._retry_at and self._wants_more():
            return self._settle(swarm, now)
        return []

    def cancel(self, reason: Literal["stop", "cancelled"]) -> list[Step]:
        return self._end(reason)

    def halt(self, why: str) -> list[Step]:
        """The kill switch: not even a goodbye is sent."""
        self.members.clear()
        return self._end("halted", why)

    # --- rounds --------------------------------------------------------------------------------------------------------------

    def _begin(self, swarm: Swarm, now: float) -> list[Step]:
        is_narrow = self._index > 0 and self.order.quality < 1
        self._round = Round(now, now + EXPERT_WAIT_S, 1 if is_narrow else self.order.k)
        for member in self.members.values():
            member.needs = 0
        owed = sum(member.question is not None for member in self.members.values())
        sure = self.order.k + max(0, self.order.extra - owed)  # Who still owes an answer is likelier late than lost.
        return self._widen(swarm, now, 1 if is_narrow else self.order.k + self.order.extra, sure)

    def _widen(self, swarm: Swarm, now: float, count: int, sure: int = ANYBODY) -> list[Step]:
        """Ask up to `count` experts that have no part in this round yet (before the first token: as many as are worth probing), beyond
        the first `sure` of them only those that need not catch up for long."""
        current = self._round
        free = self._free(swarm, now)
        steps: list[Step] = []
        chosen = {c.peer: c for c in free}
        latest_at = current.started_at + ROUND_MAX_S  # However many are asked in place of others.
        is_probing = self._index == 0 and not current.asked
        for place, peer in enumerate(self._panel.probe(swarm, free, now) if is_probing else swarm.pick(count, free, now)):
            candidate = chosen[peer]
            if place >= sure and not is_probing and swarm.catch_up_s(candidate, now) > INSURANCE_S:
                continue
            if not current.asked:
                current.deadline_at = now
            current.asked[peer] = candidate
            current.failed.discard(peer)
            current.deadline_at = min(latest_at, max(current.deadline_at, now + swarm.patience_s(candidate, now)))
            steps += self._ask(peer, self.members.setdefault(peer, Member(candidate.record)), swarm.digest, now)
        self._retry_at = now + RETRY_S
        return steps

    def _free(self, swarm: Swarm, now: float) -> list[Candidate]:
        """Who could be asked in this round and was not."""
        current, total = self._round, len(self._tokens)
        missing = {p: total - m.have for p, m in self.members.items()}
        free = [
            c
            for c in swarm.candidates(missing, total, now)
            if (c.peer not in current.asked or c.peer in current.failed)
            and c.peer not in self._refused
            and (c.peer not in self.members or self.members[c.peer].question is None)
        ]
        return self._panel.fitted(swarm, free)

    def _ask(self, peer: PeerId, member: Member, digest: bytes, now: float) -> list[Step]:
        """One Score from what the expert has towards the whole text; long texts go in several."""
        base, total = member.have, len(self._tokens)
        upto = min(total, base + TOKENS_MAX)
        tokens = tuple(self._tokens[base:upto])
        final = upto == total
        evidence = tuple(position for position in self._evidence if base <= position < upto - 1)
        member.question = Question(self._index, base, upto, evidence, now, final)
        answer = (len(tokens) - 1,) if final else ()
        score = Score(
            session=self.session,
            round=self._index,
            epoch=0,
            base=base,
            context_hash=self._digests[base],
            tokens=tokens,
            answer=answer,
            targets=tuple(position - base for position in evidence),
            entries_max=ENTRIES,
            tail_max=0,
            ctl_digest=digest,
        )
        if member.opened:
            return [Ask(peer, score)]
        member.opened = True
        opening = Open(self.session, member.record.model_digest, member.record.vocab_fingerprint, digest)
        return [Ask(peer, opening), Ask(peer, score)]

    def _scored(
        self, swarm: Swarm, peer: PeerId, member: Member, question: Question, reply: Scores, size_bytes: int, now: float
    ) -> None:
        if len(reply.lists) != int(question.final):
            raise RemoteError(f"expert {peer}: {len(reply.lists)} lists where {int(question.final)} were asked for")
        self._panel.told(peer, question.evidence, reply.target_logprobs)
        found = [decode_list(data, ENTRIES, self.order.vocab_size) for data in reply.lists]
        member.question = None
        member.have = question.upto
        swarm.replied(peer, now - question.sent_at, question.upto - question.base, now)
        current = self._round
        if found and question.round == self._index and peer in current.asked:
            current.replies[peer] = Reply(found[0], size_bytes, now - question.sent_at)
            elapsed = now - current.started_at
            if len(current.replies) >= current.wanted:
                grace = max(LATE_RATIO * elapsed, elapsed + LATE_FLOOR_S)
            else:
                expected = max((swarm.patience_s(current.asked[p], now) for p in self._waiting()), default=0.0)
                grace = max(STRAGGLER_RATIO * elapsed, elapsed + STRAGGLER_FLOOR_S, expected)
            current.deadline_at = min(current.deadline_at, current.started_at + grace)

    def _rejoin(self, swarm: Swarm, peer: PeerId, member: Member, now: float) -> list[Step]:
        """Its answer to an earlier round has come after all: where this one waits for somebody's prompt, it is asked again."""
        current = self._round
        behind = any(current.asked[p].missing > CAUGHT_UP for p in self._waiting())
        found = next((c for c in self._free(swarm, now) if c.peer == peer), None) if behind else None
        if found is None or len(current.replies) >= current.wanted:
            return []
        current.asked[peer] = found
        current.deadline_at = max(current.deadline_at, now + swarm.patience_s(found, now))
        return self._ask(peer, member, swarm.digest, now)

    def _needed(self, swarm: Swarm, peer: PeerId, member: Member, question: Question, have: int, now: float) -> list[Step]:
        member.needs += 1
        if have >= max(question.base, 1) or member.needs > NEEDS_MAX:
            raise RemoteError(f"expert {peer}: needs from {have} where it was sent from {question.base} ({member.needs} times)")
        member.have, member.question = have, None
        if question.round != self._index or peer not in self._round.asked:
            return self._settle(swarm, now)
        return self._ask(peer, member, swarm.digest, now)

    def _settle(self, swarm: Swarm, now: float) -> list[Step]:
        """Finish the round if it is complete; ask others in place of those who fell out."""
        if self.ended:
            return []
        current, waiting = self._round, self._waiting()
        if current.replies and (not waiting or (len(current.replies) >= current.wanted and self._is_quorum(waiting))):
            return self._complete(swarm, now)
        short = current.wanted - len(current.replies) - len(waiting)
        if short <= 0:
            return []
        if current.asked and not waiting:
            current.deadline_at = min(now + 2 * RETRY_S, current.started_at + ROUND_MAX_S)
        return self._widen(swarm, now, short)

    def _complete(self, swarm: Swarm, now: float) -> list[Step]:
        """There are answers enough; one alone that is unsure is a reason to ask the others after all."""
        current = self._round
        if current.wanted < self.order.k and not current.is_wide:
            current.is_wide = True
            alone = max(current.replies.values(), key=lambda reply: -surprise(reply.found))
            if self._panel.escalation.widen(surprise(alone.found)):
                current.wanted = self.order.k
                steps = self._widen(swarm, now, self.order.k - len(current.replies))
                if steps:
                    return steps
        return self._finish(swarm, now)

    def _finish(self, swarm: Swarm, now: float) -> list[Step]:
        """Pool, sample, tell, and begin the next round."""
        current = self._round
        used = sorted(self._panel.best(current.replies, current.wanted), key=lambda p: (not swarm.is_local(p), p))
        weights = self._panel.weights(used)
        pooled = pool([current.replies[p].found for p in used], weights)
        token, logprob = draw(pooled, self.order.sampling, self._rng, self._tokens)
        if used and all(swarm.is_local(p) for p in used):
            self._local_only += 1
        experts = tuple(
            ExpertUse(p, current.asked[p].record.model, w, current.replies[p].size_bytes, current.replies[p].rtt_s, True)
            for p, w in zip(used, weights, strict=True)
        )
        chosen = TokenChosen(
            self.request,
            self._index,
            token,
            logprob,
            self._index,
            len(used),
            now - current.started_at,
            experts,
            pooled.agreement,
        )
        steps: list[Step] = [*self._notice(swarm, used)]
        if self._index == 0:
            steps += self._keep(swarm, now)
        steps.append(chosen)
        self._tokens.append(token)
        self._digests.append(context.extend(self._digests[-1], token))
        self._index += 1
        if token in self.order.stop_tokens:
            return steps + self._end("eos")
        if self._index >= self.order.max_tokens:
            return steps + self._end("length")
        return steps + self._begin(swarm, now)

    def _keep(self, swarm: Swarm, now: float) -> list[Step]:
        """After the first round: tell who was weighed, and let those go that this answer will hardly need again."""
        probed = [p for p in self._round.replies if p in self.members]
        kept = self._panel.best(probed, self.order.k + self.order.extra)
        told = ExpertsWeighed(
            self.request,
            tuple(self._panel.verdict(swarm, probed, kept, now)),
            len(self._round.asked) + len(self._free(swarm, now)),
        )
        gone = sorted(set(probed) - set(kept))
        for peer in gone:
            del self.members[peer]
        return [told, *(Ask(peer, Close(self.session)) for peer in gone)]

    def _notice(self, swarm: Swarm, used: Sequence[PeerId]) -> list[Step]:
        """Say when the number of experts falls below what was asked for, and when it is back."""
        level = self.order.k if len(used) >= self._round.wanted else len(used)
        before = self.order.k if self._level is None else self._level
        self._level = level
        if level == before:
            return []
        if level >= self.order.k:
            return [Noticed(self.request, f"{level} experts again")]
        if all(swarm.is_local(p) for p in used):
            return [Noticed(self.request, f"continuing with the local expert alone (asked for {self.order.k})")]
        return [Noticed(self.request, f"{level} of {self.order.k} experts answered; continuing with {level}")]

    # --- small questions -----------------------------------------------------------------------------------------------------

    def _waiting(self) -> list[PeerId]:
        """Asked in this round, and neither answered nor fallen out."""
        current = self._round
        return [p for p in current.asked if p not in current.replies and p not in current.failed]

    def _wants_more(self) -> bool:
        return len(self._round.replies) + len(self._waiting()) < self._round.wanted

    def _is_quorum(self, waiting: Sequence[PeerId]) -> bool:
        """Before the first token all that are probed are worth waiting for; from then on those that a token is made of."""
        count = self._round.wanted if self._index else len(self._round.asked)
        return self._panel.is_quorum(self._round.replies, waiting, count)

    def _failed(self, peer: PeerId) -> None:
        if peer in self._round.asked and peer not in self._round.replies:
            self._round.failed.add(peer)

    def _drop(self, peer: PeerId) -> None:
        self._failed(peer)
        self.members.pop(peer, None)  # An answer that it gave to this round still counts.

    def _despair(self, seconds: float) -> str:
        asked = len(self._round.asked)
        if not asked and not self.members:
            return (
                f"no expert for this vocabulary was reachable within {seconds:.0f} s; `swarmllm doctor` shows what this node sees"
            )
        return f"none of {max(asked, len(self.members))} experts answered within {seconds:.0f} s"

    def _end(self, reason: EndReason, error: str = "") -> list[Step]:
        assert not self.ended
        self.ended = True
        closing: list[Step] = [Ask(peer, Close(self.session)) for peer in sorted(self.members)]
        ended = Ended(self.request, reason, self._index, self._failovers, self._local_only, error)
        return [*closing, ended]
