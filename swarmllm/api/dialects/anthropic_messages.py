"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from swarmllm.api.asked import MAX_TOKENS, Asked, Sse, swarm_usage
from swarmllm.api.body import EITHER, PARTS, TEXT, WHOLE, Body, Loose, Sampled, read
from swarmllm.api.choice import (
    ArgumentsDelta,
    CallDelta,
    Choice,
    Delta,
    FinishDelta,
    TextDelta,
    ThoughtDelta,
    arguments_of,
)
from swarmllm.api.conversation import (
    MESSAGES_MAX,
    Message,
    Said,
    TextPart,
    call_text,
    grammar_of,
    joined,
    offered,
    result_text,
    text_of,
)
from swarmllm.api.problem import Problem, as_anthropic, invalid
from swarmllm.core.chat import SYSTEM
from swarmllm.core.tool_calls import TOOL_NAME
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.stop_strings import STOP_CHARS_MAX, STOPS_MAX

_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


ToolName = Annotated[str, Field(pattern=f"^{TOOL_NAME}$")]
Texts = Annotated[Annotated[str, TEXT] | Annotated[list[TextPart], PARTS], EITHER]


class UseBlock(Loose):
    type: Literal["tool_use"]
    name: str
    input: dict[str, Any]

    @property
    def said(self) -> str:
        return call_text(self.name, self.input)


class ResultBlock(Loose):
    type: Literal["tool_result"]
    content: Texts | None = None

    @property
    def said(self) -> str:
        return result_text(text_of(self.content))


class ThinkingBlock(Loose):
    type: Literal["thinking", "redacted_thinking"]

    @property
    def said(self) -> str:
        return ""  # Earlier thinking is not shown to a model again.


Block = Annotated[TextPart | UseBlock | ResultBlock | ThinkingBlock, Field(discriminator="type")]


class Turn(Loose):
    role: Literal["user", "assistant", "system"]
    content: Annotated[Annotated[str, TEXT] | Annotated[list[Block], PARTS], EITHER]

    def message(self) -> Message:
        blocks = [self.content] if isinstance(self.content, str) else map(_said, self.content)
        return {"role": self.role, "content": "\n".join(filter(None, blocks))}


def _said(block: Said) -> str:
    return block.said


class MessagesTool(Body):
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    cache_control: dict[str, Any] | None = None


class MessagesToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Body):
    type: Literal["disabled"]


class CountBody(Body):
    model: str
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MESSAGES_MAX)]
    system: Texts | None = None
    tools: Annotated[list[MessagesTool], Field(max_length=128)] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: Thinking | None = None

    unserved: ClassVar[dict[str, str]] = {
        "mcp_servers": "cannot be served: no other server is asked",
        "container": "cannot be served: nothing is run",
        "context_management": "cannot be served",
    }

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and not (self.tool_choice and self.tool_choice.type == "none")

    def conversation(self) -> list[Message]:
        system = text_of(self.system)
        first = [{"role": SYSTEM, "content": system}] if system else []
        shown = [
            {"name": one.name, "description": one.description or "", "parameters": one.input_schema}
            for one in self.tools or ()
        ]
        return joined(
            [*first, *(one.message() for one in self.messages)],
            offered(shown) if self.offers_tools else "",
        )

    def grammar(self) -> dict[str, str] | None:
        choice = self.tool_choice
        if not self.offers_tools:
            if choice is not None and choice.type in {"any", "tool"}:
                raise invalid("tool_choice", "needs tools")
            return None
        tools = [{"name": one.name, "parameters": one.input_schema} for one in self.tools or ()]
        wanted = {"auto": "auto", "any": "required", "tool": (choice and choice.name) or ""}
        return grammar_of(
            tools,
            wanted[choice.type] if choice else "auto",
            is_parallel=not (choice and choice.disable_parallel_tool_use),
        )


class MessagesBody(CountBody, Sampled):
    max_tokens: Annotated[int, Field(ge=1), WHOLE]
    stop_sequences: (
        Annotated[
            list[Annotated[str, Field(max_length=STOP_CHARS_MAX)]], Field(max_length=STOPS_MAX)
        ]
        | None
    ) = None

    harmless: ClassVar[frozenset[str]] = frozenset(("metadata", "service_tier", "inference_geo"))

    def question(self) -> dict[str, Any]:
        found: dict[str, Any] = self.drawing() | {
            "messages": self.conversation(),
            "max_tokens": min(self.max_tokens, MAX_TOKENS),
            "clamp": True,
            "stop": [stop for stop in self.stop_sequences or () if stop],
        }
        if (grammar := self.grammar()) is not None:
            found["grammar"] = grammar
        return found


class MessagesDialect:
    def __init__(self, found: dict[str, Any], head: dict[str, Any]) -> None:
        """Problem for a body that cannot be served."""
        body = read(MessagesBody, found)
        self._head: Final = {
            "id": f"msg_{str(head['id']).rpartition('-')[2]}",
            "type": "message",
            "role": "assistant",
            "model": head["model"],
            "container": None,
        }
        self._block: int | None = None
        self._blocks = 0
        self._is_thought = False  # The open block.
        self._shows_thoughts = body.thinking is None
        self.asked = Asked((body.question(),), bool(body.stream), body.offers_tools)

    def begin(self, choices: Sequence[Choice]) -> list[Sse]:
        usage = _usage(choices[0]) | {"output_tokens": 0}
        more: dict[str, Any] = _ended() | {"content": [], "usage": usage}
        return [_event("message_start", message=self._head | more)]

    def push(self, choice: Choice, record: Record, deltas: Sequence[Delta]) -> list[Sse]:
        found: list[Sse] = []
        for delta in deltas:
            match delta:
                case ThoughtDelta(text, _):
                    if self._shows_thoughts and self._block is None:
                        found += self._open(_thought(""))
                        self._is_thought = True
                    if self._shows_thoughts:
                        found.append(self._delta({"type": "thinking_delta", "thinking": text}))
                case TextDelta(text, _):
                    if text and self._is_thought:
                        found += self._close()
                    if text and self._block is None:
                        found += self._open(_text(""))
                    if text:
                        found.append(self._delta({"type": "text_delta", "text": text}))
                case CallDelta(_, id, name):
                    found += self._close()
                    found += self._open(_tool_use(id, name, {}))
                case ArgumentsDelta(_, text):
                    found.append(self._delta({"type": "input_json_delta", "partial_json": text}))
                case FinishDelta(_):
                    found += self._close()
        return found

    def _open(self, block: dict[str, Any]) -> list[Sse]:
        self._block, self._blocks = self._blocks, self._blocks + 1
        return [_event("content_block_start", index=self._block, content_block=block)]

    def _delta(self, delta: dict[str, Any]) -> Sse:
        return _event("content_block_delta", index=self._block, delta=delta)

    def _close(self) -> list[Sse]:
        if self._block is None:
            return []
        index, self._block = self._block, None
        found = [_event("content_block_stop", index=index)]
        if self._is_thought:  # Nobody checks it; clients wait for it.
            self._is_thought = False
            signed = {"type": "signature_delta", "signature": ""}
            return [_event("content_block_delta", index=index, delta=signed), *found]
        return found

    def end(self, choices: Sequence[Choice]) -> list[Sse]:
        delta = self._reason(choices[0])
        return [
            _event("message_delta", delta=delta, usage=_usage(choices[0])),
            _event("message_stop"),
        ]

    def _reason(self, choice: Choice) -> dict[str, Any]:
        # A template without an end of turn has stop strings of its own.
        if choice.stop in self.asked.questions[0]["stop"]:
            return _ended("stop_sequence", choice.stop)
        return _ended(_REASONS[choice.finish or "stop"])

    def fail(self, problem: Problem) -> list[Sse]:
        return [Sse(as_anthropic(problem), "error")]

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        choice = choices[0]
        content: list[dict[str, Any]] = []
        if choice.thinking and self._shows_thoughts:
            content.append(_thought(choice.thinking))
        if choice.text or not choice.calls:
            content.append(_text(choice.text))
        content += (_tool_use(call.id, call.name, arguments_of(call)) for call in choice.calls)
        more = {"content": content, "usage": _usage(choice)}
        return self._head | self._reason(choice) | more


def _ended(reason: str | None = None, stop: str | None = None) -> dict[str, Any]:
    return {"stop_reason": reason, "stop_sequence": stop, "stop_details": None}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _thought(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": ""}


def _tool_use(id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    id = "toolu_" + id.removeprefix("call_")
    call = {"type": "tool_use", "id": id, "name": name, "input": arguments}
    return call | {"caller": {"type": "direct"}}


def _usage(choice: Choice) -> dict[str, Any]:
    return {
        "input_tokens": choice.prompt_tokens,
        "output_tokens": choice.tokens,
        "cache_creation": None,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "inference_geo": None,
        "output_tokens_details": {"thinking_tokens": choice.thought_tokens}
        if choice.thinks
        else None,
        "server_tool_use": None,
        "service_tier": None,
        "swarm": swarm_usage([choice]),
    }


def _event(kind: str, **more: Any) -> Sse:
    return Sse({"type": kind, **more}, kind)
