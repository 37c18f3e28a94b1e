"""What a request of any dialect asks for: the questions to the service and how the reply is
shaped; and the protocol of a dialect, which makes both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from swarmllm.api.choice import Choice, Delta
from swarmllm.api.problem import Problem
from swarmllm.messages import CONTEXT_MAX
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.visible import json_of

CHOICES_MAX: Final = 8
MAX_TOKENS: Final = CONTEXT_MAX  # Where nothing is said: as many as the context has room for.


@dataclass(frozen=True, slots=True)
class Sse:
    """A server-sent event; `name` is empty where a dialect has none."""

    data: dict[str, Any] | str
    name: str = ""

    def encoded(self) -> bytes:
        text = self.data if isinstance(self.data, str) else json_of(self.data)
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {text}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """`questions` are the parameters of `generate`, one for each choice."""

    questions: tuple[dict[str, Any], ...]
    is_stream: bool = False
    offers_tools: bool = False
    has_form: bool = False
    """An answer that calls no tool is JSON."""


class Dialect(Protocol):
    """Pure: the reply to one request, streamed or whole. `end` comes after the last choice has
    finished; `fail` is the end of a stream that broke off."""

    asked: Asked

    def begin(self, choices: Sequence[Choice]) -> list[Sse]: ...

    def push(self, choice: Choice, record: Record, deltas: Sequence[Delta]) -> list[Sse]: ...

    def end(self, choices: Sequence[Choice]) -> list[Sse]: ...

    def fail(self, problem: Problem) -> list[Sse]: ...

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]: ...


def seeded(question: dict[str, Any], seed: int | None, count: int) -> tuple[dict[str, Any], ...]:
    """`count` questions that differ in their seeds alone; the first one has that of the client."""
    if seed is None:
        return (question,) * count
    return tuple(question | {"seed": (seed + i) % (1 << 63)} for i in range(count))


def usage_of(choices: Sequence[Choice]) -> dict[str, Any]:
    """OpenAI's usage; the prompt counts once."""
    prompt, completion = choices[0].prompt_tokens, sum(one.tokens for one in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": thought_usage(choices) | {"swarm": swarm_usage(choices)},
    }


def thought_usage(choices: Sequence[Choice]) -> dict[str, int]:
    """Nothing of a model that marks no thinking."""
    if not any(one.thinks for one in choices):
        return {}
    return {"reasoning_tokens": sum(one.thought_tokens for one in choices)}


def swarm_usage(choices: Sequence[Choice]) -> dict[str, int]:
    return {
        "rounds": sum(one.rounds for one in choices),
        "drafted": sum(one.drafted for one in choices),
        "accepted": sum(one.accepted for one in choices),
        "failovers": sum(one.failovers for one in choices),
    }
