"""One answer, token by token: ask K of N experts in parallel, pool what comes back, sample, repeat
(strict mode: one token a round).

The requester owns the text; an expert is only a cache of it. So every request says what it builds
on, any expert can take part in any token after catching up, and a death costs one prefill
elsewhere, never the answer. A round ends with K answers, as soon as those still to come would
change little, or at its deadline with those that are there; with none it goes on to ask others,
down to the local expert, and tells the user so. With `quality` below 1 a round begins with one
expert and goes on to K only where that one is unsure, or would end the text. The first round is not
won by who is quickest: whoever may still change what is known of the prompt is waited for.

Laws: a request ends exactly once; no token is lost or doubled whoever dies; at most one question
per expert is open at a time; a late answer still counts for its own round and otherwise only for
the expert's record; what passes (`core.decoding.standing`) is waited for, up to `ROUND_MAX_S` a
token, and what is final is said at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, assert_never

from swarmllm.core.decoding import notices as telling
from swarmllm.core.decoding import standing
from swarmllm.core.decoding.consent import decide
from swarmllm.core.decoding.escalation import surprise
from swarmllm.core.decoding.panel import Panel
from swarmllm.core.decoding.patience import ROUND_MAX_S, gives_up_at, waits_until
from swarmllm.core.decoding.round import Ask, Member, Question, Reply, Round, Step, Swarm, questions
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.decoding.text import Text
from swarmllm.core.events import Ended, EndReason, ExpertsWeighed, Noticed, TokenChosen
from swarmllm.core.peers.router import MERIT_MAX_NATS, Candidate
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    REFUSED_CONTEXT,
    TOKENS_MAX,
    Busy,
    Close,
    ExpertReply,
    Need,
    PeerId,
    Refused,
    Scores,
)
from swarmllm.wire.sparse import decode_list

RETRY_S = 0.25  # How often to look for somebody new when all are asked and silent.
BUSY_MIN_S = 0.05  # An expert that says "busy, retry at once" must not become a tight loop.
NEEDS_MAX = 4  # Need replies of one expert in one round before it rests.
INSURANCE_S = 0.1  # Of an expert's time: what insurance against one that is only late may cost it.
ANYBODY = 1 << 30
CAUGHT_UP = 16  # Tokens missing, up to which an expert answers in a step and not after a prompt.
EXPLORE_SALT = 0x5EED  # Keeps the draws of exploration apart from those of sampling.
ENTRIES = 256


class Generation:
    """The machine of one request. Every method takes the time and returns what to do; `ended` is
    final."""

    def __init__(self, request: int, session: int, order: GenerateRequest, now: float) -> None:
        self.request = request
        self.session = session
        self.order = order
        self.ended = False
        self.members: dict[PeerId, Member] = {}
        self._panel = Panel(order, random.Random(order.sampling.seed ^ EXPLORE_SALT))
        self._evidence = self._panel.gate.positions
        self._text = Text(order.prompt)
        self._rng = random.Random(order.sampling.seed)
        self._standing = Standing()
        self._parts: set[PeerId] = set()  # Who was ever asked: as many as the panel knows, at most.
        self._failovers = 0
        self._local_only = 0
        self._level = telling.Level(order.k)
        self._round = Round(0, now, now + ROUND_MAX_S, order.k)
        self._retry_at = now

    def next_deadline(self) -> float:
        """When `timer` wants to be called."""
        current = self._round
        times = [current.deadline_at]
        if current.wants_more:
            times.append(self._retry_at)
        if not current.replies:
            times.append(self._gives_up_at())
            times += [] if current.is_told else [current.started_at + telling.SAY_S]
        return min(times)

    # --- inputs --------------------------------------------------------------------------------------------------------------

    def start(self, swarm: Swarm, now: float) -> list[Step]:
        return self._begin(swarm, now)

    def received(
        self, swarm: Swarm, peer: PeerId, reply: ExpertReply, size_bytes: int, now: float
    ) -> list[Step]:
        """An expert's answer. RemoteError: it breaks the protocol; the expert is out of this
        answer, nothing else changed."""
        member = self.members.get(peer)
        question = member.question if member is not None else None
        if member is None or question is None or reply.round != question.round:
            return []  # Nobody waits for it any more.
        match reply:
            case Scores():
                self._scored(swarm, peer, member, question, reply, size_bytes, now)
                steps = self._expose(swarm, now)
                if (
                    not question.final
                    and question.round == self._text.index
                    and peer in self._round.asked
                ):
                    steps += (
                        self._ask(peer, member, swarm.digest, now) if peer in self.members else []
                    )
                elif question.round != self._text.index and peer in self.members:
                    steps += self._rejoin(swarm, peer, member, now)
                return steps + self._settle(swarm, now)
            case Need(have=have):
                return self._needed(swarm, peer, member, question, have, now)
            case Busy(retry_after_ms=retry_ms):
                member.question = None
                swarm.rest(peer, max(BUSY_MIN_S, retry_ms / 1000), now)
                self._standing.waits(peer, standing.BUSY)
                self._round.fell_out(peer)
            case Refused(code=code):
                swarm.rest(peer, self._standing.refused(peer, member.record, code), now)
                self._drop(peer)
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
        self._standing.waits(peer, standing.LOST)
        return self._settle(swarm, now)

    def misbehaved(self, swarm: Swarm, peer: PeerId, now: float) -> list[Step]:
        """The expert broke the protocol; it is not asked again for this answer."""
        self._standing.excluded(peer, standing.BROKE)
        return self.lost(swarm, peer, now)

    def timer(self, swarm: Swarm, now: float) -> list[Step]:
        """A deadline may have come: go on with what is there, or look for others."""
        current = self._round
        if not current.replies and now >= self._gives_up_at():
            return self._end("error", self._despair(swarm, now))
        told = self._break_silence(swarm, now)
        if now >= current.deadline_at and current.asked:
            self._miss(swarm, now)
            if current.replies:
                return told + self._complete(swarm, now)
            current.deadline_at = min(now + 2 * RETRY_S, current.started_at + ROUND_MAX_S)
            steps = self._widen(swarm, now, current.wanted + self.order.extra)
            self._failovers += bool(steps)
            return told + steps
        if now >= self._retry_at and current.wants_more:
            return told + self._settle(swarm, now)
        return told

    def cancel(self, reason: Literal["stop", "cancelled"]) -> list[Step]:
        return self._end(reason)

    def halt(self, why: str) -> list[Step]:
        """The kill switch: not even a goodbye is sent."""
        self.members.clear()
        return self._end("halted", why)

    # --- rounds --------------------------------------------------------------------------------------------------------------

    def _begin(self, swarm: Swarm, now: float) -> list[Step]:
        is_narrow = self._text.index > 0 and self.order.quality < 1
        self._round = Round(
            self._text.index, now, now + ROUND_MAX_S, 1 if is_narrow else self.order.k
        )
        for member in self.members.values():
            member.needs = 0
        owed = sum(member.question is not None for member in self.members.values())
        # Who still owes an answer is likelier late than lost.
        sure = self.order.k + max(0, self.order.extra - owed)
        return self._widen(swarm, now, 1 if is_narrow else self.order.k + self.order.extra, sure)

    def _widen(self, swarm: Swarm, now: float, count: int, sure: int = ANYBODY) -> list[Step]:
        """Ask up to `count` experts that have no part in this round yet (before the first token: as
        many as are worth probing), beyond the first `sure` of them only those that need not catch
        up for long."""
        current = self._round
        free = self._free(swarm, now)
        steps: list[Step] = []
        chosen = {c.peer: c for c in free}
        latest_at = current.started_at + ROUND_MAX_S  # However many are asked in place of others.
        is_probing = self._text.index == 0 and not current.asked
        picked = self._panel.probe(swarm, free, now) if is_probing else swarm.pick(count, free, now)
        if not picked and not current.replies and not current.waiting:
            picked = swarm.suspect(free, now)
        for place, peer in enumerate(picked):
            candidate = chosen[peer]
            if place >= sure and not is_probing and swarm.catch_up_s(candidate, now) > INSURANCE_S:
                continue
            if not current.asked:
                current.deadline_at = now
            current.asked[peer] = candidate
            current.failed.discard(peer)
            self._parts.add(peer)
            current.until[peer] = min(latest_at, now + swarm.patience_s(candidate, now))
            current.deadline_at = min(latest_at, max(current.deadline_at, current.until[peer]))
            steps += self._ask(
                peer, self.members.setdefault(peer, Member(candidate.record)), swarm.digest, now
            )
        self._retry_at = now + RETRY_S
        return steps

    def _free(self, swarm: Swarm, now: float) -> list[Candidate]:
        """Who could be asked in this round and was not."""
        current, total = self._round, len(self._text)
        for peer, member in self.members.items():
            if member.record.context_max < total:
                self._standing.refused(peer, member.record, REFUSED_CONTEXT)
        missing = {p: total - m.have for p, m in self.members.items()}
        free = [
            c
            for c in swarm.candidates(missing, total, now)
            if (c.peer not in current.asked or c.peer in current.failed)
            and self._standing.may_ask(c.peer, c.record)
            and (c.peer not in self.members or self.members[c.peer].question is None)
        ]
        current.has_known = bool(free)
        current.has_hope = current.has_known or swarm.hopes(total, now)
        return self._panel.fitted(swarm, free)

    def _ask(self, peer: PeerId, member: Member, digest: bytes, now: float) -> list[Step]:
        """One Score from what the expert has towards the whole text; long texts go in several."""
        base, total = member.have, len(self._text)
        upto = min(total, base + TOKENS_MAX)
        evidence = tuple(position for position in self._evidence if base <= position < upto - 1)
        member.question = Question(self._text.index, base, upto, evidence, now, upto == total)
        tokens, hashed = self._text.piece(base, upto), self._text.digest(base)
        return [
            Ask(peer, m) for m in questions(self.session, member, hashed, tokens, ENTRIES, digest)
        ]

    def _scored(
        self,
        swarm: Swarm,
        peer: PeerId,
        member: Member,
        question: Question,
        reply: Scores,
        size_bytes: int,
        now: float,
    ) -> None:
        if len(reply.lists) != int(question.final):
            raise RemoteError(
                f"expert {peer}: {len(reply.lists)} lists where {int(question.final)} were asked for"
            )
        self._panel.told(peer, question.evidence, reply.target_logprobs)
        found = [decode_list(data, ENTRIES, self.order.vocab_size) for data in reply.lists]
        member.question = None
        member.have = question.upto
        self._standing.answered(peer)
        swarm.replied(peer, now - question.sent_at, question.upto - question.base, now)
        current = self._round
        if found and question.round == self._text.index and peer in current.asked:
            current.replies[peer] = Reply(found[0], size_bytes, now - question.sent_at)
            needed = max(
                (swarm.patience_s(current.asked[p], now) for p in current.waiting), default=0.0
            )
            owed = None if self._text.index else self._panel.owed(current.replies, current.waiting)
            current.deadline_at = min(current.deadline_at, waits_until(current, now, needed, owed))

    def _expose(self, swarm: Swarm, now: float) -> list[Step]:
        """Part from those who claim our own expert's model and were shown not to have it."""
        steps: list[Step] = []
        for peer in self._panel.contradicted():
            if peer in self.members:
                swarm.weighed(peer, -MERIT_MAX_NATS, 0.0, now)
                self._standing.excluded(peer, standing.CONTRADICTED)
                self._round.replies.pop(peer, None)
                self._drop(peer)
                steps.append(Ask(peer, Close(self.session)))
        return steps

    def _rejoin(self, swarm: Swarm, peer: PeerId, member: Member, now: float) -> list[Step]:
        """Its answer to an earlier round has come after all: where this one waits for somebody's
        prompt, it is asked again."""
        current = self._round
        behind = any(current.asked[p].missing > CAUGHT_UP for p in current.waiting)
        found = (
            next((c for c in self._free(swarm, now) if c.peer == peer), None) if behind else None
        )
        if found is None or len(current.replies) >= current.wanted:
            return []
        current.asked[peer] = found
        current.until[peer] = now + swarm.patience_s(found, now)
        current.deadline_at = max(current.deadline_at, current.until[peer])
        return self._ask(peer, member, swarm.digest, now)

    def _needed(
        self, swarm: Swarm, peer: PeerId, member: Member, question: Question, have: int, now: float
    ) -> list[Step]:
        if have >= max(question.base, 1):
            raise RemoteError(
                f"expert {peer}: needs from {have} where it was sent from {question.base}"
            )
        member.needs += 1
        member.have, member.question = have, None
        # Others take its place away faster than it computes: no breach, and no use either.
        if member.needs > NEEDS_MAX:
            swarm.rest(peer, self._standing.rebuffed(peer, standing.NEEDY), now)
            self._drop(peer)
            return self._settle(swarm, now)
        if question.round != self._text.index or peer not in self._round.asked:
            return self._settle(swarm, now)
        return self._ask(peer, member, swarm.digest, now)

    def _settle(self, swarm: Swarm, now: float) -> list[Step]:
        """Finish the round if it is complete; ask others in place of those who fell out."""
        if self.ended:
            return []
        current, waiting = self._round, self._round.waiting
        if current.replies and (
            not waiting or (len(current.replies) >= current.wanted and self._is_quorum(waiting))
        ):
            return self._complete(swarm, now)
        short = current.wanted - len(current.replies) - len(waiting)
        if short <= 0:
            return []
        if current.asked and not waiting:
            current.deadline_at = min(now + 2 * RETRY_S, current.started_at + ROUND_MAX_S)
        return self._widen(swarm, now, short)

    def _complete(self, swarm: Swarm, now: float) -> list[Step]:
        """There are answers enough; one alone that is unsure is a reason to ask the others after
        all."""
        current = self._round
        if current.wanted < self.order.k and not current.is_wide:
            current.is_wide = True
            alone = min(current.replies.values(), key=lambda reply: surprise(reply.found))
            if self._panel.escalation.widen(surprise(alone.found)):
                current.wanted = self.order.k
                steps = self._widen(swarm, now, self.order.k - len(current.replies))
                if steps:
                    return steps
        return self._finish(swarm, now)

    def _finish(self, swarm: Swarm, now: float) -> list[Step]:
        """Pool, sample, tell, and begin the next round."""
        current = self._round
        used = sorted(
            self._panel.best(current.replies, current.wanted),
            key=lambda p: (not swarm.is_local(p), p),
        )
        found = [current.replies[p].found for p in used]
        text = self._text.tokens
        token, logprob, weights, pooled = decide(
            self.order, found, self._panel.weights(used), self._panel.holders(used), self._rng, text
        )
        if token in self.order.stop_tokens and self._asks_before_the_end(used, swarm):
            current.wanted = self.order.k
            steps = self._widen(swarm, now, self.order.k - len(current.replies))
            if steps:
                return steps
        if used and all(swarm.is_local(p) for p in used):
            self._local_only += 1
        uses, took_s = current.uses(used, weights), now - current.started_at
        chosen = TokenChosen(
            self.request,
            self._text.index,
            token,
            logprob,
            self._text.index,
            len(used),
            took_s,
            uses,
            pooled.agreement,
        )
        said = self._level.change(len(used), current.wanted, all(swarm.is_local(p) for p in used))
        steps = [Noticed(self.request, said)] if said else []
        if self._text.index == 0:
            steps += self._keep(swarm, now)
        steps.append(chosen)
        self._text.append(token)
        if token in self.order.stop_tokens:
            return steps + self._end("eos")
        if self._text.index >= self.order.max_tokens:
            return steps + self._end("length")
        return steps + self._begin(swarm, now)

    def _asks_before_the_end(self, used: Sequence[PeerId], swarm: Swarm) -> bool:
        """Whether a text would end on the word of one that was asked alone, though the user wants
        others to have a say."""
        alone = self._round.wanted < self.order.k and self.order.quality > 0
        return alone and not any(swarm.is_local(p) for p in used)

    def _keep(self, swarm: Swarm, now: float) -> list[Step]:
        """After the first round: tell who was weighed, and let those go that this answer will
        hardly need again."""
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

    # --- small questions -----------------------------------------------------------------------------------------------------

    def _is_quorum(self, waiting: Sequence[PeerId]) -> bool:
        """Before the first token all are waited for that may change what is known of the prompt;
        from then on those that a token is made of."""
        if not self._text.index:
            return not self._panel.owed(self._round.replies, waiting)
        return self._panel.is_quorum(self._round.replies, waiting, self._round.wanted)

    def _gives_up_at(self) -> float:
        return gives_up_at(self._round, bool(self._parts), self._standing.is_hopeless)

    def _break_silence(self, swarm: Swarm, now: float) -> list[Step]:
        current = self._round
        if current.replies or current.is_told or now < current.started_at + telling.SAY_S:
            return []
        current.is_told = True
        why = self._standing.reasons, swarm.shortage(len(self._text), now)
        return [
            Noticed(
                self.request, telling.silence(len(current.waiting), *why, self._gives_up_at() - now)
            )
        ]

    def _miss(self, swarm: Swarm, now: float) -> None:
        """Whoever has not answered in time is noted down for it, once a round. Where enough have
        answered, nobody has missed anything by being slower, except before the first token, for
        which it was waited."""
        current, late = self._round, self._round.waiting
        if len(current.replies) >= current.wanted:
            late = [] if self._text.index else self._panel.owed(current.replies, late)
        for peer in late:
            if peer not in current.late:
                current.late.add(peer)
                self._standing.waits(peer, standing.SILENT)
                swarm.missed(peer, now)

    def _drop(self, peer: PeerId) -> None:
        self._round.fell_out(peer)
        self.members.pop(peer, None)  # An answer that it gave to this round still counts.

    def _despair(self, swarm: Swarm, now: float) -> str:
        why = self._standing.reasons, swarm.shortage(len(self._text), now)
        is_final = self._standing.is_hopeless and not self._round.has_known
        return telling.despair(
            len(self._parts), *why, now - self._round.started_at, is_final=is_final
        )

    def _end(self, reason: EndReason, error: str = "") -> list[Step]:
        assert not self.ended
        self.ended = True
        closing: list[Step] = [Ask(peer, Close(self.session)) for peer in sorted(self.members)]
        ended = Ended(
            self.request, reason, self._text.index, self._failovers, self._local_only, error
        )
        return [*closing, ended]
