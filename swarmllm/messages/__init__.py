"""Every message between peers, as frozen values; one module for each document in `protocols/`.

`wire.codec` turns each into one msgpack array `[type, field, ...]` and back; the bounds that stand
in the annotations here are what it enforces, so that nothing above the wire ever sees a value out
of range. The documents in `protocols/` say what the messages mean.
"""

from swarmllm.messages import governance as governance
from swarmllm.messages import membership as membership
from swarmllm.messages.bounds import (
    CONTEXT_MAX as CONTEXT_MAX,
)
from swarmllm.messages.bounds import (
    EXT_MAX as EXT_MAX,
)
from swarmllm.messages.bounds import (
    FRAME_MAX as FRAME_MAX,
)
from swarmllm.messages.bounds import (
    NO_HALT_DIGEST as NO_HALT_DIGEST,
)
from swarmllm.messages.bounds import (
    U32 as U32,
)
from swarmllm.messages.bounds import (
    U63 as U63,
)
from swarmllm.messages.bounds import (
    VOCABULARY_MAX as VOCABULARY_MAX,
)
from swarmllm.messages.bounds import (
    Digest as Digest,
)
from swarmllm.messages.bounds import (
    Ext as Ext,
)
from swarmllm.messages.bounds import (
    PeerId as PeerId,
)
from swarmllm.messages.bounds import (
    Position as Position,
)
from swarmllm.messages.bounds import (
    Range as Range,
)
from swarmllm.messages.bounds import (
    ShortHash as ShortHash,
)
from swarmllm.messages.bounds import (
    Size as Size,
)
from swarmllm.messages.bounds import (
    Token as Token,
)
from swarmllm.messages.bounds import (
    rising as rising,
)
from swarmllm.messages.bounds import (
    rising_below as rising_below,
)
from swarmllm.messages.capacity import (
    AGE_MAX as AGE_MAX,
)
from swarmllm.messages.capacity import (
    EXPERT_RECORD_MAX as EXPERT_RECORD_MAX,
)
from swarmllm.messages.capacity import (
    RECORD_ADDR_MAX as RECORD_ADDR_MAX,
)
from swarmllm.messages.capacity import (
    RECORD_ADDRS_MAX as RECORD_ADDRS_MAX,
)
from swarmllm.messages.capacity import (
    RECORD_MAX as RECORD_MAX,
)
from swarmllm.messages.capacity import (
    SHUFFLE_RECORDS_MAX as SHUFFLE_RECORDS_MAX,
)
from swarmllm.messages.capacity import (
    Age as Age,
)
from swarmllm.messages.capacity import (
    CapacityRecord as CapacityRecord,
)
from swarmllm.messages.capacity import (
    Domain as Domain,
)
from swarmllm.messages.capacity import (
    Envelope as Envelope,
)
from swarmllm.messages.capacity import (
    ExpertRecord as ExpertRecord,
)
from swarmllm.messages.capacity import (
    Name as Name,
)
from swarmllm.messages.capacity import (
    Sealed as Sealed,
)
from swarmllm.messages.capacity import (
    Shuffle as Shuffle,
)
from swarmllm.messages.capacity import (
    Shuffled as Shuffled,
)
from swarmllm.messages.declare import (
    ANSWERER as ANSWERER,
)
from swarmllm.messages.declare import (
    ASKER as ASKER,
)
from swarmllm.messages.declare import (
    BOTH as BOTH,
)
from swarmllm.messages.declare import (
    DECLARED as DECLARED,
)
from swarmllm.messages.declare import (
    EXPERT as EXPERT,
)
from swarmllm.messages.declare import (
    GOV as GOV,
)
from swarmllm.messages.declare import (
    HALT as HALT,
)
from swarmllm.messages.declare import (
    LEDGER as LEDGER,
)
from swarmllm.messages.declare import (
    Declaration as Declaration,
)
from swarmllm.messages.declare import (
    kinds_on as kinds_on,
)
from swarmllm.messages.declare import (
    message as message,
)
from swarmllm.messages.expert import (
    ANSWER_ENTRIES_MAX as ANSWER_ENTRIES_MAX,
)
from swarmllm.messages.expert import (
    ANSWERS_MAX as ANSWERS_MAX,
)
from swarmllm.messages.expert import (
    ENTRIES_MAX as ENTRIES_MAX,
)
from swarmllm.messages.expert import (
    REFUSED_CONTEXT as REFUSED_CONTEXT,
)
from swarmllm.messages.expert import (
    REFUSED_ENGINE as REFUSED_ENGINE,
)
from swarmllm.messages.expert import (
    REFUSED_MODEL as REFUSED_MODEL,
)
from swarmllm.messages.expert import (
    REFUSED_OUTPUT as REFUSED_OUTPUT,
)
from swarmllm.messages.expert import (
    REFUSED_SESSION as REFUSED_SESSION,
)
from swarmllm.messages.expert import (
    REFUSED_UNSETTLED as REFUSED_UNSETTLED,
)
from swarmllm.messages.expert import (
    REFUSED_VOCABULARY as REFUSED_VOCABULARY,
)
from swarmllm.messages.expert import (
    SESSION_SEALED_MAX as SESSION_SEALED_MAX,
)
from swarmllm.messages.expert import (
    STEPS_MAX as STEPS_MAX,
)
from swarmllm.messages.expert import (
    TOKENS_MAX as TOKENS_MAX,
)
from swarmllm.messages.expert import (
    Busy as Busy,
)
from swarmllm.messages.expert import (
    Close as Close,
)
from swarmllm.messages.expert import (
    ExpertMessage as ExpertMessage,
)
from swarmllm.messages.expert import (
    ExpertReply as ExpertReply,
)
from swarmllm.messages.expert import (
    ExpertRequest as ExpertRequest,
)
from swarmllm.messages.expert import (
    Halted as Halted,
)
from swarmllm.messages.expert import (
    Need as Need,
)
from swarmllm.messages.expert import (
    Open as Open,
)
from swarmllm.messages.expert import (
    Ping as Ping,
)
from swarmllm.messages.expert import (
    Pong as Pong,
)
from swarmllm.messages.expert import (
    Refused as Refused,
)
from swarmllm.messages.expert import (
    Score as Score,
)
from swarmllm.messages.expert import (
    ScoreAllowed as ScoreAllowed,
)
from swarmllm.messages.expert import (
    ScoreDraft as ScoreDraft,
)
from swarmllm.messages.expert import (
    Scores as Scores,
)
from swarmllm.messages.expert import (
    SessionRecord as SessionRecord,
)
from swarmllm.messages.expert import (
    SessionSigned as SessionSigned,
)
from swarmllm.messages.expert import (
    SignSession as SignSession,
)
from swarmllm.messages.expert import (
    StreamMessage as StreamMessage,
)
from swarmllm.messages.goodbye import GOODBYES as GOODBYES
from swarmllm.messages.goodbye import Goodbye as Goodbye
from swarmllm.messages.halt import (
    BEACON_TTL_MAX_S as BEACON_TTL_MAX_S,
)
from swarmllm.messages.halt import (
    CHARTER_RECORD_MAX as CHARTER_RECORD_MAX,
)
from swarmllm.messages.halt import (
    HALT_FRAME_MAX as HALT_FRAME_MAX,
)
from swarmllm.messages.halt import (
    HALT_REASONS as HALT_REASONS,
)
from swarmllm.messages.halt import (
    HALT_RECORD_MAX as HALT_RECORD_MAX,
)
from swarmllm.messages.halt import (
    KEY_ID_BYTES as KEY_ID_BYTES,
)
from swarmllm.messages.halt import (
    LIFT_BASE_MAX as LIFT_BASE_MAX,
)
from swarmllm.messages.halt import (
    RECORDS_MAX as RECORDS_MAX,
)
from swarmllm.messages.halt import (
    REVERT_MAX as REVERT_MAX,
)
from swarmllm.messages.halt import (
    ROLE_KEYS_MAX as ROLE_KEYS_MAX,
)
from swarmllm.messages.halt import (
    SEQ_MAX as SEQ_MAX,
)
from swarmllm.messages.halt import (
    SIGNATURE_BYTES as SIGNATURE_BYTES,
)
from swarmllm.messages.halt import (
    SIGNERS_MAX as SIGNERS_MAX,
)
from swarmllm.messages.halt import (
    THRESHOLD_MAX as THRESHOLD_MAX,
)
from swarmllm.messages.halt import (
    Ack as Ack,
)
from swarmllm.messages.halt import (
    Charter as Charter,
)
from swarmllm.messages.halt import (
    Halt as Halt,
)
from swarmllm.messages.halt import (
    HaltDigest as HaltDigest,
)
from swarmllm.messages.halt import (
    HaltFrame as HaltFrame,
)
from swarmllm.messages.halt import (
    HaltRecord as HaltRecord,
)
from swarmllm.messages.halt import (
    KeyId as KeyId,
)
from swarmllm.messages.halt import (
    Live as Live,
)
from swarmllm.messages.halt import (
    Mark as Mark,
)
from swarmllm.messages.halt import (
    PublicKey as PublicKey,
)
from swarmllm.messages.halt import (
    Records as Records,
)
from swarmllm.messages.halt import (
    Resume as Resume,
)
from swarmllm.messages.halt import (
    Seq as Seq,
)
from swarmllm.messages.halt import (
    Signature as Signature,
)
from swarmllm.messages.halt import (
    Signed as Signed,
)
from swarmllm.messages.halt import (
    Vectors as Vectors,
)
from swarmllm.messages.halt import (
    Version as Version,
)
from swarmllm.messages.halt import (
    reason_name as reason_name,
)
from swarmllm.messages.invite import Invite as Invite
from swarmllm.messages.ledger import (
    ALARM_FORKED as ALARM_FORKED,
)
from swarmllm.messages.ledger import (
    ALARM_SHRANK as ALARM_SHRANK,
)
from swarmllm.messages.ledger import (
    ALARM_UNPROVEN as ALARM_UNPROVEN,
)
from swarmllm.messages.ledger import (
    ALARMS as ALARMS,
)
from swarmllm.messages.ledger import (
    LEDGER_FRAME_MAX as LEDGER_FRAME_MAX,
)
from swarmllm.messages.ledger import (
    LOG_SIZE_MAX as LOG_SIZE_MAX,
)
from swarmllm.messages.ledger import (
    NOTE_MAX as NOTE_MAX,
)
from swarmllm.messages.ledger import (
    PAYLOAD_MAX as PAYLOAD_MAX,
)
from swarmllm.messages.ledger import (
    PROOF_HASHES_MAX as PROOF_HASHES_MAX,
)
from swarmllm.messages.ledger import (
    AgentStep as AgentStep,
)
from swarmllm.messages.ledger import (
    AlarmAcknowledged as AlarmAcknowledged,
)
from swarmllm.messages.ledger import (
    ExpertExcluded as ExpertExcluded,
)
from swarmllm.messages.ledger import (
    HaltedHere as HaltedHere,
)
from swarmllm.messages.ledger import (
    LedgerAlarm as LedgerAlarm,
)
from swarmllm.messages.ledger import (
    LedgerCosigned as LedgerCosigned,
)
from swarmllm.messages.ledger import (
    LedgerFork as LedgerFork,
)
from swarmllm.messages.ledger import (
    LedgerFrame as LedgerFrame,
)
from swarmllm.messages.ledger import (
    LedgerHead as LedgerHead,
)
from swarmllm.messages.ledger import (
    LedgerLeaf as LedgerLeaf,
)
from swarmllm.messages.ledger import (
    LedgerProof as LedgerProof,
)
from swarmllm.messages.ledger import (
    LedgerProofWanted as LedgerProofWanted,
)
from swarmllm.messages.ledger import (
    OwnerCommand as OwnerCommand,
)
from swarmllm.messages.ledger import (
    ResumedHere as ResumedHere,
)
from swarmllm.messages.tokenizer import (
    PART_BYTES as PART_BYTES,
)
from swarmllm.messages.tokenizer import (
    SEALED_MAX as SEALED_MAX,
)
from swarmllm.messages.tokenizer import (
    TOKENIZER_FRAME_MAX as TOKENIZER_FRAME_MAX,
)
from swarmllm.messages.tokenizer import (
    TokenizerBusy as TokenizerBusy,
)
from swarmllm.messages.tokenizer import (
    TokenizerFrame as TokenizerFrame,
)
from swarmllm.messages.tokenizer import (
    TokenizerPart as TokenizerPart,
)
from swarmllm.messages.tokenizer import (
    TokenizerWanted as TokenizerWanted,
)
