"""LangChain's ChatOpenAI against a node."""

from __future__ import annotations

import sys
from typing import Any, Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict

from tests.e2e.judges.cases import main


def weather(city: Literal["Paris", "London"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


get_weather = tool("get_weather")(weather)


class Kind(BaseModel):
    """Of what it is."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["a", "b"]


def asked(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{sys.argv[1]}/v1", api_key="none", model="swarm", max_tokens=200, **more
    )


def whole() -> None:
    found = asked().invoke("Say hello.")
    assert found.content
    assert found.usage_metadata


def streamed() -> None:
    assert "".join(str(one.content) for one in asked().stream("Say hello."))


def stops() -> None:
    assert "e" not in asked(stop_sequences=["e"]).invoke("Say hello.").content


def parsed() -> None:
    assert isinstance(asked().with_structured_output(Kind).invoke("Which kind?"), Kind)


def tools() -> None:
    model = asked().bind_tools([get_weather])
    said: list[Any] = [HumanMessage("What is the weather in Paris?")]
    first = asked().bind_tools([get_weather], tool_choice="required").invoke(said)
    [call] = first.tool_calls[:1]
    result = get_weather.invoke(call["args"])
    calls = [ToolMessage(result, tool_call_id=one["id"]) for one in first.tool_calls]
    assert model.invoke([*said, first, *calls]).content is not None


def responses() -> None:
    assert asked(use_responses_api=True).invoke("Say hello.").content


if __name__ == "__main__":
    main(whole, streamed, stops, parsed, tools, responses)
