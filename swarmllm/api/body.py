"""Bodies of requests: JSON objects, read by pydantic models that name what they do not take. What
`openapi` says of bodies is made of the same models."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from swarmllm.api.problem import Problem, invalid, refused
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, EXTRA
from swarmllm.core.values import SAMPLING, Speculative
from swarmllm.runtime.service.request import DOMAIN_BYTES_MAX

B = TypeVar("B", bound="Body")
NULL = {"type": "null"}


class Body(BaseModel):
    """Fields that are null count as left out. `unserved` are known fields that cannot be served,
    each with the reason, which is told; `harmless` ones are taken and change nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    unserved: ClassVar[dict[str, str]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _kept(cls, found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        given = {name: value for name, value in found.items() if value is not None}
        for name, why in cls.unserved.items():
            if name in given:
                raise PydanticCustomError("unserved", "{field} {why}", {"field": name, "why": why})
        return {name: value for name, value in given.items() if name not in cls.harmless}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The same for whoever reads the OpenAPI file."""
        found = handler(core)
        schema = handler.resolve_ref_schema(found)
        schema.pop("description", None)  # The docstring is for who reads the code.
        properties = schema.setdefault("properties", {})
        for name in sorted(cls.harmless):
            properties[name] = {"description": "Taken; changes nothing."}
        for name, why in cls.unserved.items():
            properties[name] = NULL | {"description": f"{why[:1].upper()}{why[1:]}."}
        if cls.model_config.get("extra") == "forbid":
            schema["additionalProperties"] = NULL
        return found


class Loose(Body):
    """A part of a conversation, which clients send back with whatever they know of it."""

    model_config = ConfigDict(extra="ignore", strict=True)


def shape_of(value: object) -> str:
    """Which of two a field is: a word or text, or else something with parts."""
    return "~text" if isinstance(value, str) else "~parts"


def _whole(value: object) -> object:
    """To JSON, 1.0 is a whole number as 1 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
TEXT = Tag("~text")
PARTS = Tag("~parts")
EITHER = Discriminator(shape_of)


def _within(setting: Setting[Any]) -> Any:
    return Field(ge=setting.limits.low, le=setting.limits.high)


def drawn(name: str) -> Any:
    """The bounds of a parameter of `Sampling`."""
    parameter = SAMPLING[name]
    if parameter.above:
        return Field(gt=parameter.low, le=parameter.high)
    return Field(ge=parameter.low, le=parameter.high)


class SwarmFields(Body):
    """How the ensemble answers; what is left out is as the node is set. `trace`: chunks tell which
    experts each token came from. `receipt`: a name, drawn by the client, under which what the
    experts have signed can be fetched when the answer has ended."""

    k: Annotated[int, _within(EXPERTS), WHOLE] | None = None
    extra: Annotated[int, _within(EXTRA), WHOLE] | None = None
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    domain: Annotated[str, Field(max_length=DOMAIN_BYTES_MAX)] | None = None
    speculation: Speculative | None = None
    trace: bool | None = None
    receipt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class Sampled(Body):
    """What all shapes of a request say of how to draw."""

    model: str
    stream: bool | None = None
    temperature: Annotated[float, drawn("temperature")] | None = None
    top_p: Annotated[float, drawn("top_p")] | None = None
    top_k: Annotated[int, drawn("top_k"), WHOLE] | None = None
    min_p: Annotated[float, drawn("min_p")] | None = None
    repetition_penalty: Annotated[float, drawn("repetition_penalty")] | None = None
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

    def schema_of(self, param: str) -> dict[str, Any] | None:
        match self.type:
            case "text":
                return None
            case "json_object":
                return {"type": "object"}
            case "json_schema":
                schema = self.json_schema.schema_ if self.json_schema else self.schema_
                if schema is None:
                    raise invalid(param, "of the type json_schema needs the schema")
                return schema

    def grammar(self, param: str) -> dict[str, str] | None:
        if self.type == "json_object":
            return {"kind": "json_object"}
        schema = self.schema_of(param)
        return None if schema is None else {"kind": "json_schema", "text": json.dumps(schema)}


def object_of(data: bytes) -> dict[str, Any]:
    """The JSON object of a body. Problem for anything else."""
    try:
        found = json.loads(data.decode(), parse_constant=_no_number)
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


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def read(kind: type[B], found: dict[str, Any]) -> B:
    """The body as its model. Problem that names the first field which is not as it must be."""
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise _problem(error.errors(include_url=False)[0], found) from None
    except RecursionError:
        raise Problem(400, "the body is nested too deep", code="invalid_json") from None


def _problem(error: ErrorDetails, found: dict[str, Any]) -> Problem:
    param, told = _path(error["loc"], found, error["type"] == "missing"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return Problem(
                400, f"unknown parameter: {param!r}", code="unknown_parameter", param=param
            )
        case "missing":
            return Problem(400, f"{param} is missing", code="missing_parameter", param=param)
        case "unserved":
            field = f"{param}.{told['field']}" if error["loc"] else told["field"]
            return refused(field, told["why"])
        case "union_tag_invalid" if told["discriminator"] == "'role'":
            return invalid(f"{param}.role", f"is {told['tag'][:40]!r}; it is {_or(told)}")
        case "union_tag_invalid":
            return refused(param, f"of the type {told['tag'][:40]!r} cannot be served")
        case "union_tag_not_found":
            return invalid(param, f"has no {told['discriminator'].strip(chr(39))}")
        case _:
            return invalid(param, f"is not as it must be: {error['msg']}")


def _or(told: dict[str, Any]) -> str:
    words = str(told["expected_tags"]).replace("'", "").split(", ")
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _path(loc: tuple[int | str, ...], found: Any, is_missing: bool) -> str:
    """Where it is in the body: pydantic also says which member of a union it tried."""
    path = ""
    for i, part in enumerate(loc):
        is_last = is_missing and i == len(loc) - 1
        if isinstance(found, dict) and (part in found or is_last):
            path, found = f"{path}.{part}", found.get(part)
        elif isinstance(found, list) and isinstance(part, int):
            path, found = f"{path}[{part}]", found[part] if part < len(found) else None
    return path.lstrip(".")[:200] or "body"
