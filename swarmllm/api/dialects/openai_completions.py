"""OpenAI's `/v1/completions`: texts that are continued, as they are or as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Final

from pydantic import Discriminator, Field, Tag

from swarmllm.api.asked import (
    CHOICES_MAX,
    MAX_TOKENS,
    Asked,
    Sse,
    seeded,
    swarm_usage,
    usage_of,
)
from swarmllm.api.body import WHOLE, Sampled, read
from swarmllm.api.choice import Choice, Delta, Entry, FinishDelta, TextDelta, trace_of
from swarmllm.api.dialects.openai_fields import (
    Bias,
    Penalty,
    Stops,
    StreamOptions,
    bias_of,
    fingerprint,
    stops_of,
)
from swarmllm.api.problem import Problem, as_openai, invalid, refused
from swarmllm.messages import CONTEXT_MAX, VOCABULARY_MAX
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import LIKELIEST_MAX

MAX_TOKENS_LEGACY: Final = 16  # What this route has always had where nothing is said.


Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[
    list[Annotated[int, Field(ge=0, lt=VOCABULARY_MAX), WHOLE]],
    Field(min_length=1, max_length=CONTEXT_MAX),
]


def _kind(prompt: object) -> str:
    match prompt:
        case str():
            return "~text"
        case [int() | float(), *_]:
            return "~ids"
        case [list(), *_]:
            return "~lists"
        case _:
            return "~texts"


class CompletionBody(Sampled):
    prompt: Annotated[
        Annotated[Text, Tag("~text")]
        | Annotated[
            Annotated[list[Text], Field(min_length=1, max_length=CHOICES_MAX)], Tag("~texts")
        ]
        | Annotated[Ids, Tag("~ids")]
        | Annotated[
            Annotated[list[Ids], Field(min_length=1, max_length=CHOICES_MAX)], Tag("~lists")
        ],
        Discriminator(_kind),
    ]
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MAX), WHOLE] | None = None
    best_of: Annotated[int, WHOLE] | None = None
    stop: Stops | None = None
    seed: Annotated[int, WHOLE] | None = None
    max_tokens: Annotated[int, Field(ge=1), WHOLE] | None = None
    echo: bool | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Field(ge=0, le=LIKELIEST_MAX), WHOLE] | None = None

    harmless: ClassVar[frozenset[str]] = frozenset(("user",))
    unserved: ClassVar[dict[str, str]] = {
        "suffix": "cannot be served: a text is continued at its end alone"
    }

    def prompts(self) -> list[dict[str, Any]]:
        """The prompt of each choice, before `n`."""
        several = self.prompt if _kind(self.prompt) in {"~texts", "~lists"} else [self.prompt]
        return [{"prompt" if isinstance(one, str) else "prompt_ids": one} for one in several]

    def questions(self) -> tuple[dict[str, Any], ...]:
        count = self.n or 1
        if self.best_of not in {None, count}:
            raise refused("best_of", "cannot be served unless it is n")
        if self.echo and self.logprobs is not None:
            raise refused("echo", "cannot be served beside logprobs")
        if self.echo and any("prompt_ids" in one for one in self.prompts()):
            raise refused("echo", "cannot be served for token ids")
        more: dict[str, Any] = self.drawing() | {
            "max_tokens": min(self.max_tokens or MAX_TOKENS_LEGACY, MAX_TOKENS),
            "clamp": True,
            "stop": stops_of(self.stop),
        }
        for name in ("presence_penalty", "frequency_penalty"):
            if (value := getattr(self, name)) is not None:
                more[name] = value
        if self.logit_bias:
            more["bias"] = bias_of(self.logit_bias)
        if self.logprobs is not None:
            more["likeliest"] = self.logprobs
        found = [one for p in self.prompts() for one in seeded(p | more, self.seed, count)]
        if len(found) > CHOICES_MAX:
            raise invalid("prompt", f"asks for {len(found)} choices; there can be {CHOICES_MAX}")
        return tuple(found)


class CompletionDialect:
    def __init__(self, found: dict[str, Any], head: dict[str, Any]) -> None:
        """Problem for a body that cannot be served."""
        body = read(CompletionBody, found)
        self._body = body
        self._head: Final = head | {"object": "text_completion"}
        options = body.stream_options
        if options is not None and not body.stream:
            raise invalid("stream_options", "needs stream to be true")
        self._with_usage = bool(options and options.include_usage)
        self._print: dict[str, Any] = {}
        self._offsets: dict[int, int] = {}
        self.asked = Asked(body.questions(), bool(body.stream))

    def begin(self, choices: Sequence[Choice]) -> list[Sse]:
        self._print = fingerprint(choices)
        if not self._body.echo:
            return []
        return [self._chunk(choice, self._echo(choice)) for choice in choices]

    def _echo(self, choice: Choice) -> str:
        return str(self.asked.questions[choice.index]["prompt"]) if self._body.echo else ""

    def push(self, choice: Choice, record: Record, deltas: Sequence[Delta]) -> list[Sse]:
        found = []
        for delta in deltas:
            match delta:
                case TextDelta(text, entries):
                    found.append(self._chunk(choice, text, entries))
                case FinishDelta(reason):
                    found.append(self._chunk(choice, "", finish=reason))
                case _:
                    raise AssertionError("no tools were offered")
        if found and self._body.wants_trace and record["event"] == "token":
            last = found[-1].data
            assert isinstance(last, dict)
            last["swarm"] = trace_of(record)
        return found

    def _chunk(
        self,
        choice: Choice,
        text: str,
        entries: Sequence[Entry] = (),
        finish: str | None = None,
    ) -> Sse:
        one: dict[str, Any] = {"index": choice.index, "text": text, "finish_reason": finish}
        one["logprobs"] = None
        if self._body.logprobs is not None and entries:
            begins = self._offsets.get(choice.index, 0)
            one["logprobs"] = legacy_logprobs(entries, begins)
            self._offsets[choice.index] = begins + len(text)
        return Sse(self._head | self._print | {"choices": [one]})

    def end(self, choices: Sequence[Choice]) -> list[Sse]:
        found = []
        if self._with_usage:
            usage = {"choices": [], "usage": self._usage(choices)}
            found.append(Sse(self._head | self._print | usage))
        return [*found, Sse("[DONE]")]

    def fail(self, problem: Problem) -> list[Sse]:
        return [Sse(as_openai(problem))]

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        wants = self._body.logprobs is not None
        found = [
            {
                "index": choice.index,
                "text": self._echo(choice) + choice.text,
                "logprobs": legacy_logprobs(choice.entries, 0) if wants else None,
                "finish_reason": choice.finish,
            }
            for choice in choices
        ]
        usage = self._usage(choices)
        return self._head | fingerprint(choices) | {"choices": found, "usage": usage}

    def _usage(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """Each prompt counts once, however many choices it has."""
        usage = usage_of(choices)
        usage["prompt_tokens"] = sum(one.prompt_tokens for one in choices[:: self._body.n or 1])
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        usage["completion_tokens_details"] = {"swarm": swarm_usage(choices)}
        return usage


def legacy_logprobs(entries: Sequence[Entry], begins: int) -> dict[str, Any]:
    """The older shape: lists side by side. `begins`: characters of the text before them."""
    tokens = [_shown(one.data) for one in entries]
    sizes = (len(one.data.decode(errors="replace")) for one in entries)
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in entries],
        "top_logprobs": [
            {_shown(data): logprob for data, logprob in one.likeliest} for one in entries
        ],
        "text_offset": [begins, *(begins + size for size in accumulate(sizes))][: len(tokens)],
    }


def _shown(data: bytes) -> str:
    """As OpenAI's API writes a token that is no text: `bytes:\\xe2\\x98`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
