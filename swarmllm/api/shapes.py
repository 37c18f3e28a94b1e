"""JSON schemas of what the API gives back, for `openapi`. What is checked against them are the
replies of a node (tests/api/test_openapi.py), and the types of OpenAI's and Anthropic's packages
are the other judges of them."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_OBJECT: Final[Schema] = {"type": "object"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _is(word: str) -> Schema:
    return {"const": word}


def _one_of(*words: str | None) -> Schema:
    return {"enum": [*words]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _made(may: Schema | None = None, /, **must: Schema) -> Schema:
    """An object that has the fields `must`, may have those of `may`, and no others."""
    names = {name.rstrip("_"): schema for name, schema in must.items()}
    properties = names | (may or {})
    return _OBJECT | {
        "properties": properties,
        "required": [*names],
        "additionalProperties": False,
    }


_SWARM: Final = _made(rounds=_COUNT, drafted=_COUNT, accepted=_COUNT, failovers=_COUNT)
_FUNCTION: Final = _made(name=_TEXT, arguments=_TEXT)
_TOKEN: Final[Schema] = {
    "token": _TEXT,
    "logprob": _NUMBER,
    "bytes": _list(_COUNT),
}
_LOGPROBS: Final = _made(
    content=_list(_made(**_TOKEN, top_logprobs=_list(_made(**_TOKEN)))), refusal={"type": "null"}
)
_PART: Final = _made(
    type=_is("output_text"), text=_TEXT, annotations=_list(_OBJECT), logprobs=_list(_OBJECT)
)
_SAID: Final = _made(
    id=_TEXT,
    type=_is("message"),
    status=_one_of("completed", "incomplete"),
    role=_is("assistant"),
    content=_list(_PART),
)
_CALLED: Final = _made(
    id=_TEXT,
    type=_is("function_call"),
    status=_one_of("completed", "incomplete"),
    call_id=_TEXT,
    name=_TEXT,
    arguments=_TEXT,
)
_THOUGHT: Final = _made(
    id=_TEXT,
    type=_is("reasoning"),
    status=_one_of("completed", "incomplete"),
    summary=_list(_OBJECT),
    content=_list(_made(type=_is("reasoning_text"), text=_TEXT)),
)
_NULL: Final[Schema] = {"type": "null"}

SHAPES: Final[dict[str, Schema]] = {
    "Error": _made(
        error=_made(message=_TEXT, type=_TEXT, param=_or_null(_TEXT), code=_or_null(_TEXT))
    ),
    "AnthropicError": _made(type=_is("error"), error=_made(type=_TEXT, message=_TEXT)),
    "Record": _OBJECT,
    "Records": _made(records=_list(_OBJECT)),
    "State": _made(status=_TEXT),
    "Model": _made(
        {"context_length": _COUNT},
        id=_TEXT,
        object=_is("model"),
        created=_COUNT,
        owned_by=_TEXT,
    ),
    "ModelList": _made(object=_is("list"), data=_list(_ref("Model"))),
    "Usage": _made(
        prompt_tokens=_COUNT,
        completion_tokens=_COUNT,
        total_tokens=_COUNT,
        completion_tokens_details=_made({"reasoning_tokens": _COUNT}, swarm=_SWARM),
    ),
    "ChatMessage": _made(
        {
            "tool_calls": _list(_made(id=_TEXT, type=_is("function"), function=_FUNCTION)),
            "reasoning": _TEXT,
            "reasoning_content": _TEXT,
        },
        role=_is("assistant"),
        content=_or_null(_TEXT),
        refusal=_NULL,
        annotations=_list(_OBJECT),
    ),
    "ChatCompletion": _made(
        id=_TEXT,
        object=_is("chat.completion"),
        created=_COUNT,
        model=_TEXT,
        system_fingerprint=_TEXT,
        choices=_list(
            _made(
                index=_COUNT,
                message=_ref("ChatMessage"),
                logprobs=_or_null(_LOGPROBS),
                finish_reason=_one_of("stop", "length", "tool_calls"),
            )
        ),
        usage=_ref("Usage"),
    ),
    "Completion": _made(
        id=_TEXT,
        object=_is("text_completion"),
        created=_COUNT,
        model=_TEXT,
        system_fingerprint=_TEXT,
        choices=_list(
            _made(
                index=_COUNT,
                text=_TEXT,
                logprobs=_or_null(
                    _made(
                        tokens=_list(_TEXT),
                        token_logprobs=_list(_NUMBER),
                        top_logprobs=_list(_OBJECT),
                        text_offset=_list(_COUNT),
                    )
                ),
                finish_reason=_one_of("stop", "length"),
            )
        ),
        usage=_ref("Usage"),
    ),
    "ResponseObject": _OBJECT
    | {
        "properties": {
            "id": _TEXT,
            "object": _is("response"),
            "status": _one_of("completed", "incomplete"),
            "error": _NULL,
            "output": _list({"oneOf": [_THOUGHT, _SAID, _CALLED]}),
            "usage": _made(
                input_tokens=_COUNT,
                input_tokens_details=_made(cached_tokens=_COUNT),
                output_tokens=_COUNT,
                output_tokens_details=_made(reasoning_tokens=_COUNT, swarm=_SWARM),
                total_tokens=_COUNT,
            ),
        },
        "required": ["id", "object", "status", "error", "output", "usage"],
    },
    "MessageObject": _OBJECT
    | {
        "properties": {
            "id": _TEXT,
            "type": _is("message"),
            "role": _is("assistant"),
            "model": _TEXT,
            "content": _list(
                _OBJECT
                | {
                    "properties": {"type": _one_of("thinking", "text", "tool_use")},
                    "required": ["type"],
                }
            ),
            "stop_reason": _one_of("end_turn", "max_tokens", "stop_sequence", "tool_use"),
            "stop_sequence": _or_null(_TEXT),
            "usage": _OBJECT | {"required": ["input_tokens", "output_tokens"]},
        },
        "required": [
            *("id", "type", "role", "model"),
            *("content", "stop_reason", "stop_sequence", "usage"),
        ],
    },
    "TokenCount": _made(input_tokens=_COUNT),
}
