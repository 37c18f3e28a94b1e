"""LiteLLM against a node: what it must do is in the names of `CASES`."""

from __future__ import annotations

import sys
from typing import Any

import litellm

from tests.e2e.judges.cases import HELLO, TOOLS, main

URL = sys.argv[1]
ASKED: dict[str, Any] = {
    "model": "openai/swarm",
    "api_base": f"{URL}/v1",
    "api_key": "none",
    "messages": HELLO,
    "max_tokens": 60,
}


def whole() -> None:
    found = litellm.completion(**ASKED)
    assert found.choices[0].message.content
    assert found.usage.completion_tokens


def streamed() -> None:
    chunks = [*litellm.completion(**ASKED, stream=True)]
    assert "".join(one.choices[0].delta.content or "" for one in chunks)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def tools() -> None:
    found = litellm.completion(**ASKED | {"max_tokens": 200}, tools=TOOLS, tool_choice="required")
    assert found.choices[0].message.tool_calls[0].function.name == "get_weather"


def anthropic() -> None:
    found = litellm.completion(
        **ASKED | {"model": "anthropic/swarm", "api_base": URL},
    )
    assert found.choices[0].message.content


def refused() -> None:
    try:
        litellm.completion(**ASKED | {"model": "openai/nobody"}, num_retries=0)
    except litellm.NotFoundError:
        return
    raise AssertionError("an unknown model was answered")


if __name__ == "__main__":
    main(whole, streamed, tools, anthropic, refused)
