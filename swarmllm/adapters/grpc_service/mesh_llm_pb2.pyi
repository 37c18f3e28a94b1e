from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_UNSPECIFIED: _ClassVar[Health]
    HEALTH_STARTING: _ClassVar[Health]
    HEALTH_SERVING: _ClassVar[Health]
    HEALTH_NO_EXPERT: _ClassVar[Health]
    HEALTH_HALTED: _ClassVar[Health]

class TaskType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_TYPE_UNSPECIFIED: _ClassVar[TaskType]
    TASK_TYPE_TUNE_SCHEDULER: _ClassVar[TaskType]
    TASK_TYPE_ANALYSE_SECURITY: _ClassVar[TaskType]
    TASK_TYPE_WRITE_TEST: _ClassVar[TaskType]
    TASK_TYPE_TUNE_CONFIGURATION: _ClassVar[TaskType]
    TASK_TYPE_DRAFT_PROPOSAL: _ClassVar[TaskType]
HEALTH_UNSPECIFIED: Health
HEALTH_STARTING: Health
HEALTH_SERVING: Health
HEALTH_NO_EXPERT: Health
HEALTH_HALTED: Health
TASK_TYPE_UNSPECIFIED: TaskType
TASK_TYPE_TUNE_SCHEDULER: TaskType
TASK_TYPE_ANALYSE_SECURITY: TaskType
TASK_TYPE_WRITE_TEST: TaskType
TASK_TYPE_TUNE_CONFIGURATION: TaskType
TASK_TYPE_DRAFT_PROPOSAL: TaskType

class GetRouterStatusRequest(_message.Message):
    __slots__ = ("experts_max",)
    EXPERTS_MAX_FIELD_NUMBER: _ClassVar[int]
    experts_max: int
    def __init__(self, experts_max: _Optional[int] = ...) -> None: ...

class GetRouterStatusResponse(_message.Message):
    __slots__ = ("router_id", "swarm", "health", "online_expert_count", "online_expert_ids", "active_streams", "tokens_per_second", "experts", "experts_left_out", "halted", "charter_version", "phase", "governance_obstacle", "uptime_seconds", "subsets")
    ROUTER_ID_FIELD_NUMBER: _ClassVar[int]
    SWARM_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    ONLINE_EXPERT_COUNT_FIELD_NUMBER: _ClassVar[int]
    ONLINE_EXPERT_IDS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_STREAMS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    HALTED_FIELD_NUMBER: _ClassVar[int]
    CHARTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    GOVERNANCE_OBSTACLE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SUBSETS_FIELD_NUMBER: _ClassVar[int]
    router_id: str
    swarm: str
    health: Health
    online_expert_count: int
    online_expert_ids: _containers.RepeatedScalarFieldContainer[str]
    active_streams: int
    tokens_per_second: float
    experts: _containers.RepeatedCompositeFieldContainer[Expert]
    experts_left_out: int
    halted: _containers.RepeatedScalarFieldContainer[str]
    charter_version: int
    phase: int
    governance_obstacle: str
    uptime_seconds: float
    subsets: _containers.RepeatedCompositeFieldContainer[Subset]
    def __init__(self, router_id: _Optional[str] = ..., swarm: _Optional[str] = ..., health: _Optional[_Union[Health, str]] = ..., online_expert_count: _Optional[int] = ..., online_expert_ids: _Optional[_Iterable[str]] = ..., active_streams: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., experts: _Optional[_Iterable[_Union[Expert, _Mapping]]] = ..., experts_left_out: _Optional[int] = ..., halted: _Optional[_Iterable[str]] = ..., charter_version: _Optional[int] = ..., phase: _Optional[int] = ..., governance_obstacle: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., subsets: _Optional[_Iterable[_Union[Subset, _Mapping]]] = ...) -> None: ...

class Subset(_message.Message):
    __slots__ = ("domain", "merged_with", "expert_ids")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    MERGED_WITH_FIELD_NUMBER: _ClassVar[int]
    EXPERT_IDS_FIELD_NUMBER: _ClassVar[int]
    domain: str
    merged_with: _containers.RepeatedScalarFieldContainer[str]
    expert_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, domain: _Optional[str] = ..., merged_with: _Optional[_Iterable[str]] = ..., expert_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Expert(_message.Message):
    __slots__ = ("expert_id", "model_name", "model_digest", "parameters", "context_max", "capacity_tokens_per_sec", "queue_depth", "sessions_free", "max_batch_size", "domains", "online", "local", "resting", "round_ms", "ping_ms", "expected_ms", "merit_nats", "share")
    EXPERT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_MAX_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_TOKENS_PER_SEC_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FREE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    RESTING_FIELD_NUMBER: _ClassVar[int]
    ROUND_MS_FIELD_NUMBER: _ClassVar[int]
    PING_MS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MS_FIELD_NUMBER: _ClassVar[int]
    MERIT_NATS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    expert_id: str
    model_name: str
    model_digest: bytes
    parameters: int
    context_max: int
    capacity_tokens_per_sec: float
    queue_depth: int
    sessions_free: int
    max_batch_size: int
    domains: _containers.RepeatedScalarFieldContainer[str]
    online: bool
    local: bool
    resting: bool
    round_ms: float
    ping_ms: float
    expected_ms: float
    merit_nats: float
    share: float
    def __init__(self, expert_id: _Optional[str] = ..., model_name: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., parameters: _Optional[int] = ..., context_max: _Optional[int] = ..., capacity_tokens_per_sec: _Optional[float] = ..., queue_depth: _Optional[int] = ..., sessions_free: _Optional[int] = ..., max_batch_size: _Optional[int] = ..., domains: _Optional[_Iterable[str]] = ..., online: _Optional[bool] = ..., local: _Optional[bool] = ..., resting: _Optional[bool] = ..., round_ms: _Optional[float] = ..., ping_ms: _Optional[float] = ..., expected_ms: _Optional[float] = ..., merit_nats: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class RegisterExpertRequest(_message.Message):
    __slots__ = ("expert_id", "model_name", "capacity_tokens_per_sec", "tokenizer", "vram_mb", "max_batch_size", "withdraw", "report_seconds")
    EXPERT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_TOKENS_PER_SEC_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    VRAM_MB_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    REPORT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    expert_id: str
    model_name: str
    capacity_tokens_per_sec: float
    tokenizer: str
    vram_mb: int
    max_batch_size: int
    withdraw: bool
    report_seconds: int
    def __init__(self, expert_id: _Optional[str] = ..., model_name: _Optional[str] = ..., capacity_tokens_per_sec: _Optional[float] = ..., tokenizer: _Optional[str] = ..., vram_mb: _Optional[int] = ..., max_batch_size: _Optional[int] = ..., withdraw: _Optional[bool] = ..., report_seconds: _Optional[int] = ...) -> None: ...

class RegisterExpertResponse(_message.Message):
    __slots__ = ("success", "message", "registered", "router_id", "model_name", "model_digest", "tokenizer", "capacity_tokens_per_sec", "max_batch_size", "sessions_free", "queue_depth", "health")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    ROUTER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_TOKENS_PER_SEC_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FREE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    registered: bool
    router_id: str
    model_name: str
    model_digest: bytes
    tokenizer: str
    capacity_tokens_per_sec: float
    max_batch_size: int
    sessions_free: int
    queue_depth: int
    health: Health
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., registered: _Optional[bool] = ..., router_id: _Optional[str] = ..., model_name: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., tokenizer: _Optional[str] = ..., capacity_tokens_per_sec: _Optional[float] = ..., max_batch_size: _Optional[int] = ..., sessions_free: _Optional[int] = ..., queue_depth: _Optional[int] = ..., health: _Optional[_Union[Health, str]] = ...) -> None: ...

class SubmitSelfTaskRequest(_message.Message):
    __slots__ = ("task_type", "task_description", "domain", "priority", "deadline_seconds", "follow")
    TASK_TYPE_FIELD_NUMBER: _ClassVar[int]
    TASK_DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    task_type: TaskType
    task_description: str
    domain: str
    priority: int
    deadline_seconds: int
    follow: bool
    def __init__(self, task_type: _Optional[_Union[TaskType, str]] = ..., task_description: _Optional[str] = ..., domain: _Optional[str] = ..., priority: _Optional[int] = ..., deadline_seconds: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class SubmitSelfTaskResponse(_message.Message):
    __slots__ = ("task_id", "accepted", "action_tier", "approval_status", "task_digest", "state", "domain", "step", "step_text", "cycle", "proposal_id", "result")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ACTION_TIER_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_STATUS_FIELD_NUMBER: _ClassVar[int]
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_TEXT_FIELD_NUMBER: _ClassVar[int]
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    accepted: bool
    action_tier: int
    approval_status: str
    task_digest: bytes
    state: str
    domain: str
    step: str
    step_text: str
    cycle: int
    proposal_id: bytes
    result: str
    def __init__(self, task_id: _Optional[str] = ..., accepted: _Optional[bool] = ..., action_tier: _Optional[int] = ..., approval_status: _Optional[str] = ..., task_digest: _Optional[bytes] = ..., state: _Optional[str] = ..., domain: _Optional[str] = ..., step: _Optional[str] = ..., step_text: _Optional[str] = ..., cycle: _Optional[int] = ..., proposal_id: _Optional[bytes] = ..., result: _Optional[str] = ...) -> None: ...

class HaltMeshRequest(_message.Message):
    __slots__ = ("requester_id", "reason", "records", "this_node_only", "wait_seconds")
    REQUESTER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    THIS_NODE_ONLY_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    requester_id: str
    reason: str
    records: _containers.RepeatedScalarFieldContainer[bytes]
    this_node_only: bool
    wait_seconds: float
    def __init__(self, requester_id: _Optional[str] = ..., reason: _Optional[str] = ..., records: _Optional[_Iterable[bytes]] = ..., this_node_only: _Optional[bool] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class HaltMeshResponse(_message.Message):
    __slots__ = ("halted", "reasons", "streams_stopped", "changes_reverted", "outcomes", "acknowledged_by", "peers_told", "peers_acknowledged", "elapsed_ms")
    HALTED_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_STOPPED_FIELD_NUMBER: _ClassVar[int]
    CHANGES_REVERTED_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_BY_FIELD_NUMBER: _ClassVar[int]
    PEERS_TOLD_FIELD_NUMBER: _ClassVar[int]
    PEERS_ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    halted: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    streams_stopped: int
    changes_reverted: int
    outcomes: _containers.RepeatedCompositeFieldContainer[RecordOutcome]
    acknowledged_by: str
    peers_told: int
    peers_acknowledged: int
    elapsed_ms: float
    def __init__(self, halted: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., streams_stopped: _Optional[int] = ..., changes_reverted: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[RecordOutcome, _Mapping]]] = ..., acknowledged_by: _Optional[str] = ..., peers_told: _Optional[int] = ..., peers_acknowledged: _Optional[int] = ..., elapsed_ms: _Optional[float] = ...) -> None: ...

class RecordOutcome(_message.Message):
    __slots__ = ("outcome", "reason")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[RecordOutcome.Outcome]
        OUTCOME_APPLIED: _ClassVar[RecordOutcome.Outcome]
        OUTCOME_KNOWN: _ClassVar[RecordOutcome.Outcome]
        OUTCOME_REFUSED: _ClassVar[RecordOutcome.Outcome]
    OUTCOME_UNSPECIFIED: RecordOutcome.Outcome
    OUTCOME_APPLIED: RecordOutcome.Outcome
    OUTCOME_KNOWN: RecordOutcome.Outcome
    OUTCOME_REFUSED: RecordOutcome.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    outcome: RecordOutcome.Outcome
    reason: str
    def __init__(self, outcome: _Optional[_Union[RecordOutcome.Outcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...
