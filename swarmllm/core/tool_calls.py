"""Tool calls: how an answer writes that it wants a tool called, which tools are offered, and how
calls are read out of a text that arrives in pieces.

A call is `<tool_call>`, a line with the JSON object of `name` and `arguments`, `</tool_call>`: what
Hermes, Qwen and SmolLM2 were trained to write. A grammar (`Offer`) sees to it that whatever begins
with the mark is one of the tools with arguments that fit its schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.errors import UsageError

MARK: Final = "<tool_call>"
CLOSING: Final = "}\n</tool_call>"
TOOLS_MAX: Final = 128  # As in OpenAI's API.
CALLS_MAX: Final = 8  # Of one answer.
TOOL_NAME: Final = "[A-Za-z0-9_.-]{1,64}"
_NAME: Final = re.compile(TOOL_NAME)


def opening(name: str) -> str:
    """What stands before the arguments of a call."""
    return f'{MARK}\n{{"name": "{name}", "arguments": '


@dataclass(frozen=True, slots=True)
class Offer:
    """`tools` are names with the JSON schemas of their arguments; an answer calls between `least`
    (0 or 1) and `most` of them. `form`: the JSON schema of an answer that calls none; None: any
    text, also before a call."""

    tools: tuple[tuple[str, dict[str, Any]], ...]
    least: int = 0
    most: int = CALLS_MAX
    form: dict[str, Any] | None = None

    def as_text(self) -> str:
        """What `offer_of` reads."""
        tools = [{"name": name, "parameters": schema} for name, schema in self.tools]
        found = {"tools": tools, "least": self.least, "most": self.most}
        return json.dumps(found if self.form is None else found | {"form": self.form})


def offer_of(text: str) -> Offer:
    """UsageError for what is no offer; the schemas are looked at elsewhere."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the tools are no JSON: {error}") from None
    match found:
        case {"tools": [_, *_] as tools, "least": 0 | 1 as least, "most": int() as most}:
            if len(tools) > TOOLS_MAX or not 1 <= most <= CALLS_MAX:
                raise UsageError(f"at most {TOOLS_MAX} tools and {CALLS_MAX} calls of them")
            form = found.get("form")
            if form is not None and (least or not isinstance(form, dict)):
                raise UsageError("a 'form' is a JSON schema, beside tools that need not be called")
            return Offer(tuple(map(_tool, tools)), int(least), most, form)
        case _:
            raise UsageError("tools are an object of 'tools', 'least' (0 or 1) and 'most'")


def _tool(found: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(found, Mapping) or not _NAME.fullmatch(str(found.get("name", ""))):
        raise UsageError(
            "the name of a tool has 1 to 64 letters, digits, dots, underscores and hyphens"
        )
    schema = found.get("parameters")
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise UsageError(
            f"the parameters of the tool {found['name']} are no JSON schema of an object"
        )
    # What is not said is closed: a model invents arguments, and no tool knows them.
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    return str(found["name"]), closed | schema


@dataclass(frozen=True, slots=True)
class Said:
    """Text beside the calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegan:
    """The next call; `Arguments` follow until the next one or the end."""

    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of the JSON of the arguments of the last call."""

    text: str


Part = Said | CallBegan | Arguments


class CallReader:
    """Text goes in in pieces and comes out as text, calls and pieces of their arguments. However
    the text is cut, what comes out adds up to the same."""

    def __init__(self, *, has_form: bool = False) -> None:
        """`has_form`: an answer that calls nothing is JSON, in whose strings a mark is text."""
        self._is_undecided = has_form  # Whether it is JSON.
        self._held = ""  # The beginning of a mark or a head, not known yet to be one.
        self._state = "text"
        self._depth = 0
        self._is_quoted = self._is_escaped = False

    def push(self, text: str) -> list[Part]:
        self._held += text
        found: list[Part] = []
        while self._held and (part := self._next()) is not None:
            found += part
        return found

    def finish(self) -> list[Part]:
        """What was held back and is no call."""
        held, self._held = self._held, ""
        return [Said(held)] if held and self._state == "text" else []

    def _next(self) -> list[Part] | None:
        """The parts of a stretch of what is held; None if more text is needed first."""
        match self._state:
            case "text":
                return self._text()
            case "json":
                text, self._held = self._held, ""
                return [Said(text)]
            case "head":
                return self._head()
            case "arguments":
                return self._arguments()
            case _:
                return self._after()

    def _text(self) -> list[Part] | None:
        if self._is_undecided:
            if len(self._held) < len(MARK) and MARK.startswith(self._held):
                return None
            self._is_undecided = False
            if not self._held.startswith(MARK):
                self._state = "json"
                return []
        at = self._held.find(MARK)
        if at >= 0:
            text = self._held[:at].rstrip()
            self._held, self._state = self._held[at + len(MARK) :], "head"
            return [Said(text)] if text else []
        keep = next(n for n in range(len(MARK) - 1, -1, -1) if self._held.endswith(MARK[:n]))
        # Blanks before a call are no text.
        text = self._held[: len(self._held) - keep].rstrip()
        self._held = self._held[len(text) :]
        return [Said(text)] if text else None

    def _head(self) -> list[Part] | None:
        found = re.match(r'\n\{"name": "([^"]*)", "arguments": ', self._held)
        if found is None:
            return None
        self._held, self._state = self._held[found.end() :], "arguments"
        self._depth, self._is_quoted, self._is_escaped = 0, False, False
        return [CallBegan(found[1])]

    def _arguments(self) -> list[Part] | None:
        """An object ends where as many brackets were closed as opened outside of strings."""
        for at, char in enumerate(self._held):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_quoted:
                self._is_escaped, self._is_quoted = char == "\\", char != '"'
            elif char == '"':
                self._is_quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    text, self._held, self._state = (
                        self._held[: at + 1],
                        self._held[at + 1 :],
                        "end",
                    )
                    return [Arguments(text)]
        text, self._held = self._held, ""
        return [Arguments(text)]

    def _after(self) -> list[Part] | None:
        if len(self._held) < len(CLOSING):
            return None
        self._held, self._state = self._held[len(CLOSING) :].lstrip("\n"), "text"
        return []
