"""The service's records as protocol-buffer messages, and requests as its parameters: names and
units change here, and nothing else does.

What a request holds is bounded before anything is made of it (`UsageError`); numbers of strangers
are fitted into their fields, for a message that cannot be built would be a fault of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from swarmllm.adapters.grpc_service import mesh_llm_pb2 as pb
from swarmllm.errors import UsageError
from swarmllm.messages import CHARTER_RECORD_MAX
from swarmllm.runtime.service.halts import RECORDS_MAX
from swarmllm.runtime.service.record import Record

EXPERTS_USUAL: Final = 256
EXPERTS_MAX: Final = 4_096
TOKENIZER_MAX: Final = 64  # Hexadecimal digits of a fingerprint.
U32_MAX: Final = 2**32 - 1
HEALTH: Final = {
    "starting": pb.HEALTH_STARTING,
    "serving": pb.HEALTH_SERVING,
    "no_expert": pb.HEALTH_NO_EXPERT,
    "halted": pb.HEALTH_HALTED,
}
TASK_TYPES: Final = {
    pb.TASK_TYPE_TUNE_SCHEDULER: "tune_scheduler",
    pb.TASK_TYPE_ANALYSE_SECURITY: "analyse_security",
    pb.TASK_TYPE_WRITE_TEST: "write_test",
    pb.TASK_TYPE_TUNE_CONFIGURATION: "tune_configuration",
    pb.TASK_TYPE_DRAFT_PROPOSAL: "draft_proposal",
}
OUTCOMES: Final = {
    "applied": pb.RecordOutcome.OUTCOME_APPLIED,
    "known": pb.RecordOutcome.OUTCOME_KNOWN,
    "refused": pb.RecordOutcome.OUTCOME_REFUSED,
}


def experts_wanted(request: pb.GetRouterStatusRequest) -> int:
    if request.experts_max > EXPERTS_MAX:
        raise UsageError(
            f"experts_max is {request.experts_max}; at most {EXPERTS_MAX} experts are listed"
        )
    return request.experts_max or EXPERTS_USUAL


def status_message(record: Record, most: int) -> pb.GetRouterStatusResponse:
    if record["state"] == "starting":
        return pb.GetRouterStatusResponse(health=HEALTH["starting"])
    experts = [_expert(one) for one in record["experts"][:most]]
    return pb.GetRouterStatusResponse(
        router_id=record["peer"],
        swarm=record["swarm"],
        health=HEALTH[record["health"]],
        online_expert_count=record["online"],
        online_expert_ids=[one.expert_id for one in experts if one.online],
        active_streams=_u32(record["active"]),
        tokens_per_second=record["tokens_per_s"],
        experts=experts,
        experts_left_out=len(record["experts"]) - len(experts),
        halted=record["halted"],
        charter_version=_u32(record["charter_version"]),
        phase=record["phase"],
        governance_obstacle=record["obstacle"],
        uptime_seconds=record["uptime_s"],
        subsets=[
            pb.Subset(
                domain=one["domain"], merged_with=one["merged_with"], expert_ids=one["experts"]
            )
            for one in record["subsets"]
        ],
    )


def _expert(record: Record) -> pb.Expert:
    measured: dict[str, Any] = {
        "round_ms": record["round_ms"],
        "ping_ms": record["ping_ms"],
        "expected_ms": record["expected_ms"],
        "merit_nats": record["merit_nats"],
        "share": record["share"],
    }
    return pb.Expert(
        expert_id=record["peer"],
        model_name=record["model"],
        model_digest=bytes.fromhex(record["digest"]),
        parameters=record["n_params"],
        context_max=_u32(record["context_max"]),
        capacity_tokens_per_sec=record["tokens_per_s"],
        queue_depth=_u32(record["queue_depth"]),
        sessions_free=_u32(record["sessions_free"]),
        max_batch_size=_u32(record["sessions_max"]),
        domains=record["domains"],
        online=record["connected"] or record["local"],
        local=record["local"],
        resting=record["resting"],
        **{name: value for name, value in measured.items() if value is not None},
    )


def offer_params(request: pb.RegisterExpertRequest) -> dict[str, object]:
    if len(request.tokenizer) > TOKENIZER_MAX:
        raise UsageError(
            f"tokenizer has {len(request.tokenizer)} characters; a fingerprint has {TOKENIZER_MAX}"
        )
    return {
        "expert_id": request.expert_id,
        "model": request.model_name,
        "withdraw": request.withdraw,
        "report_s": request.report_seconds,
    }


def offer_message(record: Record, request: pb.RegisterExpertRequest) -> pb.RegisterExpertResponse:
    """`request`: what is said of it is compared with what is so."""
    believed = "; ".join(_differences(record, request)) if record["message"] else ""
    return pb.RegisterExpertResponse(
        success=record["registered"] is not request.withdraw,
        message=record["message"] + (f" ({believed})" if believed else ""),
        registered=record["registered"],
        router_id=record["peer"],
        model_name=record["model"],
        model_digest=bytes.fromhex(record["digest"]),
        tokenizer=record["vocabulary"],
        capacity_tokens_per_sec=record["tokens_per_s"],
        max_batch_size=_u32(record["sessions_max"]),
        sessions_free=_u32(record["sessions_free"]),
        queue_depth=_u32(record["queue_depth"]),
        health=HEALTH[record["health"]],
    )


def _differences(record: Record, request: pb.RegisterExpertRequest) -> Iterator[str]:
    if request.tokenizer and not record["vocabulary"].startswith(request.tokenizer.lower()):
        yield f"its vocabulary is {record['vocabulary'][:16]}, and not the one that was named"
    if request.capacity_tokens_per_sec > record["tokens_per_s"]:
        yield f"it decodes {record['tokens_per_s']:.1f} tokens/s, and not as many as was said"
    if request.max_batch_size > record["sessions_max"]:
        yield f"it has {record['sessions_max']} sessions, and not {request.max_batch_size}"


def task_params(request: pb.SubmitSelfTaskRequest) -> dict[str, object]:
    kind = TASK_TYPES.get(request.task_type)
    if kind is None:
        raise UsageError(
            f"task_type is {request.task_type}; it must be 1 to {max(TASK_TYPES)}:"
            f" {', '.join(TASK_TYPES.values())}"
        )
    return {
        "type": kind,
        "description": request.task_description,
        "domain": request.domain,
        "priority": request.priority,
        "deadline_s": request.deadline_seconds,
        "follow": request.follow,
    }


def task_message(task: Record, step: Record | None) -> pb.SubmitSelfTaskResponse:
    """The task as it is now; with a step of its cycle, if one was made."""
    message = pb.SubmitSelfTaskResponse(
        task_id=task["task_id"],
        accepted=task["accepted"],
        action_tier=task["action_tier"],
        approval_status=task["approval_status"],
        task_digest=bytes.fromhex(task["digest"]),
        state=task["state"],
        domain=task["domain"],
        proposal_id=bytes.fromhex(task["proposal"]),
        result=task["result"],
    )
    if step is not None:
        message.step = step["step"]
        message.step_text = step["text"]
        message.cycle = step["cycle"]
    return message


def halt_params(request: pb.HaltMeshRequest) -> dict[str, object]:
    if len(request.records) > RECORDS_MAX:
        raise UsageError(
            f"there are {len(request.records)} records; a halt has at most {RECORDS_MAX}"
        )
    for record in request.records:
        if len(record) > CHARTER_RECORD_MAX:
            raise UsageError(
                f"one of the records has {len(record)} bytes; a halt record has at most"
                f" {CHARTER_RECORD_MAX}"
            )
    params: dict[str, object] = {
        "requester_id": request.requester_id,
        "reason": request.reason,
        "this_node_only": request.this_node_only,
    }
    if request.records:
        params["records"] = [record.hex() for record in request.records]
    if request.HasField("wait_seconds"):
        params["wait_s"] = request.wait_seconds
    return params


def halting_message(record: Record) -> pb.HaltMeshResponse:
    return pb.HaltMeshResponse(
        halted=record["halted"],
        reasons=record["reasons"],
        streams_stopped=_u32(record["streams_stopped"]),
        changes_reverted=_u32(record["changes_reverted"]),
        outcomes=[
            pb.RecordOutcome(outcome=OUTCOMES[one["outcome"]], reason=one["reason"])
            for one in record["outcomes"]
        ],
        acknowledged_by=record["acknowledged_by"],
        peers_told=_u32(record["peers"]),
        peers_acknowledged=_u32(record["acknowledged"]),
        elapsed_ms=record["ms"],
    )


def _u32(value: int) -> int:
    return max(0, min(value, U32_MAX))
