"""What the methods are called, in records and in tables, and which of them the claim must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EXPERT: Final = "expert "
TITLES: Final = {
    "prompt_perplexity": "best single by prompt perplexity",
    "label": "right expert by the prompt's label",
    "label_oracle": "right expert by segment (oracle)",
    "uniform": "uniform arithmetic mean",
    "geometric": "uniform geometric mean",
    "perplexity_softmax": "perplexity softmax on the prompt",
    "running_perplexity": "best single by running perplexity",
    "running_softmax": "perplexity softmax, running",
    "em": "EM on the prompt, frozen",
    "em_soft_bayes": "EM, then Soft-Bayes",
    "adaptive_k": "adaptive K, EM frozen",
    "adaptive_k_soft_bayes": "adaptive K, EM then Soft-Bayes",
}
WHOLE: Final = ("em", "em_soft_bayes")
ADAPTIVE: Final = ("adaptive_k", "adaptive_k_soft_bayes")
OURS: Final = (*WHOLE, *ADAPTIVE)
BASELINES: Final = ("prompt_perplexity", "label", "uniform", "geometric", "perplexity_softmax")
RUNNING: Final = ("running_perplexity", "running_softmax")
"""They see the text so far, as Soft-Bayes does; the baselines above see the prompt alone, as frozen
EM does."""
TUNED: Final = ("perplexity_softmax", "running_perplexity", "running_softmax")
"""One of several settings is taken, the best on each text in hindsight: no baseline shall lose for
want of tuning."""
LONE: Final = ("prompt_perplexity", "label")
"""Baselines that ask one expert for each token."""


def order_of(experts: int) -> list[str]:
    """All methods as they stand in tables."""
    return [
        *(f"{EXPERT}{k}" for k in range(experts)),
        *("prompt_perplexity", "label", "uniform", "geometric", "perplexity_softmax"),
        *("em", "adaptive_k"),
        *("running_perplexity", "running_softmax", "em_soft_bayes", "adaptive_k_soft_bayes"),
        "label_oracle",
    ]


def title_of(method: str, experts: Sequence[str]) -> str:
    return (
        f"expert {experts[int(method.removeprefix(EXPERT))]}"
        if method.startswith(EXPERT)
        else TITLES[method]
    )


def record_name(method: str, experts: Sequence[str]) -> str:
    """As records name it: `expert:prose`, `em`."""
    return (
        f"expert:{experts[int(method.removeprefix(EXPERT))]}"
        if method.startswith(EXPERT)
        else method
    )
