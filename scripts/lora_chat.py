"""Conversations that keep a specialist able to answer: questions from templates, answered by the
base model itself.

Training on a model's own samples changes nothing on average, so it pulls back whatever the domain's
text would take away. The questions are this project's, the answers are made here from a fixed seed;
the base's licence (Apache-2.0) covers both uses.

Answers are written for many questions at once: every row takes its question token by token and then
goes on with its own samples, so that no row waits for a longer one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURE, TOP_P = 0.8, 0.95

_PATTERNS = (
    "What is {a}?",
    "Explain {a} in two sentences.",
    "Why is {a} important?",
    "Give me three facts about {a}.",
    "How would you explain {a} to a child?",
    "Write a short poem about {a}.",
    "What is the difference between {a} and {b}?",
    "Name one advantage and one disadvantage of {a}.",
    "Write one sentence that mentions {a} and {b}.",
    "I want to learn about {a}. Where should I begin?",
)
_THINGS = (
    *("gravity", "photosynthesis", "a computer network", "the moon", "democracy", "bread"),
    *("the heart", "a volcano", "electricity", "a library", "the ocean", "a bicycle", "music"),
    *("a prime number", "climate", "a telescope", "money", "sleep", "a bridge", "an ecosystem"),
    *("the French Revolution", "a vaccine", "probability", "a glacier", "friendship", "a magnet"),
    *("an algorithm", "a whale", "the printing press", "tea", "a triangle", "patience"),
)
_TASKS = (
    "Say hello to a new colleague.",
    "What is 17 plus 25?",
    "Translate 'good morning' into French.",
    "List five fruits.",
    "Who are you?",
    "Can you help me to plan a birthday party?",
    "Write an e-mail that asks for a day off.",
    "Correct this sentence: he go to school yesterday.",
    "Write a Python function that adds two numbers.",
    "What does a for loop do?",
    "Suggest a title for a story about a lost dog.",
    "Summarise in one sentence: The sun rose over the hills, and the village woke slowly.",
    "What should I pack for a week at the sea?",
    "Tell me a joke.",
    "How do I boil an egg?",
    "Is it better to walk or to run?",
)
_LABEL = re.compile(r"^(Q|A): ", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    role: str
    content: str


def questions() -> list[str]:
    """Some three hundred, in an order in which neighbours differ."""
    found = []
    for i, (pattern, thing) in enumerate(itertools.product(_PATTERNS, _THINGS)):
        found.append(pattern.format(a=thing, b=_THINGS[(i * 7 + 3) % len(_THINGS)]))
    return [*_TASKS, *(found[i * 37 % len(found)] for i in range(len(found)))]


def turns_of_dialogue(text: str) -> tuple[Turn, ...]:
    """The turns of a text of `Q: ` and `A: ` paragraphs; none if it is not one of whole pairs."""
    parts = _LABEL.split(text)[1:]
    labels, contents = parts[::2], [part.strip() for part in parts[1::2]]
    if labels != ["Q", "A"] * (len(labels) // 2) or not all(contents):
        return ()
    roles = {"Q": "user", "A": "assistant"}
    return tuple(Turn(roles[q], c) for q, c in zip(labels, contents, strict=True))


def draw(logits: Tensor, rng: torch.Generator) -> Tensor:
    """int64[rows] of float32[rows, vocabulary], at TEMPERATURE and TOP_P."""
    p, order = torch.softmax(logits / TEMPERATURE, -1).sort(-1, descending=True)
    p = p * (p.cumsum(-1) - p < TOP_P)
    return order.gather(1, torch.multinomial(p, 1, generator=rng))[:, 0]


def write_answers(
    step: Callable[[Tensor, int], Tensor],
    asked: Sequence[Sequence[int]],
    end: int,
    tokens: int,
    seed: int,
) -> list[list[int]]:
    """The answer to each of `asked`, up to its `end`, which is left out, or at most `tokens` ids;
    `step(ids int64[rows], position)` gives the logits after them, float32[rows, vocabulary]."""
    rng = torch.Generator().manual_seed(seed)
    found: list[list[int]] = [[] for _ in asked]
    ended = [False] * len(asked)
    longest = max(map(len, asked)) + tokens
    ids = torch.tensor([prompt[0] for prompt in asked])
    for position in range(longest - 1):
        drawn = draw(step(ids, position), rng).tolist()
        following = []
        for row, prompt in enumerate(asked):
            if position + 1 < len(prompt):
                following.append(prompt[position + 1])
                continue
            ended[row] |= drawn[row] == end or len(found[row]) >= tokens
            if not ended[row]:
                found[row].append(drawn[row])
            following.append(drawn[row])
        if all(ended):
            break
        ids = torch.tensor(following)
    return found
