"""The table of endpoints: what each takes and gives, and how it can fail. `routes` answers exactly
these, `openapi` tells of them, and the table in docs/api.md is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from swarmllm.api.body import Body
from swarmllm.api.dialects.anthropic_messages import CountBody, MessagesBody
from swarmllm.api.dialects.openai_chat import ChatBody
from swarmllm.api.dialects.openai_completions import CompletionBody
from swarmllm.api.dialects.openai_responses import ResponsesBody
from swarmllm.api.voting import ProposeBody, SignedBody, VoteBody

_ASKED: Final = (401, 403, 429)  # Before any route: `guard`.
_SENT: Final = (400, *_ASKED, 408, 413, 415)  # With a body.
_TEXT: Final = (*_SENT, 404, 503)
_HELLO: Final = [{"role": "user", "content": "Hello!"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`reply` is one of `shapes.SHAPES`; `events` says what comes instead with `"stream": true`.
    `name`: of the operation. `is_open`: asks for no key."""

    method: Literal["GET", "POST"] = "GET"
    path: str
    name: str
    says: str
    reply: str
    statuses: tuple[int, ...] = _ASKED
    body: type[Body] | None = None
    example: dict[str, Any] = field(default_factory=dict)
    events: str = ""
    is_open: bool = False
    needs_token: bool = False


def _read(op: str, says: str, *more: int) -> Endpoint:
    return Endpoint(
        path=f"/api/{op}", name=op, says=says, reply="Record", statuses=(*_ASKED, *more)
    )


def _change(op: str, says: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/api/{op}",
        name=op,
        says=says,
        reply="Records",
        statuses=(*_SENT, 503),
        needs_token=True,
    )


def _signed(op: str, says: str, body: type[SignedBody], example: dict[str, Any]) -> Endpoint:
    """A change that a key of a voter signs."""
    example = example | {"key": "0b" * 16, "passphrase": "four good words"}
    return replace(_change(op, says), reply="Record", body=body, example=example)


ENDPOINTS: Final = (
    Endpoint(
        path="/v1/models",
        name="models",
        says="the models, with the least context of the experts that may be asked",
        reply="ModelList",
    ),
    Endpoint(
        path="/v1/models/{id}",
        name="model",
        says="one of them",
        reply="Model",
        statuses=(*_ASKED, 404),
    ),
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        name="chat",
        says='a conversation is answered; streamed with `"stream": true`',
        reply="ChatCompletion",
        statuses=_TEXT,
        body=ChatBody,
        example={"model": "swarm", "messages": _HELLO, "max_tokens": 100},
        events="Chunks (`chat.completion.chunk`), then `[DONE]`; or an `error`, and no `[DONE]`.",
    ),
    Endpoint(
        method="POST",
        path="/v1/completions",
        name="complete",
        says="texts or token ids are continued",
        reply="Completion",
        statuses=_TEXT,
        body=CompletionBody,
        example={"model": "swarm", "prompt": "Once upon a time", "max_tokens": 16},
        events="Chunks (`text_completion`), then `[DONE]`; or an `error`, and no `[DONE]`.",
    ),
    Endpoint(
        method="POST",
        path="/v1/responses",
        name="respond",
        says="the stateless part: text or items in, events out; nothing is kept",
        reply="ResponseObject",
        statuses=_TEXT,
        body=ResponsesBody,
        example={"model": "swarm", "input": "Hello!", "max_output_tokens": 100},
        events="From `response.created` to `response.completed`, `.incomplete` or `.failed`.",
    ),
    Endpoint(
        method="POST",
        path="/v1/messages",
        name="message",
        says="Anthropic's shape",
        reply="MessageObject",
        statuses=_TEXT,
        body=MessagesBody,
        example={"model": "swarm", "messages": _HELLO, "max_tokens": 100},
        events="From `message_start` to `message_stop`, or an `error`.",
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/count_tokens",
        name="count",
        says="tokens are counted by the model's own template and tokenizer",
        reply="TokenCount",
        statuses=_TEXT,
        body=CountBody,
        example={"model": "swarm", "messages": _HELLO},
    ),
    Endpoint(
        path="/health",
        name="health",
        says="this process lives; asks for no key",
        reply="State",
        statuses=(403,),
        is_open=True,
    ),
    Endpoint(
        path="/ready",
        name="ready",
        says="one real token was made in the last five seconds; 503 with the reason otherwise",
        reply="State",
        statuses=(*_ASKED, 503),
    ),
    Endpoint(path="/openapi.json", name="openapi", says="this API as a file", reply="Record"),
    _read("status", "the node's state"),
    _read("experts", "the experts that it knows"),
    _read("audits", "what its audits of experts have found"),
    Endpoint(
        path="/api/receipts/{name}",
        name="receipt",
        says="what the experts of an answer have signed, as `swarmllm verify` reads it",
        reply="Record",
        statuses=(*_ASKED, 404, 503),
    ),
    _read("settings", "the settings that the swarm can change"),
    _read("halt_status", "the kill switch", 503),
    _read("governance", "who votes, and what the charter says of it", 503),
    _read("proposals", "what is voted on", 503),
    _read("agent_status", "the self-improvement agent", 503),
    _change("stop_here", "this node stops generating"),
    _change("start_here", "this node generates again"),
    _change("halt_publish", "signed orders are brought to the swarm"),
    _change("shutdown", "this node ends"),
    _change("submit", "proposals and votes that were signed elsewhere are handed in"),
    _signed(
        "vote",
        "a key of the node's data folder votes on a proposal; on this machine alone",
        VoteBody,
        {"id": "0a" * 32, "yes": True},
    ),
    _signed(
        "propose",
        "a key of the node's data folder proposes to set a setting; on this machine alone",
        ProposeBody,
        {"setting": "router.hedging_extra", "value": 3, "why": "rounds wait for one expert"},
    ),
)

READS: Final = frozenset(
    one.name for one in ENDPOINTS if one.method == "GET" and one.path == f"/api/{one.name}"
)
CHANGES: Final = frozenset(one.name for one in ENDPOINTS if one.needs_token and one.body is None)
"""Those that the service does as they are asked for."""
SIGNED: Final = frozenset(one.name for one in ENDPOINTS if one.needs_token and one.body)
