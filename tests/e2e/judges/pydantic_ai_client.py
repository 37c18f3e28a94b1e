"""pydantic-ai against a node."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.e2e.judges.cases import main

MODEL = OpenAIChatModel(
    "swarm", provider=OpenAIProvider(base_url=f"{sys.argv[1]}/v1", api_key="none")
)


class Kind(BaseModel):
    """Of what it is."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["a", "b"]


def whole() -> None:
    assert Agent(MODEL, model_settings={"max_tokens": 60}).run_sync("Say hello.").output


def streamed() -> None:
    async def body() -> str:
        async with Agent(MODEL, model_settings={"max_tokens": 60}).run_stream(
            "Say hello."
        ) as found:
            return "".join([one async for one in found.stream_text(delta=True)])

    assert asyncio.run(body())


def parsed_by_a_tool() -> None:
    agent = Agent(MODEL, output_type=Kind, model_settings={"max_tokens": 200})
    assert isinstance(agent.run_sync("Which kind?").output, Kind)


def parsed_by_a_schema() -> None:
    agent = Agent(MODEL, output_type=NativeOutput(Kind), model_settings={"max_tokens": 200})
    assert isinstance(agent.run_sync("Which kind?").output, Kind)


if __name__ == "__main__":
    main(whole, streamed, parsed_by_a_tool, parsed_by_a_schema)
