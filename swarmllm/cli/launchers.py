"""`swarmllm run TOOL`: starts a coding tool of the user's with the addresses of the node that runs
here, by the variables and options that the tool itself has for that."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import shell_word, write_stdout
from swarmllm.cli.waiting import QUESTION
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record

KEY_VARIABLE: Final = "SWARM_API_KEY"
NO_KEY: Final = "none"  # Clients want some key; a node without keys looks at none.
OUTPUT_TOKENS: Final = 1024  # Of a context that opencode is told.


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tool is to ask: `url` without a path, and the model's name there."""

    url: str
    model: str
    key: str
    context: int


@dataclass(frozen=True, slots=True)
class Launch:
    """`options` stand before those of the user."""

    variables: dict[str, str]
    options: list[str] = field(default_factory=list)


def _claude(to: Target) -> Launch:
    kinds = ("", "SMALL_FAST_", "DEFAULT_OPUS_", "DEFAULT_SONNET_", "DEFAULT_HAIKU_")
    return Launch(
        {
            "ANTHROPIC_BASE_URL": to.url,
            "ANTHROPIC_AUTH_TOKEN": to.key,
            **{f"ANTHROPIC_{kind}MODEL": to.model for kind in kinds},
            "MAX_THINKING_TOKENS": "0",  # Thinking cannot be served.
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
    )


def _codex(to: Target) -> Launch:
    provider = {
        "name": "swarmllm",
        "base_url": f"{to.url}/v1",
        "env_key": KEY_VARIABLE,
        "wire_api": "responses",
    }
    settings = {"model_provider": "swarmllm"} | {
        f"model_providers.swarmllm.{name}": value for name, value in provider.items()
    }
    told = [f'{name}="{value}"' for name, value in settings.items()]
    # Its search runs at OpenAI, and its further agents come as a kind of tool that only OpenAI has.
    told += ['web_search="disabled"', "features.multi_agent=false"]
    options = [word for one in told for word in ("-c", one)]
    return Launch({KEY_VARIABLE: to.key}, [*options, "-m", to.model])


def _opencode(to: Target) -> Launch:
    limit = {"context": to.context, "output": min(OUTPUT_TOKENS, to.context // 2)}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "swarmllm",
        "options": {"baseURL": f"{to.url}/v1", "apiKey": to.key},
        "models": {to.model: {"name": to.model, "limit": limit}},
    }
    settings = {"provider": {"swarmllm": provider}, "model": f"swarmllm/{to.model}"}
    return Launch({"OPENCODE_CONFIG_CONTENT": json.dumps(settings)})


def _aider(to: Target) -> Launch:
    variables = {"OPENAI_API_BASE": f"{to.url}/v1", "OPENAI_API_KEY": to.key}
    return Launch(variables, ["--model", f"openai/{to.model}"])


TOOLS: Final[dict[str, Callable[[Target], Launch]]] = {
    "claude": _claude,
    "codex": _codex,
    "opencode": _opencode,
    "aider": _aider,
}


def launch(config: Config, tool: str, words: Sequence[str], *, model: str, show: bool) -> int:
    """In the place of this process, with the user's own `words`. `show`: only write what would be
    run. UsageError for an unknown tool; LocalError if it, or the node, is not here."""
    if tool not in TOOLS:
        raise UsageError(f"swarmllm run knows no tool {tool[:40]!r}; it knows {', '.join(TOOLS)}")
    made = TOOLS[tool](_target(config, model))
    command = [tool, *made.options, *words]
    if show:
        variables = [f"{name}={shell_word(value)}" for name, value in made.variables.items()]
        write_stdout(" ".join([*variables, *map(shell_word, command)]) + "\n")
        return OK
    path = shutil.which(tool)
    if path is None:
        raise LocalError(
            f"the program {tool} is not on this machine's PATH; install it, and run this again"
        )
    _become(path, command, made.variables)


def _become(path: str, command: list[str], variables: dict[str, str]) -> NoReturn:
    try:
        os.execve(path, command, {**os.environ, **variables})
    except OSError as error:
        raise LocalError(f"{path} cannot be started ({error.strerror}); install it anew") from None


def _target(config: Config, model: str) -> Target:
    found: list[Record] = []

    async def body() -> int:
        found.append(await ask(config.data_dir, "status", QUESTION))
        return OK

    run(body)
    [status] = found
    if not status.get("http"):
        raise LocalError(
            "the node that runs here has no HTTP API; start it without --no-api, or wait until it"
            " has started"
        )
    contexts = [one["context_max"] for one in status["experts"]]
    key = os.environ.get(KEY_VARIABLE, NO_KEY)
    return Target(status["http"], model, key, min(contexts, default=config.context_max))
