"""OpenAI's `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from swarmllm.api.asked import (
    CHOICES_MAX,
    MAX_TOKENS,
    Asked,
    Sse,
    seeded,
    usage_of,
)
from swarmllm.api.body import EITHER, PARTS, TEXT, WHOLE, Body, Format, Sampled, read
from swarmllm.api.choice import (
    ArgumentsDelta,
    CallDelta,
    Choice,
    Delta,
    Entry,
    FinishDelta,
    TextDelta,
    ThoughtDelta,
    trace_of,
)
from swarmllm.api.conversation import (
    MESSAGES_MAX,
    ChatMessage,
    grammar_of,
    joined,
    offered,
    openai_messages,
)
from swarmllm.api.dialects.openai_fields import (
    HARMLESS,
    Bias,
    Penalty,
    Stops,
    StreamOptions,
    ToolName,
    bias_of,
    fingerprint,
    stops_of,
)
from swarmllm.api.problem import Problem, as_openai, invalid
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import LIKELIEST_MAX


class Function(Body):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatTool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: ToolName


class NamedChatTool(Body):
    type: Literal["function"]
    function: NamedFunction


class ChatBody(Sampled):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MESSAGES_MAX)]
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MAX), WHOLE] | None = None
    stop: Stops | None = None
    seed: Annotated[int, WHOLE] | None = None
    max_tokens: Annotated[int, Field(ge=1), WHOLE] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1), WHOLE] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=LIKELIEST_MAX), WHOLE] | None = None
    response_format: Format | None = None
    tools: Annotated[list[ChatTool], Field(max_length=128)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], TEXT] | Annotated[NamedChatTool, PARTS],
            EITHER,
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Literal["none"] | None = None

    harmless: ClassVar[frozenset[str]] = HARMLESS
    unserved: ClassVar[dict[str, str]] = {
        "audio": "cannot be served: experts write text alone",
        "prediction": "cannot be served",
        "web_search_options": "cannot be served: nothing is looked up on the web",
        "functions": "is not served; use tools",
        "function_call": "is not served; use tool_choice",
        "verbosity": "cannot be served: it would change nothing",
    }

    def questions(self) -> tuple[dict[str, Any], ...]:
        limit = self.max_completion_tokens or self.max_tokens or MAX_TOKENS
        question: dict[str, Any] = self.drawing() | {
            "messages": joined(openai_messages(self.messages), self._offer()),
            "max_tokens": min(limit, MAX_TOKENS),
            "clamp": True,
            "stop": stops_of(self.stop),
        }
        for name in ("presence_penalty", "frequency_penalty"):
            if (value := getattr(self, name)) is not None:
                question[name] = value
        if self.logit_bias:
            question["bias"] = bias_of(self.logit_bias)
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs", "needs logprobs to be true")
        if self.logprobs:
            question["likeliest"] = self.top_logprobs or 0
        if (grammar := self._grammar()) is not None:
            question["grammar"] = grammar
        return seeded(question, self.seed, self.n or 1)

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def _functions(self) -> list[dict[str, Any]]:
        return [tool.function.model_dump(exclude_none=True) for tool in self.tools or ()]

    def _offer(self) -> str:
        shown = [{k: v for k, v in one.items() if k != "strict"} for one in self._functions()]
        return offered(shown) if self.offers_tools else ""

    def _grammar(self) -> dict[str, str] | None:
        form = self.response_format
        if not self.offers_tools:
            if self.tool_choice not in (None, "none", "auto"):
                raise invalid("tool_choice", "needs tools")
            return form.grammar("response_format") if form else None
        schema = form.schema_of("response_format") if form else None
        is_parallel = self.parallel_tool_calls is not False
        return grammar_of(self._functions(), self._choice(), is_parallel=is_parallel, form=schema)

    @property
    def has_form(self) -> bool:
        form = self.response_format
        return self._choice() == "auto" and form is not None and form.type != "text"

    def _choice(self) -> str:
        match self.tool_choice:
            case NamedChatTool(function=NamedFunction(name=name)):
                return name
            case word:
                return word or "auto"


class ChatDialect:
    """One reply. `head` are the fields that every chunk has: id, created, model."""

    def __init__(self, found: dict[str, Any], head: dict[str, Any]) -> None:
        """Problem for a body that cannot be served."""
        body = read(ChatBody, found)
        self._body = body
        self._head: Final = head
        options = body.stream_options
        if options is not None and not body.stream:
            raise invalid("stream_options", "needs stream to be true")
        self._with_usage = bool(options and options.include_usage)
        self._print: dict[str, Any] = {}
        self.asked = Asked(body.questions(), bool(body.stream), body.offers_tools, body.has_form)

    # --- streamed -----------------------------------------------------------------------------

    def begin(self, choices: Sequence[Choice]) -> list[Sse]:
        self._print = fingerprint(choices)
        first = {"role": "assistant", "content": ""}
        return [self._chunk(choice, first) for choice in choices]

    def push(self, choice: Choice, record: Record, deltas: Sequence[Delta]) -> list[Sse]:
        traced = self._body.wants_trace and record["event"] == "token"
        trace = {"swarm": trace_of(record)} if traced else {}
        found = [self._delta(choice, delta, trace) for delta in deltas]
        return found or ([self._chunk(choice, {}, **trace)] if trace else [])

    def _delta(self, choice: Choice, delta: Delta, trace: dict[str, Any]) -> Sse:
        match delta:
            case TextDelta(text, entries):
                told = {"logprobs": logprobs_of(entries)} if self._body.logprobs else {}
                return self._chunk(choice, {"content": text}, **told, **trace)
            case ThoughtDelta(text, entries):
                told = {"logprobs": logprobs_of(entries)} if self._body.logprobs else {}
                return self._chunk(choice, _thought(text), **told, **trace)
            case CallDelta(index, id, name):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": id, "type": "function", "function": function}
                return self._chunk(choice, {"tool_calls": [call]}, **trace)
            case ArgumentsDelta(index, text):
                call = {"index": index, "function": {"arguments": text}}
                return self._chunk(choice, {"tool_calls": [call]}, **trace)
            case FinishDelta(reason):
                return self._chunk(choice, {}, finish_reason=reason, **trace)

    def _chunk(self, choice: Choice, delta: dict[str, Any], **more: Any) -> Sse:
        one = {"index": choice.index, "delta": delta, "finish_reason": None} | more
        trace = one.pop("swarm", None)
        found = self._head_of("chat.completion.chunk") | {"choices": [one]}
        return Sse(found | ({"swarm": trace} if trace else {}))

    def _head_of(self, kind: str) -> dict[str, Any]:
        return self._head | {"object": kind} | self._print

    def end(self, choices: Sequence[Choice]) -> list[Sse]:
        found = []
        if self._with_usage:
            head = self._head_of("chat.completion.chunk")
            found.append(Sse(head | {"choices": [], "usage": usage_of(choices)}))
        return [*found, Sse("[DONE]")]

    def fail(self, problem: Problem) -> list[Sse]:
        return [Sse(as_openai(problem))]

    # --- whole --------------------------------------------------------------------------------

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        self._print = fingerprint(choices)
        return self._head_of("chat.completion") | {
            "choices": [self._whole(choice) for choice in choices],
            "usage": usage_of(choices),
        }

    def _whole(self, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": choice.text if choice.text or not choice.calls else None,
            "refusal": None,
            "annotations": [],
        }
        if choice.thinking:
            message |= _thought(choice.thinking)
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs_of(choice.entries) if self._body.logprobs else None,
            "finish_reason": choice.finish,
        }


def _thought(text: str) -> dict[str, str]:
    """The first of both names is DeepSeek's, which most clients read; vLLM now writes the other."""
    return {"reasoning_content": text, "reasoning": text}


def logprobs_of(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"content": [_entry(one) for one in entries], "refusal": None}


def _entry(one: Entry) -> dict[str, Any]:
    likeliest = [_token(data, logprob) for data, logprob in one.likeliest]
    return _token(one.data, one.logprob) | {"top_logprobs": likeliest}


def _token(data: bytes, logprob: float) -> dict[str, Any]:
    """Half a character is shown by U+FFFD; `bytes` are what it is."""
    return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}
