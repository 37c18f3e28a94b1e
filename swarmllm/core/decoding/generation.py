"""One answer, token by token: ask K of N experts in parallel, pool what comes back, sample, repeat
(strict mode: one token a round).

A `Round` asks and waits; `Members` hold the sessions at experts; the `Ensemble` says whom to ask
and how much each counts. Here the text grows: a complete round becomes a token, or the end. With
`quality` below 1 a round begins with one expert and goes on to K only where that one is unsure, or
would end the text. Any expert can take part in any token after catching up, and a death costs one
prefill elsewhere, never the answer; where nobody but the local expert is left, the user is told.
With a grammar only what it allows is drawn, what it leaves no choice about is written without a
round, and where the lists do not tell enough of what it allows, a second round asks for that alone
(`core.decoding.constrained`).

Laws: a request ends exactly once; no token is lost or doubled whoever dies; a late answer still
counts for its own round and otherwise only for the expert's record; what passes
(`core.decoding.standing`) is waited for, up to `ROUND_MAX_S` a token, and what is final is said at
once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal, assert_never

from swarmllm.core.decoding import notices as telling
from swarmllm.core.decoding import standing
from swarmllm.core.decoding.cascade import surprise
from swarmllm.core.decoding.consent import decide
from swarmllm.core.decoding.constrained import is_unsure, weighed
from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.members import Ask, Members
from swarmllm.core.decoding.round import Experts, Reply, Round
from swarmllm.core.decoding.sampling import likeliest
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.decoding.text import Text
from swarmllm.core.events import Ended, EndReason, ExpertsWeighed, NodeEvent, Noticed, TokenChosen
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.settings.holder import Settings
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.messages import Busy, ExpertReply, Need, PeerId, Refused, Scores
from swarmllm.wire.token_set import TokenSet

# An expert that says "busy, retry at once" must not become a tight loop.
BUSY_MIN_S: Final = 0.05
# After asking: the questions are on the wire by then, and the nearest engine is at work for longer.
PREPARE_S: Final = 0.001
# Keeps the draws of exploration apart from those of sampling.
EXPLORE_SALT: Final = 0x5EED

Step = Ask | NodeEvent


class Generation:
    """The machine of one request. Every method returns what to do; `ended` is final."""

    def __init__(
        self, request: int, session: int, order: GenerateRequest, settings: Settings, now: float
    ) -> None:
        self.request = request
        self.session = session
        self.order = order
        self.ended = False
        self._text = Text(order.prompt)
        self._guide = Guide(order)
        # What was written before anybody was asked: told when it is known who is.
        self._untold: list[Step] = []
        exploring = random.Random(order.sampling.seed ^ EXPLORE_SALT)
        self._ensemble = Ensemble(order, exploring, settings)
        self._standing = Standing()
        self.members = Members(session, self._text, self._ensemble.gate.positions, settings)
        self._experts = Experts(self.members, self._ensemble, self._standing, settings)
        self._rng = random.Random(order.sampling.seed)
        self._failovers = 0
        self._local_only = 0
        self._level = telling.Level(order.k)
        # Of the round under way: the user has heard that nobody answers.
        self._is_silence_told = False
        self._is_kept = False  # The experts of the first round were weighed.
        self._round = Round(0, self._text.last, order, self._experts, now)

    def next_deadline(self) -> float:
        """When `timer` wants to be called."""
        current = self._round
        deadline = current.next_deadline()
        if self._guide.is_behind:
            deadline = min(deadline, current.asked_at + PREPARE_S)
        if current.poll.replies or self._is_silence_told:
            return deadline
        return min(deadline, current.clock.started_at + telling.SAY_S)

    # --- inputs --------------------------------------------------------------------------------

    def start(self, pool: ExpertPool) -> list[Step]:
        written, end = self._write_forced(pool)
        if end:
            return [*written, *end]
        self._untold = written
        self._round = Round(0, self._text.last, self.order, self._experts, pool.now)
        return [*self._round.begin(pool)]

    def received(
        self, pool: ExpertPool, peer: PeerId, reply: ExpertReply, size_bytes: int
    ) -> list[Step]:
        """An expert's answer. RemoteError: it breaks the protocol; the expert is out of this
        answer, nothing else changed."""
        question = self.members.question_of(peer)
        if question is None or reply.round != question.round:
            return []  # Nobody waits for it any more.
        match reply:
            case Scores():
                return self._scored(pool, peer, reply, size_bytes)
            case Need(have=have):
                is_needy = self.members.needs(peer, have)
                is_current = question.round == self._round.number
                if not is_needy and is_current and peer in self._round.poll.asked:
                    return [*self._round.ask_on(pool, peer)]
                # Others take its place away faster than it computes: no breach, and no use either.
                if is_needy:
                    pool.rest(peer, self._standing.rebuffed(peer, standing.NEEDY))
                    self._drop(peer)
            case Busy(retry_after_ms=retry_ms):
                self.members.refused(peer)
                pool.rest(peer, max(BUSY_MIN_S, retry_ms / 1000))
                self._standing.waits(peer, standing.BUSY)
                self._round.poll.drop_out(peer)
            case Refused(code=code):
                record = self.members.record_of(peer)
                pool.rest(peer, self._standing.refused(peer, record, code))
                self._drop(peer)
            case _:
                assert_never(reply)
        return self._settle(pool)

    def lost(self, pool: ExpertPool, peer: PeerId) -> list[Step]:
        """The connection to an expert is gone, and with it the session there."""
        if peer not in self.members:
            return []
        self._failovers += self._drop(peer)
        self._standing.waits(peer, standing.LOST)
        return self._settle(pool)

    def misbehaved(self, pool: ExpertPool, peer: PeerId) -> list[Step]:
        """The expert broke the protocol; it is not asked again for this answer."""
        self._standing.excluded(peer, standing.BROKE)
        return self.lost(pool, peer)

    def timer(self, pool: ExpertPool) -> list[Step]:
        """A deadline may have come: go on with what is there, or look for others."""
        current, now = self._round, pool.now
        try:
            self._guide.allowed()
        except LocalError as error:
            return self._end("error", str(error))
        if not current.poll.replies and now >= current.gives_up_at():
            why = self._standing.reasons, pool.shortage(len(self._text))
            seconds, asked = now - current.clock.started_at, len(self._experts.ever_asked)
            return self._end(
                "error", telling.despair(asked, *why, seconds, is_final=current.is_hopeless)
            )
        told = self._break_silence(pool)
        if current.is_overdue(now):
            current.miss(pool)
            if current.poll.replies:
                return told + self._complete(pool)
            steps = current.retry(pool)
            self._failovers += bool(steps)
            return [*told, *steps]
        if current.wants_others(now):
            return told + self._settle(pool)
        return told

    def cancel(self, reason: Literal["stop", "cancelled"]) -> list[Step]:
        return self._end(reason)

    def halt(self, why: str) -> list[Step]:
        """The kill switch: not even a goodbye is sent."""
        self.members.clear()
        return self._end("halted", why)

    # --- what an answer brings -----------------------------------------------------------------

    def _scored(self, pool: ExpertPool, peer: PeerId, reply: Scores, size_bytes: int) -> list[Step]:
        members, current = self.members, self._round
        lists = members.lists_of(peer, reply, self.order.vocab_size)
        question = members.question_of(peer)
        assert question is not None
        log_mass = members.log_mass_of(peer, reply)
        if question.allowed is None:
            self._ensemble.told(peer, question.evidence, reply.target_logprobs)
        members.answered(peer)
        self._standing.answered(peer)
        took_s = pool.now - question.sent_at
        pool.replied(peer, took_s, question.upto - question.base)
        is_late = question.round != current.number
        has_part = not is_late and peer in current.poll.asked
        if has_part and lists:
            current.answered(pool, peer, Reply(lists, size_bytes, took_s, log_mass))
        steps: list[Step] = [*current.expose(pool)]
        if peer in members and is_late:
            steps += current.rejoin(pool, peer)
        elif peer in members and has_part and not lists:
            steps += current.ask_on(pool, peer)
        return steps + self._settle(pool)

    def _drop(self, peer: PeerId) -> bool:
        """Whether others have to take up what it was working on."""
        self._round.poll.drop_out(peer)
        return self.members.drop(peer)

    # --- from round to round -------------------------------------------------------------------

    def _settle(self, pool: ExpertPool) -> list[Step]:
        """Finish the round if it is complete; ask others in place of those who dropped out."""
        if self.ended:
            return []
        return self._complete(pool) if self._round.is_complete else [*self._round.refill(pool)]

    def _complete(self, pool: ExpertPool) -> list[Step]:
        """There are answers enough; one alone that is unsure is a reason to ask the others after
        all."""
        current = self._round
        if current.is_narrow and current.answers_wanted < self.order.k:
            current.is_narrow = False
            alone = min(surprise(reply.lists[0]) for reply in current.poll.replies.values())
            if self._ensemble.cascade.widen(alone) and (steps := current.ask_all(pool)):
                return [*steps]
        return self._finish(pool)

    def _finish(self, pool: ExpertPool) -> list[Step]:
        """Pool, sample, tell, and begin the next round."""
        current, replies = self._round, self._round.poll.replies
        used = self._ensemble.best(replies, current.answers_wanted)
        used.sort(key=lambda peer: (not pool.is_local(peer), peer))
        lists, weights = [replies[p].lists[0] for p in used], self._ensemble.weights(used)
        steps: list[Step] = self._keep(pool) if current.is_first and not self._is_kept else []
        try:
            allowed = self._guide.allowed()
        except LocalError as error:
            return [*steps, *self._end("error", str(error))]
        if current.allowed is not None:
            lists = weighed(lists, [replies[p].log_mass for p in used])
        elif allowed is not None and is_unsure(lists, weights, allowed):
            if again := self._ask_allowed(pool, used, allowed):
                return [*steps, *again]
            if not any(allowed.holds(one.ids).any() for one in lists):
                return [*steps, *self._end("error", telling.UNLISTED)]
        token, logprob, weights, pooled = decide(
            *(self.order, lists, weights, self._ensemble.holders(used)),
            *(self._rng, self._text.tokens, allowed),
        )
        is_local = all(pool.is_local(peer) for peer in used)
        # One that was asked alone does not end a text where the user wants others to have a say.
        is_alone = current.answers_wanted < self.order.k and self.order.quality > 0
        is_hasty = token in self.order.stop_tokens and not is_local and is_alone
        if is_hasty and (others := current.ask_all(pool)):
            return [*steps, *others]
        self._local_only += is_local
        chosen = TokenChosen(
            request=self.request,
            index=self._text.index,
            token=token,
            logprob=logprob,
            round=current.number,
            k=len(used),
            round_s=pool.now - current.asked_at,
            experts=current.poll.uses(used, weights),
            agreement=pooled.agreement,
            likeliest=likeliest(pooled, self.order.likeliest),
        )
        said = self._level.change(
            len(used),
            current.answers_wanted,
            is_local,
            lambda: current.poll.known(current.free(pool)),
        )
        steps += [Noticed(self.request, said)] if said else []
        return [*steps, chosen, *self._append(pool, token)]

    def _ask_allowed(
        self, pool: ExpertPool, used: Sequence[PeerId], allowed: TokenSet
    ) -> list[Step]:
        """A round about the allowed tokens alone, by those whose answers count. Nothing if nobody
        can be asked that."""
        before = self._round
        again = Round(
            *(before.number + 1, before.positions, self.order, self._experts, pool.now), allowed
        )
        steps = again.begin(pool, before, used)
        if steps:
            self._round, self._is_silence_told = again, False
        return [*steps]

    def _append(self, pool: ExpertPool, token: int) -> list[Step]:
        self._text.append(token)
        if token in self.order.stop_tokens:
            return self._end("eos")
        try:
            self._guide.took(token)
        except LocalError as error:
            return self._end("error", str(error))
        written, end = self._write_forced(pool)
        if end:
            return [*written, *end]
        number = self._round.number + 1
        self._round = Round(number, self._text.last, self.order, self._experts, pool.now)
        self._is_silence_told = False
        return [*written, *self._round.begin(pool)]

    def _write_forced(self, pool: ExpertPool) -> tuple[list[Step], list[Step]]:
        """Write what the grammar leaves no choice about; and how the text ends, if it does so
        now."""
        written: list[Step] = []
        try:
            while not self._guide.is_done():
                room = self.order.max_tokens - self._text.index
                forced = self._guide.forced()[:room]
                if not forced:
                    return written, [] if room else self._end("length")
                for token in forced:
                    number = self._round.number
                    written.append(forced_token(self.request, self._text.index, token, number))
                    self._text.append(token)
                    self._guide.took(token)
        except LocalError as error:
            return written, self._end("error", str(error))
        return written, self._end("eos")

    def _keep(self, pool: ExpertPool) -> list[Step]:
        """After the first round: tell who was weighed, and let those go that this answer will
        hardly need again."""
        poll = self._round.poll
        probed = [p for p in poll.replies if p in self.members]
        kept = self._ensemble.best(probed, self.order.k + self.order.extra)
        self._is_kept = True
        found = tuple(self._ensemble.verdict(pool, probed, kept))
        known = poll.known(self._round.free(pool))
        gone = sorted(set(probed) - set(kept))
        told = ExpertsWeighed(self.request, found, known)
        untold, self._untold = self._untold, []
        return [told, *(self.members.close(peer) for peer in gone), *untold]

    # --- telling the user, and the end ---------------------------------------------------------

    def _break_silence(self, pool: ExpertPool) -> list[Step]:
        current, now = self._round, pool.now
        is_early = now < current.clock.started_at + telling.SAY_S
        if current.poll.replies or self._is_silence_told or is_early:
            return []
        self._is_silence_told = True
        why = self._standing.reasons, pool.shortage(len(self._text))
        left_s = current.gives_up_at() - now
        said = telling.silence(len(current.poll.waiting), *why, left_s)
        return [Noticed(self.request, said)]

    def _end(self, reason: EndReason, error: str = "") -> list[Step]:
        assert not self.ended
        self.ended = True
        ended = Ended(
            self.request, reason, self._text.index, self._failovers, self._local_only, error
        )
        untold, self._untold = self._untold, []
        return [*untold, *self.members.close_all(), ended]


def forced_token(request: int, index: int, token: int, round_number: int) -> TokenChosen:
    """A token that nobody was asked about."""
    return TokenChosen(request, index, token, 0.0, round_number, 0, 0.0, (), 1.0)
