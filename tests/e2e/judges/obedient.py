"""An expert that does as it is told: it reads the conversation and writes what a good model would,
one byte at a time, so that clients and judges of the API can be tried without one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.tool_calls import CLOSING, opening
from swarmllm.core.values import SessionKey
from swarmllm.messages import ExpertReply, Score
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import EOS, SIZE, WORDS

TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
BEGINS: Final = "<|im_start|>"
ENDS: Final = "<|im_end|>\n"
SURE: Final = 20.0
COPIED: Final = "the sea is green\n"
PIECES: Final = [bytes([i]) if i < 256 else WORDS.get(i, b"") for i in range(SIZE)]
SHELLS: Final = ("exec_command", "shell_command", "shell")
OFFERED: Final = r'^(\{"type": "function", "function": .*\})$'

Reply = Callable[[list[tuple[str, str]]], str]


class ObedientModel(ScriptedModel):
    """`reply` makes the answer of the conversation: pairs of a role and a text."""

    def __init__(self, reply: Reply, seed: int = 1, context_max: int = 1 << 19) -> None:
        super().__init__("obedient", seed, context_max=context_max)
        self._reply = lru_cache(maxsize=16)(lambda prompt: reply(conversation(prompt)).encode())
        self._asked: SessionKey | None = None

    def score(self, key: SessionKey, request: Score) -> ExpertReply:
        self._asked = key
        return super().score(key, request)

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        assert self._asked is not None
        held = self._held[self._asked]
        at = len(held.digests) - 1 - held.digests[::-1].index(digest)
        text = b"".join(map(PIECES.__getitem__, held.tokens[:at]))
        prompt, begun, said = text.rpartition(f"{BEGINS}assistant\n".encode())
        found = np.full(self.card.vocab_size, -SURE, dtype=np.float32)
        if begun and ENDS.encode() not in said:
            reply = self._reply(prompt.decode(errors="replace"))
            found[reply[len(said)] if said == reply[: len(said)] != reply else EOS] = SURE
        return found


def conversation(prompt: str) -> list[tuple[str, str]]:
    """What `TEMPLATE` made a prompt of, without the assistant's that begins."""
    parts = (turn.removesuffix(ENDS).partition("\n") for turn in prompt.split(BEGINS)[1:])
    return [(role, text) for role, _, text in parts]


def call(tool: dict[str, Any], **arguments: Any) -> str:
    """As the grammar of calls has it: without blanks, and in the order of the tool's schema."""
    given = {name: arguments[name] for name in _properties(tool) if name in arguments}
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    return opening(tool["name"]) + text + CLOSING


def _properties(tool: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tool.get("parameters", {}).get("properties", {})
    return found


def obliging(turns: list[tuple[str, str]]) -> str:
    """What the judges ask for: the task with the two tools of an agent; where there is another
    tool, a call of it, and then what it said; a greeting."""
    offer = turns[0][1] if turns else ""
    tools = [json.loads(one)["function"] for one in re.findall(OFFERED, offer, re.M)]
    told = "\n".join(text for _, text in turns)
    if task := re.search(r"copy ([\w./-]+) to ([\w./-]+)", told):
        return copying(task[1], task[2], told.count("<tool_response>"), tools)
    if turns and turns[-1][1].startswith("<tool_response>"):
        return "It says: " + turns[-1][1].split("\n")[1]
    if tools:
        return call(tools[0], **arguments_for(_properties(tools[0])))
    return "Hello! My name is Obedient."


def copying(source: str, target: str, done: int, tools: list[dict[str, Any]]) -> str:
    """A file is read by the agent's first tool and written by the second."""
    if not tools:
        return "Copying a file"  # The title of the conversation.
    named = {tool["name"]: tool for tool in tools}
    if done > 1:
        return "Copied."
    if done == 0 and "read" in named:
        return call(named["read"], filePath=source)
    if done == 1 and "write" in named:
        return call(named["write"], filePath=target, content=COPIED)
    command = f"cat {source}" if done == 0 else f"cp {source} {target}"
    shell = next(named[name] for name in SHELLS if name in named)
    is_list = _properties(shell).get("command", {}).get("type") == "array"
    words = ["bash", "-c", command] if is_list else command
    return call(shell, cmd=command, command=words)


def arguments_for(properties: dict[str, Any]) -> dict[str, Any]:
    """Some of each required kind."""
    made: dict[str, Any] = {}
    for name, one in properties.items():
        if "enum" in one:
            made[name] = one["enum"][0]
        elif one.get("type") in {"integer", "number"}:
            made[name] = 1
        elif one.get("type") == "boolean":
            made[name] = True
        else:
            made[name] = "Paris"
    return made
