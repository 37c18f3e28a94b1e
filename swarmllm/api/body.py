"""Bodies of requests: JSON objects, read by pydantic models that name what they do not take."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swarmllm.api.problem import Problem, invalid, refused

B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """Fields that are null count as left out. `unserved` are known fields that cannot be served,
    each with the reason, which is told; `harmless` ones are taken and change nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    unserved: ClassVar[dict[str, str]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset()


class SwarmFields(Body):
    """How the ensemble answers; what is left out is as the node is set. `trace`: chunks tell which
    experts each token came from."""

    k: Annotated[int, Field(ge=1)] | None = None
    extra: Annotated[int, Field(ge=0)] | None = None
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    domain: str | None = None
    trace: bool | None = None

    unserved: ClassVar[dict[str, str]] = {
        "speculation": "is not served yet: every token takes a round"
    }


class Sampled(Body):
    """What all shapes of a request say of how to draw."""

    model: str
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    swarm: SwarmFields | None = None

    def drawing(self) -> dict[str, Any]:
        """The fields of the service's `generate` that these are."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        found = {name: getattr(self, name) for name in names}
        if self.swarm is not None:
            found |= self.swarm.model_dump(exclude={"trace"})
        return {name: value for name, value in found.items() if value is not None}

    @property
    def wants_trace(self) -> bool:
        return bool(self.swarm and self.swarm.trace)


class JsonSchema(Body):
    name: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    description: str | None = None


class Format(Body):
    """What a reply must be. A schema may stand in `json_schema` or, in the Responses API, beside
    the type."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    name: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    description: str | None = None

    def grammar(self, param: str) -> dict[str, str] | None:
        match self.type:
            case "text":
                return None
            case "json_object":
                return {"kind": "json_object"}
            case "json_schema":
                schema = self.json_schema.schema_ if self.json_schema else self.schema_
                if schema is None:
                    raise invalid(param, "of the type json_schema needs the schema")
                return {"kind": "json_schema", "text": json.dumps(schema)}


def object_of(data: bytes) -> dict[str, Any]:
    """The JSON object of a body. Problem for anything else."""
    try:
        found = json.loads(data.decode())
    except UnicodeDecodeError:
        raise Problem(400, "the body is not valid UTF-8", code="invalid_json") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deep", code="invalid_json") from None
    except ValueError as error:
        raise Problem(400, f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(found, dict):
        raise Problem(
            400, f"the body is a JSON object, not {type(found).__name__}", code="invalid_json"
        )
    return found


def read(kind: type[B], found: dict[str, Any]) -> B:
    """The body as its model. Problem that names the first field which is not as it must be."""
    given = {name: value for name, value in found.items() if value is not None}
    for name, why in kind.unserved.items():
        if name in given:
            raise refused(name, why)
    kept = {name: value for name, value in given.items() if name not in kind.harmless}
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        raise _first(error) from None
    except RecursionError:
        raise Problem(400, "the body is nested too deep", code="invalid_json") from None


def _first(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
    param = path.lstrip(".")[:200] or "body"
    if found["type"] == "extra_forbidden":
        return Problem(400, f"unknown parameter: {param!r}", code="unknown_parameter", param=param)
    if found["type"] == "missing":
        return Problem(400, f"{param} is missing", code="missing_parameter", param=param)
    return invalid(param, f"is not as it must be: {found['msg']}")
