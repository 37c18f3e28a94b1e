"""The records in which the service answers, and that `--json` and the local socket show: one JSON
object each, with stable names.

Other programs parse these, so each kind is written in exactly one place, here. A record has `event`
and `time` (Unix seconds); a field may be added, none is renamed. Prompts are in none of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from swarmllm.core.events import (
    ExpertFound,
    ExpertLost,
    ExpertUse,
    LifeEvent,
    LogDoubted,
    NodeHalted,
    NodeResumed,
    NotLetIn,
    PeerSeen,
    ServingPaused,
    ServingResumed,
    Weighed,
)
from swarmllm.core.governance.view import GovernanceView
from swarmllm.core.ledger.part import LedgerView
from swarmllm.core.membership.part import MembersView
from swarmllm.core.peers.reachability import Reachability
from swarmllm.core.peers.view import ExpertView, VocabularyView
from swarmllm.core.settings.holder import SettingView
from swarmllm.core.thinking import Thinking
from swarmllm.core.values import EngineLoad, ModelCard
from swarmllm.errors import ContextError, SwarmError
from swarmllm.messages import PeerId
from swarmllm.runtime.service.answer import Notice, Part, Piece, Weighing
from swarmllm.runtime.service.local_node import Status
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.result import Result
from swarmllm.runtime.service.trust_fields import standing_fields

State = Literal["running", "starting", "none"]
"""Of the node; `none`: nothing runs, and what is shown is what one would start with."""

# --- a node's life, beyond what the core tells ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Starting:
    """The first thing a node says."""

    data_dir: str
    swarm: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Work before the start that takes seconds: `done` of `total` (0: unknown) in `unit`."""

    what: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class ModelReady:
    """`seconds` it took to load; `tokens_per_s` is what one session decoded then (0: not measured,
    because the node is halted). `file`: the name of the file that it was loaded from."""

    card: ModelCard
    seconds: float
    tokens_per_s: float = 0.0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Listening:
    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceOpened:
    """`address` is where the gRPC service can be called: host and port."""

    address: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should know and that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Always the last of the start. `api` is where local programs can ask, and `http` where any
    can; `invite` is an address to give to others. Empty: there is none."""

    peer: PeerId
    api: str
    invite: str
    http: str = ""


@dataclass(frozen=True, slots=True)
class Stopping:
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    pass


SwarmEvent = LifeEvent
Life = (
    Starting
    | Progress
    | ModelReady
    | Listening
    | ServiceOpened
    | Warned
    | Ready
    | Stopping
    | Stopped
    | SwarmEvent
)


def life_record(event: Life) -> Record:
    match event:
        case Starting(data_dir=data_dir, swarm=swarm):
            return record_of("starting", data_dir=data_dir, swarm=swarm)
        case Progress(what=what, done=done, total=total, unit=unit):
            return record_of("progress", what=what, done=done, total=total, unit=unit)
        case ModelReady(card=card, seconds=seconds, tokens_per_s=rate, file=file):
            told = {"seconds": round(seconds, 3), "tokens_per_s": round(rate, 2), "file": file}
            return record_of("model_ready", **_model(card), **told)
        case Listening(addrs=addrs):
            return record_of("listening", addrs=list(addrs))
        case ServiceOpened(address=address):
            return record_of("service_opened", grpc=address)
        case Warned(text=text):
            return record_of("warning", text=text)
        case Ready(peer=peer, api=api, invite=invite, http=http):
            return record_of("ready", peer=peer, api=api, invite=invite, http=http)
        case Stopping(reason=reason):
            return record_of("stopping", reason=reason)
        case Stopped():
            return record_of("stopped")
        case _:
            return _swarm_record(event)


def _swarm_record(event: SwarmEvent) -> Record:
    match event:
        case NodeHalted(reasons=reasons, by=by, seq=seq):
            return record_of("halted", by=by, seq=seq, reasons=list(reasons))
        case NodeResumed():
            return record_of("resumed")
        case LogDoubted(peer=peer, reason=reason):
            return record_of("log_doubted", peer=peer, reason=reason)
        case ServingPaused(reason=reason):
            return record_of("serving_paused", reason=reason)
        case ServingResumed():
            return record_of("serving_resumed")
        case NotLetIn(reason=reason):
            return record_of("not_let_in", reason=reason)
        case ExpertFound(peer=peer, record=record):
            return record_of(
                "expert_found",
                peer=peer,
                model=record.model,
                n_params=record.n_params,
                context_max=record.context_max,
                tokens_per_s=record.rate / 16,
            )
        case ExpertLost(peer=peer, reason=reason):
            return record_of("expert_lost", peer=peer, reason=reason)
        case PeerSeen(peer=peer, connected=True):
            return record_of("peer_found", peer=peer)
        case PeerSeen(peer=peer, reason=reason):
            return record_of("peer_lost", peer=peer, reason=reason)
        case _:
            assert_never(event)


# --- an answer ------------------------------------------------------------------------------------


def part_record(part: Part) -> Record:
    """`weighed`, `token`, `notice`, or `text` for what was still held back when an answer broke
    off."""
    match part:
        case Weighing(experts=experts, known=known, prompt_tokens=prompt_tokens, thinking=marks):
            thinks: Record = {} if marks is None else {"thinking": _thinking(marks)}
            return record_of(
                "weighed",
                experts=[_weighed(expert) for expert in experts],
                known=known,
                prompt_tokens=prompt_tokens,
                **thinks,
            )
        case Notice(text=text):
            return record_of("notice", text=text)
        case Piece(text=text, chosen=None):
            return record_of("text", text=text)
        case Piece(text=text, chosen=chosen, data=data, likeliest=likeliest):
            assert chosen is not None
            told: Record = {} if data is None else _likeliest(data, likeliest)
            return record_of(
                "token",
                index=chosen.index,
                id=chosen.token,
                text=text,
                logprob=round(chosen.logprob, 4),
                round=chosen.round,
                k=chosen.k,
                round_ms=_ms(chosen.round_s),
                shared=chosen.shared,
                experts=[_use(use) for use in chosen.experts],
                agreement=round(chosen.agreement, 4),
                **told,
            )
        case _:
            assert_never(part)


def _likeliest(data: bytes, likeliest: tuple[tuple[int, bytes, float], ...]) -> Record:
    """Bytes are in hexadecimal: a token may be half a character."""
    found = [
        {"id": token, "bytes": piece.hex(), "logprob": round(logprob, 4)}
        for token, piece, logprob in likeliest
    ]
    return {"bytes": data.hex(), "likeliest": found}


def _thinking(marks: Thinking) -> Record:
    """The text of the tokens holds the marks, but for the opening one if `is_open`."""
    return {"opening": marks.opening, "closing": marks.closing, "is_open": marks.is_open}


def _weighed(expert: Weighed) -> Record:
    return {
        "peer": expert.peer,
        "model": expert.model,
        "nats_per_token": None if expert.nats is None else round(expert.nats, 4),
        "share": round(expert.share, 4),
        "kept": expert.kept,
        "why": expert.why,
    }


def _use(use: ExpertUse) -> Record:
    return {
        "peer": use.peer,
        "model": use.model,
        "weight": round(use.weight, 4),
        "bytes": use.size_bytes,
        "rtt_ms": _ms(use.rtt_s),
        "used": use.used,
    }


def end_record(result: Result) -> Record:
    record = record_of(
        "end",
        reason=result.reason,
        tokens=result.tokens,
        prompt_tokens=result.prompt_tokens,
        text=result.text,
        seconds=round(result.seconds, 3),
        tokens_per_s=round(result.tokens_per_s, 2),
        bytes_per_expert_per_token=round(result.bytes_per_expert_per_token, 1),
        experts_per_token=round(result.experts_per_token, 3),
        failovers=result.failovers,
        local_only_tokens=result.local_only_tokens,
        rounds=result.rounds,
        drafted=result.drafted,
        accepted=result.accepted,
        seed=result.seed,
    )
    if result.stop:
        record["stop"] = result.stop
    if result.error:
        record["error"] = result.error
    return record


def error_record(error: SwarmError) -> Record:
    """What was asked for was not begun, or broke off; `exit_code` is what a command leaves with."""
    more: dict[str, object] = {"code": error.code} if error.code else {}
    if isinstance(error, ContextError):
        more["excess_tokens"] = error.excess
    return record_of("error", message=str(error), exit_code=error.exit_code, **more)


# --- questions ------------------------------------------------------------------------------------


def starting_record() -> Record:
    """The status of a node that is still loading its model."""
    return record_of("status", state="starting")


def status_record(status: Status) -> Record:
    view = status.view
    return record_of(
        "status",
        state="running",
        peer=view.peer,
        swarm=status.swarm,
        uptime_s=round(status.uptime_s, 3),
        model=None if view.card is None else _model(view.card),
        has_chat_template=status.has_chat_template,
        load=None if view.load is None else _load(view.load),
        addrs=list(view.addrs),
        reach=None if status.reach is None else _reach(status.reach, status.reach_says),
        peers=list(view.peers),
        halted=list(view.halted),
        paused=view.paused,
        experts=[_expert(expert) for expert in view.experts],
        vocabularies=[_vocabulary(one, view.vocabulary) for one in view.vocabularies],
        answers_open=view.answers_open,
        rounds_served_open=view.rounds_served_open,
        troubles=[*status.troubles, *_faults(view.parts)],
        records_dropped=view.records_dropped,
        records_refused=view.records_refused,
        saves_failed=status.saves_failed,
        crowding=status.crowding,
        relay=status.relay,
        punching=status.punching,
        ledger=next((_ledger(one) for one in view.parts if isinstance(one, LedgerView)), None),
        membership=next(
            (_membership(one) for one in view.parts if isinstance(one, MembersView)), None
        ),
        default_model=next(
            (_default(one) for one in view.parts if isinstance(one, GovernanceView)), None
        ),
    )


def _reach(reach: Reachability, says: str) -> Record:
    """`kind` is public, mapped, nat or unknown; `addrs` are outside addresses at which peers
    elsewhere got in, and of `tried` blocks of addresses `proofs` did."""
    return {
        "kind": reach.kind.value,
        "says": says,
        "addrs": list(reach.addrs),
        "ip4": reach.ip4.value,
        "ip6": reach.ip6.value,
        "mapped_by": "" if reach.mapping is None else reach.mapping.by,
        "relays": reach.relays,
        "needs_relay": reach.needs_relay,
        "tried": reach.tried,
        "proofs": reach.proofs,
    }


def _membership(view: MembersView) -> Record:
    """Of a closed swarm. `members` is how many peers have shown a membership that counts,
    `ends_ms` until when this node's own is good (0: it has none)."""
    return {
        "members": view.members,
        "ends_ms": view.own_ends_ms,
        "may_invite": view.may_invite,
    }


def _ledger(view: LedgerView) -> Record:
    """`checkpoint` is the size of the last one and `head` its root, `fault` why nothing can be
    written (empty: it can). `acknowledged` are alarms that the owner has looked at, and `alarms`
    the others."""
    return {
        "size": view.size,
        "checkpoint": view.checkpoint,
        "head": view.head.hex(),
        "witnesses": list(view.witnesses),
        "watched": dict(view.watched),
        "alarms": {peer: one for peer, one in view.alarms if peer not in view.acknowledged},
        "acknowledged": [peer for peer, _ in view.alarms if peer in view.acknowledged],
        "fault": view.fault,
    }


def _faults(parts: Sequence[object]) -> list[str]:
    kinds = (GovernanceView, MembersView)
    return [one.fault for one in parts if isinstance(one, kinds) and one.fault]


def _default(view: GovernanceView) -> Record | None:
    """The model that new nodes are offered; None: nobody voted for one."""
    if view.model is None:
        return None
    model, proposal = view.model
    digest = model.digest.hex()
    return {"reference": model.reference, "digest": digest, "proposal": proposal.hex()}


def _vocabulary(one: VocabularyView, ours: bytes) -> Record:
    """One that experts of the swarm have; `asked`: it is that of this node."""
    return {
        "fingerprint": one.fingerprint.hex(),
        "chat": one.chat_digest.hex(),
        "model": one.model,
        "experts": one.experts,
        "connected": one.connected,
        "asked": one.fingerprint == ours,
    }


def settings_record(state: State, views: Sequence[SettingView]) -> Record:
    """The settings that the swarm can change. Values are whole numbers of `unit`; `low` to `high`
    are the bounds within which a change is a small one, and `limits` what is possible at all.
    `of_swarm` is the swarm's value, which differs from `value` where the owner has pinned it."""
    return record_of("settings", state=state, settings=[_setting(view) for view in views])


def _setting(view: SettingView) -> Record:
    setting, change = view.setting, view.change
    return {
        "key": setting.key,
        "value": view.value,
        "unit": setting.unit,
        "default": setting.default,
        "low": view.bounds.low,
        "high": view.bounds.high,
        "limits": [setting.limits.low, setting.limits.high],
        "owner": setting.owner,
        "pinned": view.is_pinned,
        "of_swarm": view.of_swarm,
        "changed_by": None if change is None else change.by,
        "changed": None if change is None else change.at_ms / 1000,
        "effect": setting.effect,
    }


def experts_record(experts: tuple[ExpertView, ...]) -> Record:
    return record_of("experts", experts=[_expert(expert) for expert in experts])


def _expert(view: ExpertView) -> Record:
    """Times in milliseconds as measured here, None where nothing was measured yet; what the expert
    says of itself besides."""
    record = view.record
    return {
        "peer": view.peer,
        "model": record.model,
        "digest": record.model_digest.hex(),
        "n_params": record.n_params,
        "context_max": record.context_max,
        "tokens_per_s": record.rate / 16,
        "queue_depth": record.queue_depth,
        "sessions_free": record.sessions_free,
        "sessions_max": record.sessions_max,
        "domains": list(record.domains),
        "addrs": list(record.addrs),
        "started": record.boot / 1000,
        "connected": view.connected,
        "local": view.local,
        "resting": view.resting,
        "replies": view.replies,
        "round_ms": _ms(view.rtt_s) if view.replies else None,
        "ping_ms": _ms(view.ping_s) if view.ping_s else None,
        "expected_ms": _ms(view.score_s),
        "prompts": view.prompts,
        "merit_nats": round(view.merit, 4) if view.prompts else None,
        "share": round(view.share, 4) if view.prompts else None,
        **standing_fields(view),
    }


def _model(card: ModelCard) -> Record:
    return {
        "model": card.name,
        "vocab": card.vocab_fingerprint.hex(),
        "vocab_size": card.vocab_size,
        "chat": card.chat_digest.hex(),
        "digest": card.digest.hex(),
        "n_params": card.n_params,
        "context_max": card.context_max,
        "domains": list(card.domains),
    }


def _load(load: EngineLoad) -> Record:
    return {
        "queue_depth": load.queue_depth,
        "sessions_free": load.sessions_free,
        "sessions_max": load.sessions_max,
        "tokens_per_s": round(load.tokens_per_s, 2),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def record_of(event: str, **values: Any) -> Record:
    """Any record: its kind, the time, and its fields."""
    return {"event": event, "time": round(time.time(), 3), **values}
