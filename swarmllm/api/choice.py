"""One choice of a reply: the records of an answer become text, calls of tools, log-probabilities
and the reason of its end. Every dialect makes its chunks, and its whole reply, of these."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from swarmllm.api.problem import broken_off
from swarmllm.core.thinking import Thinking, Thought, ThoughtReader
from swarmllm.core.tool_calls import Arguments, CallBegan, CallReader, Said
from swarmllm.runtime.service.record import Record

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A token with its log-probability, and the likeliest tokens in its place."""

    data: bytes
    logprob: float
    likeliest: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """`entries` are the tokens since the last one, whether or not they have any text."""

    text: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """What the model thinks before it answers; `entries` as in `TextDelta`."""

    text: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class CallDelta:
    """The call number `index` begins, and `Arguments` of it follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class FinishDelta:
    reason: Finish


Delta = TextDelta | ThoughtDelta | CallDelta | ArgumentsDelta | FinishDelta


@dataclass(slots=True)
class Call:
    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """`push` each record of the answer; the fields hold what they add up to. `reads_calls`: tools
    were offered. Problem for a last record that says that the answer was halted or failed."""

    index: int
    request_id: str
    reads_calls: bool = False
    has_form: bool = False
    """What is no call is JSON."""
    text: str = ""
    thinking: str = ""
    thinks: bool = False
    """Its model marks thinking."""
    thought_tokens: int = 0
    calls: list[Call] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    finish: Finish | None = None
    is_stopped: bool = False
    """By a stop string, or by whoever asked; not by the model."""
    stop: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    failovers: int = 0
    experts: tuple[str, ...] = ()
    seconds: float = 0.0
    _reader: CallReader = field(init=False)
    _untold: list[Entry] = field(default_factory=list)
    _thoughts: ThoughtReader | None = None
    _undecided: int = 0

    def __post_init__(self) -> None:
        self._reader = CallReader(has_form=self.has_form)

    def push(self, record: Record) -> list[Delta]:
        match record["event"]:
            case "weighed":
                self.prompt_tokens = record["prompt_tokens"]
                self.experts = tuple(one["model"] for one in record["experts"] if one["kept"])
                if "thinking" in record and not self.thinks:
                    self.thinks = True
                    marks = Thinking(**record["thinking"])
                    self._thoughts = ThoughtReader(marks, reads_calls=self.reads_calls)
                return []
            case "token":
                self.tokens += 1
                if "bytes" in record:
                    self._note(record)
                return self._counted(record["text"])
            case "text":
                return self._read(record["text"])
            case "end":
                return self._end(record)
            case _:
                return []

    def _note(self, record: Record) -> None:
        likeliest = tuple(
            (bytes.fromhex(one["bytes"]), one["logprob"]) for one in record["likeliest"]
        )
        self._untold.append(Entry(bytes.fromhex(record["bytes"]), record["logprob"], likeliest))

    def _counted(self, text: str) -> list[Delta]:
        """Tokens of the marks count as thinking, too."""
        thoughts = self._thoughts
        if thoughts is None:
            return self._answered(text)
        was_thinking, was_undecided = thoughts.is_thinking, thoughts.is_undecided
        found = self._read(text)
        if was_thinking:
            self.thought_tokens += 1
        elif was_undecided:
            self._undecided += 1
            if thoughts.has_thought:
                self.thought_tokens = self._undecided
        return found

    def _read(self, text: str) -> list[Delta]:
        if self._thoughts is None:
            return self._answered(text)
        return self._split(self._thoughts.push(text))

    def _split(self, parts: list[Thought | Said]) -> list[Delta]:
        found: list[Delta] = []
        for part in parts:
            match part:
                case Thought(text):
                    self.thinking += text
                    found.append(ThoughtDelta(text, self._told()))
                case Said(text):
                    found += self._answered(text)
        return found

    def _answered(self, text: str) -> list[Delta]:
        if not self.reads_calls:
            return self._said(text)
        return [delta for part in self._reader.push(text) for delta in self._part(part)]

    def _part(self, part: Said | CallBegan | Arguments) -> list[Delta]:
        match part:
            case Said(text):
                return self._said(text)
            case CallBegan(name):
                self.calls.append(Call(f"call_{self.request_id}{len(self.calls)}", name))
                return [CallDelta(len(self.calls) - 1, self.calls[-1].id, name)]
            case Arguments(text):
                self.calls[-1].arguments += text
                return [ArgumentsDelta(len(self.calls) - 1, text)]
            case _:
                assert_never(part)

    def _said(self, text: str) -> list[Delta]:
        if not text:
            return []
        self.text += text
        return [TextDelta(text, self._told())]

    def _told(self) -> tuple[Entry, ...]:
        told = tuple(self._untold)
        self._untold.clear()
        self.entries += told
        return told

    def _end(self, record: Record) -> list[Delta]:
        reason = record["reason"]
        if reason in {"error", "halted"}:
            raise broken_off(reason, record.get("error", ""))
        self.prompt_tokens, self.tokens = record["prompt_tokens"], record["tokens"]
        self.failovers, self.seconds = record["failovers"], record["seconds"]
        self.rounds = record["rounds"]
        self.drafted, self.accepted = record["drafted"], record["accepted"]
        self.is_stopped, self.stop = reason == "stop", record.get("stop")
        found = [] if self._thoughts is None else self._split(self._thoughts.finish())
        found += [delta for part in self._reader.finish() for delta in self._part(part)]
        if self._untold and not self.is_stopped:  # Those of a stop string are not shown.
            found.append(TextDelta("", self._told()))
        self.finish = "length" if reason == "length" else "tool_calls" if self.calls else "stop"
        return [*found, FinishDelta(self.finish)]


def trace_of(record: Record) -> dict[str, Any]:
    """What a chunk says of its token's round."""
    names = ("k", "round_ms", "agreement", "experts")
    return {name: record[name] for name in names}


def arguments_of(call: Call) -> dict[str, Any]:
    """The arguments as an object; of a call that was cut off, an empty one."""
    try:
        found = json.loads(call.arguments)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
