"""Conversations as clients write them become messages of a role and a text, which chat templates
take; tools are offered, and calls and their results written, as `core.tool_calls` says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarmllm.api.problem import invalid, refused
from swarmllm.core.chat import ASSISTANT, SYSTEM, USER
from swarmllm.core.tool_calls import CALLS_MAX, CLOSING, Offer, opening

Message = dict[str, str]

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


def text_of(content: object, param: str, kinds: Sequence[str] = ("text",)) -> str:
    """A content: a text, or a list of parts that are texts. Problem for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(param, "is a text or a list of parts")
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in kinds:
            raise refused(f"{param}[{i}]", f"of the type {str(kind)[:40]!r} cannot be served")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise invalid(f"{param}[{i}].text", "is a text")
        texts.append(text)
    return "\n".join(texts)


def call_text(name: object, arguments: object, param: str) -> str:
    """A call as the assistant wrote it. `arguments` are an object, or the JSON of one."""
    if not isinstance(name, str):
        raise invalid(f"{param}.name", "is a text")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise invalid(f"{param}.arguments", "is the JSON of an object") from None
    if not isinstance(arguments, dict):
        raise invalid(f"{param}.arguments", "is the JSON of an object")
    return opening(name) + json.dumps(arguments, ensure_ascii=False) + CLOSING


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
    tools: Sequence[Mapping[str, Any]], choice: str, *, is_parallel: bool
) -> dict[str, str]:
    """The grammar of `tools` (`name`, `parameters`). `choice`: auto, required, or the name of the
    one that must be called."""
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
    )
    return {"kind": "tool_calls", "text": offer.as_text()}


def openai_messages(messages: Sequence[Any]) -> list[Message]:
    """Those of `/v1/chat/completions`."""
    found = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, dict):
            raise invalid(where, "is an object")
        role = message.get("role")
        text = text_of(message.get("content"), f"{where}.content", ("text", "refusal"))
        match role:
            case "system" | "developer":
                found.append({"role": SYSTEM, "content": text})
            case "user":
                found.append({"role": USER, "content": text})
            case "tool":
                found.append({"role": USER, "content": result_text(text)})
            case "assistant":
                parts = [text] if text else []
                for j, call in enumerate(_list(message.get("tool_calls"), f"{where}.tool_calls")):
                    path = f"{where}.tool_calls[{j}].function"
                    function = call.get("function") if isinstance(call, dict) else None
                    if not isinstance(function, dict):
                        raise invalid(path, "is an object")
                    parts.append(call_text(function.get("name"), function.get("arguments"), path))
                found.append({"role": ASSISTANT, "content": "\n".join(parts)})
            case "function":
                raise refused(f"{where}.role", "'function' cannot be served; use 'tool'")
            case _:
                raise invalid(
                    f"{where}.role",
                    f"is {str(role)[:40]!r}; it must be system, developer, user, assistant or tool",
                )
    return found


def _list(found: object, param: str) -> list[Any]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise invalid(param, "is a list")
    return found
