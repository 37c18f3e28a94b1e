"""The table of metrics: each is declared here once, with its type, labels and meaning.

What is served at `/metrics`, docs/metrics.md and the checks of the dashboard are made of it. Names
are those of OpenTelemetry's conventions for generative models where one fits, and end in their
unit. Every label has a bounded number of values: nothing that a stranger or a user writes makes
another one, but for `model` (see `observer.MODELS_MAX`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True, eq=False)  # Each is a key, and there is one of each.
class Metric:
    """`buckets` are the upper bounds of a histogram's, rising; what is above the last is counted
    all the same."""

    name: str
    kind: Kind
    unit: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Those that OpenTelemetry's conventions advise for these names.
_FIRST_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_DURATION_S: Final = tuple(0.01 * 2**i for i in range(14))
_TOKENS: Final = tuple(float(4**i) for i in range(9))
_ROUND_S: Final = tuple(0.001 * 2**i for i in range(14))
_LAG_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

# --- answers of this node -------------------------------------------------------------------------

REQUESTS: Final = Metric(
    "swarmllm_requests_total",
    "counter",
    "requests",
    "Answers of this node that have ended. `outcome`: eos, stop, length, cancelled, halted, error.",
    ("outcome",),
)
TOKEN_USAGE: Final = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "tokens",
    "Tokens of each answer that has ended. `gen_ai_token_type`: input or output.",
    ("gen_ai_token_type",),
    _TOKENS,
)
FIRST_TOKEN: Final = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "seconds",
    "From the request, its prompt encoded, to its first token.",
    buckets=_FIRST_S,
)
PER_TOKEN: Final = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "seconds",
    "Mean time of a token after the first, of each answer that was neither halted nor failed.",
    buckets=_TOKEN_S,
)
DURATION: Final = Metric(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "seconds",
    "From the request, its prompt encoded, to its end.",
    buckets=_DURATION_S,
)
TOKENS: Final = Metric(
    "swarmllm_tokens_total", "counter", "tokens", "Tokens of all answers of this node."
)
ROUNDS: Final = Metric(
    "swarmllm_round_duration_seconds",
    "histogram",
    "seconds",
    "Rounds: experts were asked, and their lists pooled.",
    buckets=_ROUND_S,
)
FAILOVERS: Final = Metric(
    "swarmllm_failovers_total",
    "counter",
    "experts",
    "Experts that were lost in the middle of an answer, and replaced.",
)

DRAFTED: Final = Metric(
    "swarmllm_speculation_drafted_tokens_total",
    "counter",
    "tokens",
    "Tokens that were guessed, and asked about in advance.",
)
ACCEPTED: Final = Metric(
    "swarmllm_speculation_accepted_tokens_total",
    "counter",
    "tokens",
    "Those of them that came, and cost no round of their own.",
)

# --- the experts that were asked ------------------------------------------------------------------

ROUND_TRIP: Final = Metric(
    "swarmllm_expert_round_trip_seconds",
    "histogram",
    "seconds",
    "From a question to the reply of an expert elsewhere, by its model.",
    ("model",),
    _ROUND_S,
)
EXPERT_BYTES: Final = Metric(
    "swarmllm_expert_received_bytes_total",
    "counter",
    "bytes",
    "Replies of experts elsewhere, by their model.",
    ("model",),
)
REPLIES: Final = Metric(
    "swarmllm_expert_replies_total",
    "counter",
    "replies",
    "Replies by the expert's model, our own included. `use`: pooled, or late.",
    ("model", "use"),
)
REFUSED_US: Final = Metric(
    "swarmllm_refusals_received_total",
    "counter",
    "replies",
    "Experts that would not answer us. `reason`: busy, or what protocols/expert.md calls it.",
    ("reason",),
)

# --- our own expert -------------------------------------------------------------------------------

SERVED: Final = Metric(
    "swarmllm_rounds_served_total",
    "counter",
    "rounds",
    "Questions that our own expert has answered, for others and for this node.",
)
POSITIONS: Final = Metric(
    "swarmllm_positions_served_total",
    "counter",
    "lists",
    "Sparse lists in these answers.",
)
REFUSED_OTHERS: Final = Metric(
    "swarmllm_refusals_sent_total",
    "counter",
    "replies",
    "Questions of others that our expert would not answer.",
    ("reason",),
)
RESTARTS: Final = Metric(
    "swarmllm_worker_restarts_total",
    "counter",
    "restarts",
    "The model's worker process was lost and is up again.",
)
QUEUE: Final = Metric(
    "swarmllm_engine_queue", "gauge", "orders", "Questions that wait at our own engine."
)
SESSIONS: Final = Metric(
    "swarmllm_engine_sessions",
    "gauge",
    "sessions",
    "Places of our own engine. `state`: free or taken.",
    ("state",),
)
SPEED: Final = Metric(
    "swarmllm_engine_tokens_per_second",
    "gauge",
    "tokens/s",
    "What our own engine was last measured to decode, all sessions together.",
)

# --- the swarm ------------------------------------------------------------------------------------

EXPERTS: Final = Metric(
    "swarmllm_experts",
    "gauge",
    "experts",
    "Experts of this node's vocabulary. `state`: usable (can be asked now) or known.",
    ("state",),
)
PEERS_LOST: Final = Metric(
    "swarmllm_peers_lost_total", "counter", "peers", "Peers whose connection ended."
)
STRIKES: Final = Metric(
    "swarmllm_strikes_total", "counter", "strikes", "Breaches of the protocol by peers."
)
CONNECTIONS: Final = Metric(
    "swarmllm_connections",
    "gauge",
    "connections",
    "`kind`: dialled (by us), accepted, or guest (speaks other protocols only).",
    ("kind",),
)
CROWDING: Final = Metric(
    "swarmllm_connections_given_way_total",
    "counter",
    "connections",
    "Connections that ended for want of room, by the bound that was reached.",
    ("bound",),
)
GOSSIP: Final = Metric(
    "swarmllm_gossip_bytes_total",
    "counter",
    "bytes",
    "`kind`: records (GossipSub's frames) or capacity (records that two peers exchange)."
    " `direction`: sent or received.",
    ("kind", "direction"),
)
RELAY: Final = Metric(
    "swarmllm_relay",
    "gauge",
    "circuits",
    "What this relay lends now. `kind`: reservations or circuits.",
    ("kind",),
)
RELAY_REQUESTS: Final = Metric(
    "swarmllm_relay_requests_total",
    "counter",
    "circuits",
    "What this relay was asked for. `kind`: circuits_opened or requests_refused.",
    ("kind",),
)
RELAY_BYTES: Final = Metric(
    "swarmllm_relay_bytes_total", "counter", "bytes", "What this relay has carried, both ways."
)
PUNCHING: Final = Metric(
    "swarmllm_hole_punching_total",
    "counter",
    "connections",
    "Connections through a relay. `outcome`: tried (a peer reached us so), punched, no_hole,"
    " asked_to (by a peer that we reached so), punched_when_asked, or moved (a direct one took its"
    " place).",
    ("outcome",),
)
RECORDS: Final = Metric(
    "swarmllm_capacity_records_rejected_total",
    "counter",
    "records",
    "`reason`: dropped (came too fast) or refused (malformed, badly signed, contradictory).",
    ("reason",),
)

# --- the node -------------------------------------------------------------------------------------

OPEN: Final = Metric(
    "swarmllm_answers_open", "gauge", "answers", "Answers that this node is writing."
)
SERVED_OPEN: Final = Metric(
    "swarmllm_rounds_served_open", "gauge", "rounds", "Questions that our expert is at, or holds."
)
HALTED: Final = Metric("swarmllm_halted", "gauge", "", "1 while no token may be made here.")
HALTS: Final = Metric(
    "swarmllm_halts_total", "counter", "halts", "Times that this node was halted, by its owner too."
)
LAG: Final = Metric(
    "swarmllm_event_loop_lag_seconds",
    "histogram",
    "seconds",
    "How much later than due a timer of the event loop fired, ten times a second.",
    buckets=_LAG_S,
)
LEDGER: Final = Metric("swarmllm_ledger_entries", "gauge", "entries", "Entries of our ledger.")
ALARMS: Final = Metric(
    "swarmllm_ledger_alarms",
    "gauge",
    "alarms",
    "Ledgers of others that this node found changed, and its owner has not looked at.",
)
SAVES: Final = Metric(
    "swarmllm_saves_failed_total", "counter", "values", "Values that the disk did not take."
)
UPTIME: Final = Metric("swarmllm_uptime_seconds", "gauge", "seconds", "Since this node started.")
HTTP: Final = Metric(
    "swarmllm_http_responses_total",
    "counter",
    "responses",
    "Of the HTTP API. `route`: one of its routes, or other; `status`: the code.",
    ("route", "status"),
)
HTTP_OPEN: Final = Metric(
    "swarmllm_http_requests_open", "gauge", "requests", "Requests that the HTTP API is at."
)

METRICS: Final[tuple[Metric, ...]] = (
    *(
        REQUESTS,
        TOKENS,
        TOKEN_USAGE,
        FIRST_TOKEN,
        PER_TOKEN,
        DURATION,
        ROUNDS,
        FAILOVERS,
        DRAFTED,
        ACCEPTED,
    ),
    *(ROUND_TRIP, EXPERT_BYTES, REPLIES, REFUSED_US),
    *(SERVED, POSITIONS, REFUSED_OTHERS, RESTARTS, QUEUE, SESSIONS, SPEED),
    *(EXPERTS, PEERS_LOST, STRIKES, CONNECTIONS, CROWDING, GOSSIP, RECORDS),
    *(RELAY, RELAY_REQUESTS, RELAY_BYTES, PUNCHING),
    *(OPEN, SERVED_OPEN, HALTED, HALTS, LAG, LEDGER, ALARMS, SAVES, UPTIME, HTTP, HTTP_OPEN),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}
