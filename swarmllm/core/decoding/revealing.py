"""How the prompt of an answer is told in steps, so that each expert says what it expects behind a
cut before anybody has been told (`core.trust.evidence`)."""

from __future__ import annotations

from swarmllm.core.decoding.members import Ask
from swarmllm.core.decoding.round import Round
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.trust.evidence import HiddenTokens
from swarmllm.messages import PeerId


def heard(
    current: Round, hidden: HiddenTokens, pool: ExpertPool, peer: PeerId, size_bytes: int
) -> None:
    """An expert has answered something else than what the round is about; its bytes count all the
    same. Once enough have said what they expect behind a cut, the others get as long as those who
    may still change what is known of the prompt."""
    poll = current.poll
    poll.bytes_before[peer] = poll.bytes_before.get(peer, 0) + size_bytes
    waiting = poll.waiting
    said = sum(hidden.has_said(other) for other in waiting)
    if current.is_first and said >= min(current.answers_wanted, len(waiting)):
        current.clock.evidence_awaited(hidden.owing(waiting), pool.now)


def reveal(
    current: Round, hidden: HiddenTokens, pool: ExpertPool, *, is_overdue: bool = False
) -> list[Ask]:
    """Tell more of the prompt once all that were asked have said what they expect behind it.
    `is_overdue`: whoever has not is not waited for any longer; if nobody has, all is told."""
    if not current.is_first or hidden.cut is None:
        return []
    poll = current.poll
    ready = [peer for peer in poll.waiting if hidden.has_said(peer)]
    if not ready:
        if is_overdue:
            hidden.end()
        return []
    owing = hidden.owing(poll.waiting)
    if owing and not is_overdue:
        return []
    for peer in owing:
        poll.drop_out(peer)
    hidden.step()
    steps: list[Ask] = []
    for peer in ready:
        current.clock.waits_for(peer, pool.patience_s(poll.asked[peer]), pool.now)
        steps += current.ask_on(pool, peer)
    return steps
