"""What a program that manages nodes asks: the router's status in one record, its expert offered or
not and how it is, and a halt of the swarm or of this node with everything that followed from it.
gRPC and the local socket answer the same.

Both are made of the service's other answers, so nothing is decided here: an order is checked as any
record is, wherever it comes from, and who asks decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final, Protocol

import trio

from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import NO_PARAMS, Record

OPS: Final = frozenset({"mesh_status", "offer_expert", "halt_mesh"})
REQUESTER_MAX: Final = 64  # Characters; both go into the log.
REASON_MAX: Final = 200
EXPERT_ID_MAX: Final = 64
MODEL_MAX: Final = 500
REPORT_MAX_S: Final = 3_600

log = logging.getLogger("swarmllm.service")


class Answers(Protocol):
    """The service, as far as this asks it."""

    def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AbstractAsyncContextManager[AsyncIterator[Record]]: ...


async def call(service: Answers, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
    """The records that answer one of `OPS`."""
    match op:
        case "mesh_status":
            yield await mesh_status(service)
        case "offer_expert":
            async with aclosing(offer_expert(service, params)) as records:
                async for record in records:
                    yield record
        case _:
            async with aclosing(halt_mesh(service, params)) as records:
                async for record in records:
                    yield record


async def mesh_status(service: Answers) -> Record:
    """`health` is starting, serving, no_expert or halted. Without governance the phase is 0."""
    status = await _one(service, "status")
    if status["state"] == "starting":
        return record_of("mesh_status", state="starting", health="starting", experts=[])
    governance = await _governance(service)
    online = [one for one in status["experts"] if one["connected"] or one["local"]]
    healthy = "serving" if online else "no_expert"
    return record_of(
        "mesh_status",
        state="running",
        health="halted" if status["halted"] else healthy,
        peer=status["peer"],
        swarm=status["swarm"],
        uptime_s=status["uptime_s"],
        experts=sorted(status["experts"], key=_best_first),
        online=len(online),
        tokens_per_s=sum(one["tokens_per_s"] for one in online),
        active=status["answers_open"] + status["rounds_served_open"],
        halted=status["halted"],
        subsets=await _subsets(service),
        charter_version=governance.get("charter_version", 0),
        phase=governance.get("phase", 0),
        obstacle=governance.get("obstacle", ""),
    )


async def _subsets(service: Answers) -> list[Record]:
    """Whom the agent asks in each domain, once it has looked; none where it is off."""
    lanes = (await _one(service, "agent_status")).get("lanes", [])
    names = ("domain", "merged_with", "experts")
    return [{name: lane[name] for name in names} for lane in lanes if lane["experts"]]


def _best_first(expert: Record) -> tuple[bool, bool, str]:
    online = expert["connected"] or expert["local"]
    return not online, bool(expert["resting"]), str(expert["peer"])


async def offer_expert(service: Answers, params: Mapping[str, object]) -> AsyncGenerator[Record]:
    """`offer` records: that this node's expert is offered to others, or (`withdraw`) is not, and
    then how it is, every `report_s` until the caller leaves. UsageError for another node's
    `expert_id`, and for a model that is not this node's."""
    every_s = params.get("report_s", 0)
    if not isinstance(every_s, int) or not 0 <= every_s <= REPORT_MAX_S:
        raise UsageError(
            f"the field 'report_s' is {str(every_s)[:40]}; it must be 0 to {REPORT_MAX_S}"
        )
    status = await mesh_status(service)
    wanted = _text(params, "expert_id", EXPERT_ID_MAX)
    if status["state"] == "running" and wanted not in {"", status["peer"]}:
        raise UsageError(
            f"this node is {status['peer']}, and registers no expert for {wanted!r}; leave"
            " expert_id out"
        )
    if params.get("withdraw", False) is True:
        done = await _one(service, "withdraw_expert")
    else:
        done = await _last(service, "register_expert", {"model": _text(params, "model", MODEL_MAX)})
    message = done["message"]
    while True:
        status = await mesh_status(service)
        own = next((one for one in status["experts"] if one["local"]), None)
        yield record_of(
            "offer",
            registered=done["registered"],
            message=message,
            peer=status["peer"],
            model=done["model_name"],
            vocabulary=done["vocabulary"],
            tokens_per_s=done["capacity_tokens_per_s"],
            sessions_max=done["sessions_max"],
            digest="" if own is None else own["digest"],
            sessions_free=0 if own is None else own["sessions_free"],
            queue_depth=0 if own is None else own["queue_depth"],
            health=status["health"],
        )
        if not every_s:
            return
        message = ""
        await trio.sleep(every_s)


async def halt_mesh(service: Answers, params: Mapping[str, object]) -> AsyncGenerator[Record]:
    """`halting` records: what became of it here, each acknowledgement, and the end. `records` are
    the signed order and what it needs, as for `halt_publish`; or `this_node_only`. UsageError for
    both or neither."""
    alone = params.get("this_node_only", False) is True
    if alone == bool(params.get("records")):
        raise UsageError(
            "a halt needs signed 'records', or 'this_node_only': one of the two, and not both"
        )
    await _one(service, "halt_status")  # Once the node has started, and if it can be halted.
    _note(params, alone=alone)
    before = await _one(service, "status")
    reverted = await _taken_back(service)

    async def halting(**more: object) -> Record:
        now = await _one(service, "status")
        stopped = bool(now["halted"]) and not before["halted"]
        open_before = int(before["answers_open"]) + int(before["rounds_served_open"])
        return record_of(
            "halting",
            halted=bool(now["halted"]),
            reasons=now["halted"],
            streams_stopped=open_before if stopped else 0,
            changes_reverted=len(await _taken_back(service) - reverted),
            **{"outcomes": [], "acknowledged_by": "", "peers": 0, "acknowledged": 0, "ms": 0.0}
            | more,
        )

    if alone:
        await _one(service, "stop_here")
        yield await halting()
        return
    given = {name: params[name] for name in ("records", "wait_s") if name in params}
    peers = acknowledged = 0
    async with service.call("halt_publish", given) as found:
        async for one in found:
            match one["event"]:
                case "imported":
                    peers, outcomes = one["peers"], one["outcomes"]
                    yield await halting(outcomes=outcomes, peers=peers)
                    if all(outcome["outcome"] == "refused" for outcome in outcomes):
                        return  # Nobody was told of it, so nobody acknowledges it.
                case "ack":
                    acknowledged += 1
                    counts = {"peers": peers, "acknowledged": acknowledged, "ms": one["ms"]}
                    yield await halting(acknowledged_by=one["peer"], **counts)
                case _:
                    counts = {name: one[name] for name in ("peers", "acknowledged", "ms")}
                    yield await halting(**counts)


def _note(params: Mapping[str, object], *, alone: bool) -> None:
    """In the log: who says that it wants this, and why."""
    said = [
        _text(params, name, most)
        for name, most in (("requester_id", REQUESTER_MAX), ("reason", REASON_MAX))
    ]
    what = "a stop of this node" if alone else "a signed halt"
    log.warning("%s was asked for by %r: %r", what, *said)


def _text(params: Mapping[str, object], name: str, most: int) -> str:
    found = params.get(name, "")
    if not isinstance(found, str) or len(found) > most:
        raise UsageError(f"the field {name!r} is a text of at most {most} characters; shorten it")
    return found


async def _one(service: Answers, op: str, params: Mapping[str, object] = NO_PARAMS) -> Record:
    async with service.call(op, params) as records:
        found = [record async for record in records]
    return found[0]


async def _last(service: Answers, op: str, params: Mapping[str, object]) -> Record:
    """What it came to, after all that was told on the way."""
    async with service.call(op, params) as records:
        found = [record async for record in records]
    return found[-1]


async def _governance(service: Answers) -> Record:
    """Empty at a node that takes no part in it."""
    try:
        return await _one(service, "governance")
    except LocalError:
        return {}


async def _taken_back(service: Answers) -> set[int]:
    """The changes in the journal that were taken back, by number."""
    journal = (await _governance(service)).get("journal", [])
    return {one["number"] for one in journal if one["taken_back"]}
