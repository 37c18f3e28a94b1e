"""Who plays in the demo and what is asked: SmolLM2 and its specialists with questions, or the tiny
bundled experts with beginnings of stories, which is all that they know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.adapters.llama.demo import bundled
from swarmllm.adapters.models.catalog import SPECIALISTS
from swarmllm.errors import LocalError
from swarmllm.runtime.model_reference import DemoExpert, SmolLM2

NODES: Final = 4
K: Final = 3
INSTRUCTION: Final = "Answer briefly and clearly."  # So that the text ends within its tokens.


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to be continued, or (`is_question`) one that the model's chat template makes a turn of
    a conversation. `tokens`: of its answer, at most."""

    text: str
    tokens: int
    is_question: bool = False

    def asked(self) -> dict[str, Any]:
        """As `generate` takes it."""
        if not self.is_question:
            return {"prompt": self.text}
        system = {"role": "system", "content": INSTRUCTION}
        return {"messages": [system, {"role": "user", "content": self.text}]}


@dataclass(frozen=True, slots=True)
class Cast:
    """`experts` has one for each node, and `names` what people read for them. `every` is asked of
    all nodes at once, one each."""

    experts: Sequence[DemoExpert | SmolLM2]
    names: Sequence[str]
    told: str
    first: Prompt
    second: Prompt
    every: Sequence[Prompt]
    sampling: Mapping[str, float]

    @property
    def asking(self) -> dict[str, Any]:
        """What every request has: K experts for each token, and one more that insures them."""
        return {"k": K, "extra": 1, **self.sampling}


def tiny_cast() -> Cast:
    """Four different experts if there are as many; otherwise the first one several times, because
    the prompts are its kind of text."""
    names = filled(sorted((card.name for card in bundled()), key=lambda n: (n != "prose", n)))
    stories = (
        "It was a dark night, and the old man",
        "She looked out of the window and",
        "They walked along the river until",
        "In the morning the house was",
    )
    return Cast(
        experts=[DemoExpert(name) for name in names],
        names=names,
        told="Their experts are tiny, for demonstration: they know how prose or code sounds,"
        " and nothing else.",
        first=Prompt(stories[0], 32),
        second=Prompt(stories[1], 40),
        every=[Prompt(story, 0) for story in stories],
        sampling={"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1},
    )


def real_cast() -> Cast:
    """SmolLM2 itself, then its specialists, as far as there are any."""
    names = filled(["", *sorted(SPECIALISTS)])
    questions = (
        "What is gravity?",
        "Why is the sky blue?",
        "How does a bicycle stay upright?",
        "What do bees do in winter?",
    )
    return Cast(
        experts=[SmolLM2(name) for name in names],
        names=[name or "smollm2" for name in names],
        told="Each has a model of 135 million parameters: it answers in whole sentences and knows"
        " a little of everything.",
        first=Prompt(questions[0], 80, is_question=True),
        second=Prompt(questions[1], 64, is_question=True),
        every=[Prompt(question, 0, is_question=True) for question in questions],
        # The likeliest token each time: so small a model has no sense to spare.
        sampling={"temperature": 0.0, "repetition_penalty": 1.05},
    )


def filled(names: Sequence[str]) -> list[str]:
    """So many names as there are nodes: the first of them again where there are too few."""
    if not names:
        raise LocalError("no demo experts are bundled with this installation; reinstall swarmllm")
    return [*names[:NODES], *([names[0]] * (NODES - len(names)))]
