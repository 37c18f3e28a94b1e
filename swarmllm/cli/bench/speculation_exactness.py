"""Whether drafts change a text: the same requests to the same experts in every mode, compared token
by token with strict mode, with the probability that each token had.

What is learned of the experts in one answer weighs in the next. So each mode gets a swarm of its
own, which has never answered, and asks it the same in the same order. The experts are different
models, so that drafts are rejected as well; they answer reproducibly, since otherwise an engine's
rounding differs with how many positions it computes together. The requests are drawn with
penalties, with a bias, with every bound on what may be drawn, and under a grammar; some are greedy.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.adapters.models.library import bring
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.bench.speculation import MODES, open_swarm
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import DemoExpert
from swarmllm.testing.proxy import Link

# What a node has seen of experts weighs them, and who answers in time is what it sees. So here
# everybody's word counts from the start, and texts are compared and not acquaintances.
PINS: Final = ("trust.results=0", "trust.new_share=1000", "trust.hidden_share=0")
FLAGS: Final = ("--reproducible", *(word for pin in PINS for word in ("--pin", pin)))
ASKED: Final[Mapping[str, Mapping[str, Any]]] = {
    "greedy": {"temperature": 0.0},
    "greedy with penalties": {"temperature": 0.0, "repetition_penalty": 1.2, "penalty_last": 32},
    "drawn": {"temperature": 1.0, "top_p": 1.0},
    "drawn with bounds": {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    "drawn with penalties": {
        "temperature": 0.9,
        "repetition_penalty": 1.15,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.2,
    },
    "drawn with a bias": {"temperature": 0.7, "bias": [[279, 2.0], [323, -5.0]]},
    "of a grammar": {
        "temperature": 0.8,
        "grammar": {"kind": "regex", "text": "([a-z]{1,9} ){12}[a-z]{1,9}\\."},
    },
}
PROMPTS: Final = (
    "It was a dark night, and the old man",
    "She had never seen the sea before, but",
    "def read(path):\n    with open(path) as file:\n",
    "The first thing that he said was",
)
EXPERTS: Final = ("prose", "prose-small", "code", "ops")
LINK: Final = Link(delay_s=0.025)
TOKENS: Final = 48
ANSWER_S: Final = 120.0

Told = tuple[tuple[int, float], ...]
"""The tokens of a text, and the logarithm of what each of them had."""


@dataclass(slots=True)
class Texts:
    """What one mode has written, by request."""

    by_request: dict[tuple[int, str], Told] = field(default_factory=dict)
    drafted: int = 0
    accepted: int = 0


async def measure(
    quick: bool, config: Config, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    models: list[Path] = []
    for name in EXPERTS:
        say(f"making the model {name} ready")
        may_fetch = not config.offline
        found = await bring(
            DemoExpert(name), config.cache_dir, may_fetch=may_fetch, show=lambda *_: None
        )
        models.append(found.path)
    prompts = PROMPTS[:1] if quick else PROMPTS
    strict = await write("off", models, prompts, config.cache_dir, say)
    for mode in MODES[1:]:
        texts = await write(mode, models, prompts, config.cache_dir, say)
        different = differences(strict, texts)
        yield Measurement(
            f"texts that are those of strict mode with speculation {mode}",
            len(strict.by_request) - len(different),
            "answers",
            len(strict.by_request),
            {"k": len(EXPERTS), "one_way_ms": 1000 * LINK.delay_s},
            len(strict.by_request),
            {
                "tokens": sum(map(len, texts.by_request.values())),
                "drafted": texts.drafted,
                "accepted": texts.accepted,
                "different": different,
            },
        )


def differences(strict: Texts, texts: Texts) -> list[str]:
    """Which texts are others, and where they begin to be."""
    found = []
    for (prompt, asked), told in strict.by_request.items():
        other = texts.by_request[prompt, asked]
        if other != told:
            pairs = zip(told, other, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(told), len(other)))
            found.append(f"{asked}, prompt {prompt}: from token {at}")
    return found


async def write(
    mode: str,
    models: Sequence[Path],
    prompts: Sequence[str],
    cache_dir: Path,
    say: Callable[[str], None],
    tokens: int = TOKENS,
) -> Texts:
    """All requests in one mode, in a swarm that has never answered; the first of the models is the
    requester's."""
    texts = Texts()
    with temporary_folder() as folder:
        async with open_swarm(folder, LINK, models, cache_dir, say, FLAGS) as swarm:
            for number, prompt in enumerate(prompts):
                for name, fields in ASKED.items():
                    say(f"speculation {mode}: prompt {number + 1} of {len(prompts)}, {name}")
                    request = {
                        **{"prompt": prompt, "k": len(models), "extra": 0, "seed": number},
                        **{"max_tokens": tokens, "speculation": mode, **fields},
                    }
                    told: list[tuple[int, float]] = []
                    end = None
                    with trio.move_on_after(ANSWER_S):
                        async with asking(swarm.folder, "generate", **request) as answer:
                            async for record in answer:
                                if record["event"] == "token":
                                    told.append((record["id"], record["logprob"]))
                                elif record["event"] == "end":
                                    end = record
                    if end is None or end["reason"] not in {"length", "eos"}:
                        raise LocalError(
                            f"an answer in mode {mode} ended after {len(told)} tokens:"
                            f" {end}{swarm.last_words()}"
                        )
                    texts.by_request[number, name] = tuple(told)
                    texts.drafted += end["drafted"]
                    texts.accepted += end["accepted"]
    return texts
