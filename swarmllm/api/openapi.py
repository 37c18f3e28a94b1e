"""The OpenAPI file of this API: every route with what it takes, what it gives, and how it can fail.

Bodies are described by the models that read them; `endpoints.ENDPOINTS` says the rest, and the
routes are made of the same table. docs/api.md has tables that are made of this.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from swarmllm.api.endpoints import ENDPOINTS, Endpoint
from swarmllm.api.guard import TOKEN_HEADER
from swarmllm.api.shapes import SHAPES
from swarmllm.api.shield import ANTHROPIC

_REFS: Final = "#/components/schemas/"
_HEADERS: Final[dict[str, tuple[str, str]]] = {
    "x-request-id": ("string", "What this request is called."),
    "x-swarm-experts": ("integer", "How many experts were chosen for the answer."),
    "server-timing": ("string", "Milliseconds to the first token, or to the whole reply."),
    "retry-after": ("integer", "Seconds to wait."),
    "www-authenticate": ("string", "How to give a key."),
}


_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}


@lru_cache(maxsize=2)
def document(with_keys: bool) -> dict[str, Any]:
    """`with_keys`: this node asks for one."""
    bodies = [one.body for one in ENDPOINTS if one.body is not None]
    _, found = models_json_schema(
        [(body, "validation") for body in dict.fromkeys(bodies)], ref_template=_REFS + "{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, with_keys)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "swarmllm",
            "version": version("swarmllm"),
            "description": "The HTTP API of a node: OpenAI's and Anthropic's shapes, answered by a"
            " swarm of experts.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": found["$defs"] | SHAPES,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": TOKEN_HEADER,
                    "description": "The text of the file api-token in the node's data folder.",
                },
            },
        },
    }


def _operation(one: Endpoint, with_keys: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.says,
        "responses": {"200": _reply(one)}
        | {str(status): _failed(one, status) for status in one.statuses},
        "security": _security(one, with_keys),
    }
    if one.body is not None:
        schema = {"$ref": _REFS + one.body.__name__}
        content = {"application/json": {"schema": schema, "example": one.example}}
        found["requestBody"] = {"required": True, "content": content}
    elif one.method == "POST":
        content = {"application/json": {"schema": {"type": "object"}}}
        found["requestBody"] = {"required": True, "content": content}
    if "{" in one.path:
        name = one.path.partition("{")[2].partition("}")[0]
        text = {"type": "string", "minLength": 1}
        found["parameters"] = [{"name": name, "in": "path", "required": True, "schema": text}]
    return found


def _security(one: Endpoint, with_keys: bool) -> list[dict[str, list[str]]]:
    if one.is_open:
        return []
    keys: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}] if with_keys else [{}]
    return [key | {"token": []} for key in keys] if one.needs_token else keys


def _reply(one: Endpoint) -> dict[str, Any]:
    names = ["x-request-id", *(["x-swarm-experts", "server-timing"] if one.events else [])]
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFS + one.reply}}}
    if one.events:
        content["text/event-stream"] = {"schema": _EVENT | {"description": one.events}}
    return {"description": "As asked.", "headers": _headers(names), "content": content}


def _failed(one: Endpoint, status: int) -> dict[str, Any]:
    name = "AnthropicError" if one.path.startswith(ANTHROPIC) else "Error"
    more: dict[int, list[str]] = {
        401: ["www-authenticate"],
        429: ["retry-after"],
        503: ["retry-after"],
    }
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(["x-request-id", *more.get(status, [])]),
        "content": {"application/json": {"schema": {"$ref": _REFS + name}}},
    }


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: _header(*_HEADERS[name]) for name in names}


def _header(kind: str, says: str) -> dict[str, Any]:
    return {"required": True, "description": says, "schema": {"type": kind}}
