"""What a host does with the effects of its node, as `runtime.driver` and `runtime.halt_performer`
do: in order, stop before tell before remember, and while the flag is up no inference message
leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.effects import (
    Advertise,
    Announce,
    AppendToLedger,
    CloseSession,
    Commit,
    Dial,
    DoubtLedger,
    Emit,
    EndStreams,
    Hangup,
    KeepAlarm,
    KeepCheckpoint,
    KeepCosignature,
    KeepHead,
    LedgerEffect,
    LookUp,
    Penalise,
    Persist,
    ProveConsistency,
    PublishRecord,
    RecordChecked,
    RecordKept,
    Relay,
    RevertChanges,
    RunScore,
    Save,
    Send,
    SendFrame,
    StartAgain,
    StopNow,
    Withdraw,
)
from swarmllm.core.events import Ended, HaltHeard, TokenChosen
from swarmllm.core.halt.state_file import pack_genesis
from swarmllm.core.inputs import Committed, LedgerFaulty, Persisted, Scored
from swarmllm.messages import REFUSED_ENGINE, Halted, Records, Refused
from swarmllm.messages.governance import SetRecords
from swarmllm.testing.world.ledger import write
from swarmllm.testing.world.sizes import size_of
from swarmllm.wire.codec import encode

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

COMMIT_S: Final = 0.015  # As measured for a halt state (docs/halt-benchmark.md).


def _send(host: Host, effect: Send) -> None:
    message = host.behaviour.outgoing(host, effect.peer, effect.message)
    if message is None:
        return
    for checker in host.world.checkers:
        checker.leaves(host, effect.peer, message)
    host.world.network.send(host, effect.peer, message, size_of(message))


def _run_score(host: Host, effect: RunScore) -> None:
    if host.engine is None:
        refusal = Refused(effect.request.session, effect.request.round, REFUSED_ENGINE)
        host.world.event_queue.after(0.0, host.receive_if, host.life, Scored(effect.order, refusal))
    else:
        host.engine.submit(effect.order, effect.key, effect.request)


def _close_session(host: Host, effect: CloseSession) -> None:
    if host.engine is not None:
        host.engine.close(effect.key)


def _emit(host: Host, effect: Emit) -> None:
    event, now = effect.event, host.world.event_queue.now
    match event:
        case TokenChosen():
            answer = host.answers[event.request]
            answer.tokens.append(event.token)
            answer.times.append(now)
            answer.chosen.append(event)
            for checker in host.world.checkers:
                checker.token(host, answer, event)
        case Ended():
            answer = host.answers[event.request]
            answer.ends.append(event)
            answer.ended_at = now
            for checker in host.world.checkers:
                checker.ended(host, answer, event)
            host.world.ended(answer)
        case _:
            pass


def _dial(host: Host, effect: Dial) -> None:
    host.world.network.dial(host, effect.peer, effect.addrs)


def _hang_up(host: Host, effect: Hangup) -> None:
    host.drop(effect.peer, effect.reason)


def _advertise(host: Host, effect: Advertise) -> None:
    host.world.network.advertise(host, effect.record.vocab_fingerprint, effect.record.addrs)


def _withdraw(host: Host, effect: Withdraw) -> None:
    host.world.network.withdraw(host, effect.vocab_fingerprint)


def _look_up(host: Host, effect: LookUp) -> None:
    host.world.network.look_up(host, effect.vocab_fingerprint)


def _penalise(host: Host, effect: Penalise) -> None:
    host.penalise(effect.peer, effect.reason)


def _save(host: Host, effect: Save) -> None:
    if not host.disk.full:
        host.disk.values[effect.key] = effect.value


def _commit(host: Host, effect: Commit) -> None:
    """A moment later, as by a thread, one value after the other; a crash between two of them
    leaves those before it written."""
    life, queue = host.life, host.world.event_queue
    values = list(effect.values)

    def step(at: int) -> None:
        if life != host.life:
            return
        ok = not host.disk.full
        if ok:
            key, value = values[at]
            host.disk.values[key] = value
        if ok and at + 1 < len(values):
            queue.after(COMMIT_S, step, at + 1)
        else:
            fault = "" if ok else "the disk is full"
            host.receive_if(life, Committed(effect.number, ok, fault))

    queue.after(COMMIT_S, step, 0)


def _stop_now(host: Host, effect: StopNow) -> None:
    host.halted_at = host.world.event_queue.now
    if host.engine is not None:
        host.engine.stop()


def _start_again(host: Host, _effect: StartAgain) -> None:
    if host.engine is not None:
        host.engine.resume()


def _persist(host: Host, effect: Persist) -> None:
    life = host.life
    genesis = pack_genesis(host.world.founders.swarm)

    def done(ok: bool) -> None:
        host.receive_if(life, Persisted(effect.number, ok))

    host.disk.write(host.world.event_queue, effect.data, genesis, lambda: life == host.life, done)


def _relay(host: Host, effect: Relay) -> None:
    if not host.behaviour.relays(host):
        return
    frame = encode(Records((effect.record,)))
    for peer in effect.to:
        host.world.network.tell(host, peer, frame)


def _publish(host: Host, effect: PublishRecord) -> None:
    if host.behaviour.relays(host):
        host.world.network.gossip(host, effect.record, channel=effect.channel)


def _tell(host: Host, effect: SendFrame) -> None:
    if isinstance(effect.message, Records | SetRecords) and not host.behaviour.relays(host):
        return
    frame = host.world.encoded(effect.message)
    host.world.network.tell(host, effect.peer, frame, effect.channel)


def _end_streams(host: Host, effect: EndStreams) -> None:
    message: Halted = effect.message
    for peer in list(host.connections):
        host.world.network.send(host, peer, message, size_of(message))


def _revert(host: Host, effect: RevertChanges) -> None:
    host.reverted.append(effect.count)


def _announce(host: Host, effect: Announce) -> None:
    if isinstance(effect.event, HaltHeard):
        host.world.heard_halt(host)


def _checked(host: Host, effect: RecordChecked) -> None:
    host.checked(effect)


def _kept(_host: Host, _effect: RecordKept) -> None:
    """Nobody waits for it here; `governance_laws.KeptIsOnDisk` looks whether it is so."""


def _enter(host: Host, effect: LedgerEffect) -> None:
    write(host, host.world.event_queue, effect)


def _doubt(host: Host, effect: DoubtLedger) -> None:
    host.ledger_fault = effect.sentence
    host.world.event_queue.after(0.0, host.receive_if, host.life, LedgerFaulty(effect.sentence))


PERFORM: Final[dict[type, Callable[[Host, Any], None]]] = {
    Send: _send,
    RunScore: _run_score,
    CloseSession: _close_session,
    Emit: _emit,
    Dial: _dial,
    Hangup: _hang_up,
    Advertise: _advertise,
    Withdraw: _withdraw,
    LookUp: _look_up,
    Penalise: _penalise,
    Save: _save,
    Commit: _commit,
    StopNow: _stop_now,
    StartAgain: _start_again,
    Persist: _persist,
    Relay: _relay,
    PublishRecord: _publish,
    SendFrame: _tell,
    EndStreams: _end_streams,
    RevertChanges: _revert,
    Announce: _announce,
    RecordChecked: _checked,
    RecordKept: _kept,
    AppendToLedger: _enter,
    KeepCheckpoint: _enter,
    KeepCosignature: _enter,
    KeepHead: _enter,
    KeepAlarm: _enter,
    DoubtLedger: _doubt,
    ProveConsistency: _enter,
}
