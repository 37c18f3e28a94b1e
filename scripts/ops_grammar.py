"""Sentences with choices: one function, because varied wording is all that it is for."""

from __future__ import annotations

import random
import re

_INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def say(rng: random.Random, template: str, /, **facts: object) -> str:
    """One expansion of `template`: [this|that] is a choice, choices may stand within choices,
    {name} is a fact."""
    while found := _INNERMOST.search(template):
        template = (
            template[: found.start()] + rng.choice(found[1].split("|")) + template[found.end() :]
        )
    return template.format(**facts)
