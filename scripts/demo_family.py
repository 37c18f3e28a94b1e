"""The bundled experts, one entry each: what it learns from and how large it is. Two experts of one
domain share a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmllm.adapters.llama.demo import Shape


@dataclass(frozen=True)
class Expert:
    """`domain` names the reader of its corpus (demo_corpus.py) and the words below."""

    domain: str
    shape: Shape
    summary: str


@dataclass(frozen=True)
class Domain:
    """What is said of a domain's text on a card, and what its experts are tried with."""

    data: str
    licence: str
    opening: str  # Of the sample.
    prompts: tuple[str, ...]  # Of the vectors; the last one has words that are rare in the corpus.
    # Tokens that say what can be known, and how much more than others they weigh while training.
    weighed: Mapping[str, float] = field(default_factory=dict)
    by_document: bool = False  # Half of the windows begin with a document.


DOMAINS = {
    "prose": Domain(
        "21 English novels and tales in the public domain (Austen, the Brontës, Dickens, Twain,"
        " Melville and others), without the front and back matter of their digital editions;"
        " four more (Peter Pan, Sense and Sensibility, The Adventures of Sherlock Holmes,"
        " The War of the Worlds) are never trained on, and are the validation text",
        "The training text is in the public domain."
        " The weights are under this project's MIT licence.",
        "It was a cold evening in November, and",
        (
            "It was a",
            "“I beg your",
            "“I do not know,” said the old man, “what you mean by",
            "I saw him then for the first",
            "The bitcoin blockchain in São Paulo 東京",
        ),
    ),
    "code": Domain(
        "the source of Python's own standard library as the interpreter that trained it carries"
        " it, without most of its tests; one file in twenty is kept for validation",
        "The training text is under the Python Software Foundation licence, which allows this use;"
        " the model may repeat short pieces of it."
        " The weights are under this project's MIT licence.",
        "def read_lines(path):\n    ",
        (
            "import os\n",
            "class Node:\n    def __init__(self, name):\n        self.",
            'def main():\n    pass\n\nif __name__ == "__',
            "    raise NotImplemented",
            "def kubernetes(東京): return São",
        ),
    ),
    "ops": Domain(
        "documents about running a swarm, written from simulated runs of this project's own nodes:"
        " half by `scripts/demo_ops.py` (metrics, what was wrong, which setting was changed, what"
        " happened after; metrics and settings as an earlier version had them), half by"
        " `scripts/ops_told.py` (today's metrics and settings, what was tried, whether it was"
        " better); one simulated swarm in twenty, or in twelve, is kept for validation, with all"
        " that is told of it",
        "The training text is made by this project's own scripts."
        " Text and weights are under this project's MIT licence.",
        "# Runbook: straggler\n\nSymptom:",
        (
            "Metrics snapshot:\n",
            "Q: What is wrong here?\n",
            '{"action":"set","setting":"extra","from":1,"to":',
            "round_ms_p95 went",
            "# Incident: straggler\n\n"
            "The zeppelin 東京 takes 410 ms a round where the median expert",
        ),
        weighed={" better": 10.0, " worse": 10.0, " no": 3.0},  # What came of a change.
        by_document=True,
    ),
}


def _shape(dim: int, layers: int, heads: int, kv_heads: int, hidden: int) -> Shape:
    """Widths are multiples of 32, the block of the stored weights."""
    return Shape(
        dim, layers, heads, kv_heads, hidden, context=1024, rope_base=10000.0, norm_eps=1e-5
    )


EXPERTS = {
    "prose": Expert(
        "prose",
        _shape(256, 5, 4, 2, 704),
        "A tiny model of nineteenth-century English prose, for demonstration",
    ),
    "prose-small": Expert(
        "prose",
        _shape(160, 3, 5, 1, 448),
        "A still smaller model of nineteenth-century English prose, for demonstration",
    ),
    "code": Expert(
        "code", _shape(256, 5, 4, 2, 704), "A tiny model of Python source code, for demonstration"
    ),
    "ops": Expert(
        "ops", _shape(192, 5, 6, 2, 576), "A tiny model of how this swarm is run, for demonstration"
    ),
}
