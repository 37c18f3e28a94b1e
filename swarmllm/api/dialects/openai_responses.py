"""The stateless part of OpenAI's `/v1/responses`: what current clients use of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag

from swarmllm.api.asked import MAX_TOKENS, Asked, Sse, swarm_usage
from swarmllm.api.body import EITHER, PARTS, TEXT, WHOLE, Body, Format, Loose, Sampled, read
from swarmllm.api.choice import (
    ArgumentsDelta,
    CallDelta,
    Choice,
    Delta,
    FinishDelta,
    TextDelta,
    ThoughtDelta,
)
from swarmllm.api.conversation import (
    MESSAGES_MAX,
    Message,
    RefusalPart,
    call_text,
    grammar_of,
    joined,
    offered,
    result_text,
    text_of,
)
from swarmllm.api.dialects.openai_fields import HARMLESS, ToolName
from swarmllm.api.problem import Problem, invalid, refused
from swarmllm.core.chat import ASSISTANT, SYSTEM, USER
from swarmllm.core.values import USUAL_SAMPLING
from swarmllm.runtime.service.record import Record

# The items that are a text, with the beginning of the names of their events.
_TEXTS: Final = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
_ROLES: Final = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ASSISTANT}


class ItemText(Loose):
    type: Literal["input_text", "output_text", "text"]
    text: str

    @property
    def said(self) -> str:
        return self.text


ItemPart = Annotated[ItemText | RefusalPart, Field(discriminator="type")]
ItemContent = Annotated[Annotated[str, TEXT] | Annotated[list[ItemPart], PARTS], EITHER]


class MessageItem(Loose):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: ItemContent | None = None


class CallItem(Loose):
    type: Literal["function_call"]
    name: str
    arguments: str | dict[str, Any] | None = None


class OutputItem(Loose):
    type: Literal["function_call_output"]
    output: ItemContent | None = None


class ReasoningItem(Loose):
    type: Literal["reasoning"]


def _type(item: object) -> str:
    return str(item.get("type") or "message") if isinstance(item, dict) else "message"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_type),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=MESSAGES_MAX)]


class ResponsesTool(Body):
    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedResponsesTool(Body):
    type: Literal["function"]
    name: ToolName


class TextFields(Body):
    format: Format | None = None

    unserved: ClassVar[dict[str, str]] = {"verbosity": "cannot be served"}


class Reasoning(Body):
    """What clients send that know of it: nothing of it is wanted."""

    effort: Literal["none"] | None = None

    harmless: ClassVar[frozenset[str]] = frozenset(("summary", "generate_summary", "context"))


class ResponsesBody(Sampled):
    input: Annotated[Annotated[str, TEXT] | Annotated[Items, PARTS], EITHER]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1), WHOLE] | None = None
    text: TextFields | None = None
    tools: Annotated[list[ResponsesTool], Field(max_length=128)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], TEXT]
            | Annotated[NamedResponsesTool, PARTS],
            EITHER,
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    truncation: Literal["disabled"] | None = None
    background: Annotated[bool, Field(json_schema_extra={"const": False})] | None = None

    harmless: ClassVar[frozenset[str]] = HARMLESS | {"stream_options", "client_metadata"}
    unserved: ClassVar[dict[str, str]] = {
        "previous_response_id": "cannot be served: nothing is kept; send the whole input",
        "conversation": "cannot be served: nothing is kept; send the whole input",
        "prompt": "cannot be served: no prompts are kept here",
        "max_tool_calls": "cannot be served",
        "top_logprobs": "cannot be served here; /v1/chat/completions has it",
    }

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def question(self) -> dict[str, Any]:
        if self.background:
            raise refused("background", "cannot be served: nothing is kept")
        first = [{"role": SYSTEM, "content": self.instructions}] if self.instructions else []
        tools = [
            tool.model_dump(exclude={"type", "strict"}, exclude_none=True)
            for tool in self.tools or ()
        ]
        offer = offered(tools) if self.offers_tools else ""
        messages = joined([*first, *_messages(self.input)], offer)
        if not messages:
            raise invalid("input", "has nothing that could be answered")
        found: dict[str, Any] = self.drawing() | {
            "messages": messages,
            "max_tokens": min(self.max_output_tokens or MAX_TOKENS, MAX_TOKENS),
            "clamp": True,
        }
        form = self.text and self.text.format
        if self.offers_tools:
            is_parallel = self.parallel_tool_calls is not False
            schema = form.schema_of("text.format") if form else None
            found["grammar"] = grammar_of(
                tools, self._choice(), is_parallel=is_parallel, form=schema
            )
        elif self.tool_choice not in ("none", "auto", None):
            raise invalid("tool_choice", "needs tools")
        elif form and (grammar := form.grammar("text.format")):
            found["grammar"] = grammar
        return found

    @property
    def has_form(self) -> bool:
        form = self.text.format if self.text else None
        return self._choice() == "auto" and form is not None and form.type != "text"

    def _choice(self) -> str:
        match self.tool_choice:
            case NamedResponsesTool(name=name):
                return name
            case word:
                return word or "auto"


def _messages(found: str | list[Item]) -> list[Message]:
    if isinstance(found, str):
        return [{"role": USER, "content": found}]
    return [message for one in found for message in _item(one)]


def _item(item: Item) -> list[Message]:
    match item:
        case CallItem():
            return [{"role": ASSISTANT, "content": call_text(item.name, item.arguments)}]
        case OutputItem():
            return [{"role": USER, "content": result_text(text_of(item.output))}]
        case ReasoningItem():
            return []  # Earlier thinking is not shown to a model again.
        case MessageItem():
            return [{"role": _ROLES[item.role], "content": text_of(item.content)}]


class ResponsesDialect:
    def __init__(self, found: dict[str, Any], head: dict[str, Any]) -> None:
        """Problem for a body that cannot be served."""
        self._body = body = read(ResponsesBody, found)
        self._key = str(head["id"]).rpartition("-")[2]
        self._created = head["created"]
        self._number = -1  # Of the last event.
        self._items: list[dict[str, Any]] = []
        self._message: int | None = None  # The open one.
        self.asked = Asked((body.question(),), bool(body.stream), body.offers_tools, body.has_form)

    # --- streamed -----------------------------------------------------------------------------

    def begin(self, choices: Sequence[Choice]) -> list[Sse]:
        begun = self._response("in_progress", [])
        return [
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
        ]

    def _event(self, kind: str, **more: Any) -> Sse:
        self._number += 1
        return Sse({"type": kind, "sequence_number": self._number, **more}, kind)

    def push(self, choice: Choice, record: Record, deltas: Sequence[Delta]) -> list[Sse]:
        found: list[Sse] = []
        for delta in deltas:
            match delta:
                case TextDelta(text, _) if text:
                    found += self._say("message", text)
                case ThoughtDelta(text, _):
                    found += self._say("reasoning", text)
                case TextDelta():
                    pass
                case CallDelta(_, id, name):
                    found += self._close("completed")
                    found += self._add(_call(id, name, "", "in_progress"))
                case ArgumentsDelta(_, text):
                    found += self._argue(text)
                case FinishDelta(reason):
                    status = "incomplete" if reason == "length" else "completed"
                    if all(item["type"] == "reasoning" for item in self._items):
                        found += self._close(status)
                        found += self._add(self._said("", "in_progress"))
                    found += self._close(status)
        return found

    def _add(self, item: dict[str, Any]) -> list[Sse]:
        self._items.append(item)
        is_text = item["type"] in _TEXTS
        shown = item | ({"content": []} if is_text else {})
        at = len(self._items) - 1
        found = [self._event("response.output_item.added", output_index=at, item=shown)]
        if is_text:
            part = item["content"][0] | {"text": ""}
            found.append(self._event("response.content_part.added", **self._at(), part=part))
        return found

    def _at(self) -> dict[str, Any]:
        """Where the last item stands."""
        item, at = self._items[-1], len(self._items) - 1
        found = {"item_id": item["id"], "output_index": at}
        return found | ({"content_index": 0} if item["type"] in _TEXTS else {})

    def _say(self, kind: str, text: str) -> list[Sse]:
        """A piece of a message, or of what comes before it."""
        found: list[Sse] = []
        if not self._items or self._items[-1]["type"] != kind:
            found += self._close("completed")
            make = self._said if kind == "message" else self._thought
            found += self._add(make("", "in_progress"))
        self._items[-1]["content"][0]["text"] += text
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        return [*found, self._event(f"{_TEXTS[kind]}.delta", **self._at(), delta=text, **more)]

    def _argue(self, text: str) -> list[Sse]:
        self._items[-1]["arguments"] += text
        return [self._event("response.function_call_arguments.delta", **self._at(), delta=text)]

    def _close(self, status: str) -> list[Sse]:
        """The last item is complete."""
        if not self._items or self._items[-1]["status"] != "in_progress":
            return []
        item = self._items[-1]
        item["status"] = status
        found = []
        if item["type"] in _TEXTS:
            part = item["content"][0]
            done = f"{_TEXTS[item['type']]}.done"
            more: dict[str, Any] = {"logprobs": []} if item["type"] == "message" else {}
            found.append(self._event(done, **self._at(), text=part["text"], **more))
            found.append(self._event("response.content_part.done", **self._at(), part=part))
        else:
            found.append(
                self._event(
                    "response.function_call_arguments.done",
                    **self._at(),
                    name=item["name"],
                    arguments=item["arguments"],
                )
            )
        at = len(self._items) - 1
        return [*found, self._event("response.output_item.done", output_index=at, item=item)]

    def end(self, choices: Sequence[Choice]) -> list[Sse]:
        status = _status(choices[0])
        found = self._response(status, self._items, choices[0])
        return [self._event(f"response.{status}", response=found)]

    def fail(self, problem: Problem) -> list[Sse]:
        error = {"code": problem.code or problem.kind, "message": problem.message}
        found = self._response("failed", self._items) | {"error": error}
        return [self._event("response.failed", response=found)]

    # --- whole --------------------------------------------------------------------------------

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        choice = choices[0]
        status = _status(choice)
        items: list[dict[str, Any]] = []
        if choice.thinking:
            is_all = not (choice.text or choice.calls)
            items.append(self._thought(choice.thinking, status if is_all else "completed"))
        if choice.text or not choice.calls:
            items.append(self._said(choice.text, status))
        items += (_call(call.id, call.name, call.arguments, status) for call in choice.calls)
        return self._response(status, items, choice)

    def _said(self, text: str, status: str) -> dict[str, Any]:
        return {
            "id": f"msg_{self._key}{len(self._items)}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_part(text)],
        }

    def _thought(self, text: str, status: str) -> dict[str, Any]:
        return {
            "id": f"rs_{self._key}{len(self._items)}",
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": [{"type": "reasoning_text", "text": text}],
        }

    def _response(
        self, status: str, items: Sequence[dict[str, Any]], choice: Choice | None = None
    ) -> dict[str, Any]:
        body = self._body
        return {
            "id": f"resp_{self._key}",
            "object": "response",
            "created_at": self._created,
            "completed_at": self._created + math.ceil(choice.seconds) if choice else None,
            "background": False,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": body.model,
            "output": [*items],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": _or_usual(body.temperature, USUAL_SAMPLING.temperature),
            "text": {"format": self._format()},
            "tool_choice": _shown(body.tool_choice),
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_p": _or_usual(body.top_p, USUAL_SAMPLING.top_p),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "top_logprobs": 0,
            "max_tool_calls": None,
            "reasoning": None,
            "safety_identifier": None,
            "prompt_cache_key": None,
            "service_tier": "default",
            "truncation": "disabled",
            "usage": None if choice is None else _usage(choice),
            "metadata": {},
        }

    def _format(self) -> dict[str, Any]:
        form = self._body.text and self._body.text.format
        return form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}


def _shown(choice: str | NamedResponsesTool | None) -> Any:
    return choice.model_dump() if isinstance(choice, NamedResponsesTool) else choice or "auto"


def _or_usual(given: float | None, usual: float) -> float:
    return usual if given is None else given


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish == "length" else "completed"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
    return {
        "id": "fc_" + id.removeprefix("call_"),
        "type": "function_call",
        "status": status,
        "call_id": id,
        "name": name,
        "arguments": arguments,
    }


def _usage(choice: Choice) -> dict[str, Any]:
    return {
        "input_tokens": choice.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": choice.tokens,
        "output_tokens_details": {
            "reasoning_tokens": choice.thought_tokens,
            "swarm": swarm_usage([choice]),
        },
        "total_tokens": choice.prompt_tokens + choice.tokens,
    }
