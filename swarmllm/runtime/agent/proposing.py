"""The proposers of a node's agent: the swarm's own model, and rules and a search without one.

They take turns within a cycle, rules first: the model was measured to be no better than chance
(docs/agent.md), and must not cost a cycle its first simulations. Who proposed stands in the note of
each step.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Final

from swarmllm.core.agent.proposers import InTurn, RuleProposer, SearchProposer
from swarmllm.core.agent.schema import prompt_of, read_suggestion, schema_of
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.effects import RunAgent
from swarmllm.core.grammar import GrammarSource
from swarmllm.errors import LocalError, SwarmError
from swarmllm.messages import PeerId
from swarmllm.runtime.service.answer import Answer
from swarmllm.runtime.service.request import TextRequest

TOKENS_MAX: Final = 320  # The longest proposal that the schema allows has some 250.
TEMPERATURE: Final = 0.7
PLAIN: Final = "rules and search"


class ModelProposer:
    """Asks the swarm, as any user would, for a text of the schema; nobody waits for it. `answer`
    begins one, of these experts (None: of any)."""

    def __init__(self, answer: Callable[[TextRequest, frozenset[PeerId] | None], Answer]) -> None:
        self._answer = answer

    async def propose(self, order: RunAgent) -> Suggestion:
        """LocalError or RemoteError if nothing comes of it."""
        situation = order.situation
        assert situation is not None
        schema = json.dumps(schema_of(situation))
        request = TextRequest(
            prompt=prompt_of(situation, order.domain, order.said),
            max_tokens=TOKENS_MAX,
            sampling={"temperature": TEMPERATURE, "top_p": 1.0},
            grammar=GrammarSource("json_schema", schema),
        )
        async with self._answer(request, order.experts) as answer:
            async for _ in answer:
                pass
        assert answer.result is not None
        if answer.result.reason == "length":
            raise LocalError(f"the model's proposal was not finished within {TOKENS_MAX} tokens")
        return read_suggestion(answer.result.text)


class SwarmProposer:
    """`has_model`: whether somebody could be asked now."""

    def __init__(
        self, model: ModelProposer, has_model: Callable[[], bool], rng: random.Random
    ) -> None:
        self._model, self._has_model, self._rng = model, has_model, rng
        self._plain = InTurn(PLAIN, (RuleProposer(), SearchProposer()))

    async def propose(self, order: RunAgent) -> tuple[Suggestion | None, str]:
        """The model has the even attempts of a cycle."""
        situation = order.situation
        assert situation is not None
        why = ""
        if order.attempt % 2 == 0 and self._has_model() and situation.bounds:
            try:
                return await self._model.propose(order), "the model"
            except SwarmError as fault:
                why = f", since {fault}"
        return self._plain.propose(situation, self._rng), f"{PLAIN}{why}"
