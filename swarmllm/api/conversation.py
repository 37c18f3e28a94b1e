"""Conversations as clients write them become messages of a role and a text, which chat templates
take; tools are offered, and calls and their results written, as `core.tool_calls` says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

from pydantic import Field

from swarmllm.api.body import EITHER, PARTS, TEXT, Loose
from swarmllm.api.problem import invalid
from swarmllm.core.chat import ASSISTANT, SYSTEM, USER
from swarmllm.core.tool_calls import CALLS_MAX, CLOSING, Offer, opening

Message = dict[str, str]

MESSAGES_MAX: Final = 4096

# The words that Hermes and Qwen were trained on.
_OFFERED: Final = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class Said(Protocol):
    """A part of a content that is text."""

    @property
    def said(self) -> str: ...


class TextPart(Loose):
    type: Literal["text"]
    text: str

    @property
    def said(self) -> str:
        return self.text


class RefusalPart(Loose):
    type: Literal["refusal"]
    refusal: str

    @property
    def said(self) -> str:
        return self.refusal


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Content = Annotated[Annotated[str, TEXT] | Annotated[list[Part], PARTS], EITHER]


class SystemMessage(Loose):
    role: Literal["system", "developer"]
    content: Content | None = None


class UserMessage(Loose):
    role: Literal["user"]
    content: Content | None = None


class ToolMessage(Loose):
    role: Literal["tool"]
    content: Content | None = None


class CalledFunction(Loose):
    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(Loose):
    function: CalledFunction


class AssistantMessage(Loose):
    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None

    unserved: ClassVar[dict[str, str]] = {
        "audio": "cannot be served: experts write text alone",
        "function_call": "is not served; use tool_calls",
    }


ChatMessage = Annotated[
    SystemMessage | UserMessage | ToolMessage | AssistantMessage, Field(discriminator="role")
]


def openai_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """Those of `/v1/chat/completions`."""
    found = []
    for message in messages:
        text = text_of(message.content)
        match message:
            case SystemMessage():
                found.append({"role": SYSTEM, "content": text})
            case UserMessage():
                found.append({"role": USER, "content": text})
            case ToolMessage():
                found.append({"role": USER, "content": result_text(text)})
            case AssistantMessage():
                calls = (one.function for one in message.tool_calls or ())
                parts = [text, *(call_text(one.name, one.arguments) for one in calls)]
                found.append({"role": ASSISTANT, "content": "\n".join(filter(None, parts))})
    return found


def text_of(content: str | Sequence[Said] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.said for part in content)


def call_text(name: str, arguments: str | Mapping[str, Any] | None) -> str:
    """A call as the assistant wrote it. Arguments that are no JSON, since they were cut off, are
    shown as they are."""
    if not isinstance(arguments, str):
        return opening(name) + json.dumps(arguments or {}, ensure_ascii=False) + CLOSING
    try:
        text = json.dumps(json.loads(arguments or "{}"), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = arguments
    return opening(name) + text + CLOSING


def result_text(text: str) -> str:
    """What a tool gave back; templates know it as the user's words."""
    return f"<tool_response>\n{text}\n</tool_response>"


def joined(messages: Sequence[Message], offer: str = "") -> list[Message]:
    """Neighbours of one role become one message, for many templates take turns only. What is
    offered stands behind the first message, if that is the system's, or before it."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1] = message | {"content": f"{found[-1]['content']}\n{message['content']}"}
        else:
            found.append(message)
    if not offer:
        return found
    if found and found[0]["role"] == SYSTEM:
        return [{"role": SYSTEM, "content": f"{found[0]['content']}\n\n{offer}"}, *found[1:]]
    return [{"role": SYSTEM, "content": offer}, *found]


def offered(tools: Sequence[Mapping[str, Any]]) -> str:
    """What the model is told of the tools: names, descriptions and parameters."""
    shown = (
        json.dumps({"type": "function", "function": dict(one)}, ensure_ascii=False) for one in tools
    )
    return _OFFERED.format(tools="\n".join(shown))


def grammar_of(
    tools: Sequence[Mapping[str, Any]],
    choice: str,
    *,
    is_parallel: bool,
    form: dict[str, Any] | None = None,
) -> dict[str, str]:
    """The grammar of `tools` (`name`, `parameters`). `choice`: auto, required, or the name of the
    one that must be called. `form`: the JSON schema of an answer that calls none."""
    names = [tool["name"] for tool in tools]
    if choice not in {"auto", "required", *names}:
        raise invalid("tool_choice", f"names {choice[:64]!r}, which is none of the tools")
    if len(set(names)) < len(names):
        raise invalid("tools", "hold two of one name")
    kept = [tool for tool in tools if choice in {"auto", "required", tool["name"]}]
    is_named = choice not in {"auto", "required"}
    offer = Offer(
        tuple((tool["name"], tool.get("parameters") or {}) for tool in kept),
        least=int(choice != "auto"),
        most=1 if is_named or not is_parallel else CALLS_MAX,
        form=form if choice == "auto" else None,
    )
    return {"kind": "tool_calls", "text": offer.as_text()}
