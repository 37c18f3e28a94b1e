"""The models to compare: bundled experts and GGUF files, all over one vocabulary, under names that
tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.llama.demo import bundled
from swarmllm.adapters.llama.llama_text import open_text
from swarmllm.adapters.models.library import Named, find, place_of
from swarmllm.cli.probe import probe
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.errors import UsageError
from swarmllm.runtime.model_reference import (
    DEMO,
    Auto,
    DemoExpert,
    HubModel,
    NoModel,
    NotAReference,
    OwnFile,
    SmolLM2,
    parse_reference,
)

MODELS_MAX: Final = 64  # As many as a node ever asks about one token.


@dataclass(frozen=True, slots=True)
class Expert:
    """One model. `domains` are what its card declares; a plain file declares none. `digest` is the
    hexadecimal SHA-256 of the file."""

    name: str
    path: Path
    digest: str
    vocab: str
    n_params: int
    context_max: int
    size_bytes: int
    domains: tuple[str, ...]


def load_experts(
    models: Sequence[str], cache_dir: Path, say: Callable[[str], None]
) -> list[Expert]:
    """UsageError or LocalError, in one sentence, for a model that is not there, unfit, named twice,
    or of another vocabulary."""
    demos = [str(DemoExpert(card.name)) for card in bundled()]
    names = [
        name
        for given in list(models) or [DEMO]
        for name in (demos if given in {"demo", DEMO} else [given])
    ]
    if not names:
        raise UsageError("no bundled expert: name models with --model FILE.gguf")
    if len(names) > MODELS_MAX:
        raise UsageError(f"{len(names)} models are more than {MODELS_MAX}: name fewer")
    found: list[Expert] = []
    for name in dict.fromkeys(names):
        say(f"making {name} ready")
        expert = _expert(name, cache_dir)
        twin = next((other for other in found if other.digest == expert.digest), None)
        if twin is not None:
            raise UsageError(
                f"{name} is the same file as {twin.path} (SHA-256 {twin.digest[:12]}…):"
                " name each model once"
            )
        first = found[0] if found else expert
        if expert.vocab != first.vocab:
            raise UsageError(
                f"{first.name} (vocabulary {first.vocab[:12]}…)"
                f" and {expert.name} (vocabulary {expert.vocab[:12]}…) do not share a vocabulary:"
                " only models over one vocabulary can be pooled, so leave one of them out"
            )
        found.append(expert)
    return _distinct(found)


def _expert(name: str, cache_dir: Path) -> Expert:
    reference = _reference(name, cache_dir)
    found = find(reference, cache_dir, may_fetch=False, progress=lambda done, total: None)
    path, short, trained = found.path, found.name or "", 0
    if isinstance(reference, DemoExpert):
        # The file has rows for words that it never saw, too.
        trained = next(card.n_params for card in bundled() if card.name == reference.name)
    facts = probe(path, cache_dir)
    return Expert(
        name=short or str(facts["name"]),
        path=path,
        digest=facts["digest"],
        vocab=facts["vocab"],
        n_params=trained or facts["n_params"],
        context_max=facts["context_max"],
        size_bytes=facts["size_bytes"],
        domains=found.domains,
    )


def _reference(name: str, cache_dir: Path) -> Named:
    try:
        reference = parse_reference(name)
    except NotAReference as error:
        raise UsageError(f"the model {name!r} is not {error.expected}") from error
    if isinstance(reference, Auto | NoModel):
        raise UsageError(f"the model {name!r} names no one model: check the path")
    if isinstance(reference, OwnFile) and not reference.path.is_file():
        raise UsageError(
            f"the model {name!r} is neither a GGUF file nor a name like {DEMO}:NAME: check the path"
        )
    if isinstance(reference, SmolLM2 | HubModel) and place_of(reference, cache_dir) is None:
        raise UsageError(
            f"the model {name} is not on this machine: fetch it with `swarmllm models pull {name}`"
        )
    return reference


def _distinct(experts: Sequence[Expert]) -> list[Expert]:
    """Models of one name get their file's name, and a piece of the digest if that is not enough."""
    names = [expert.name for expert in experts]
    found = [replace(e, name=e.path.stem) if names.count(e.name) > 1 else e for e in experts]
    names = [expert.name for expert in found]
    return [
        replace(e, name=f"{e.name} {e.digest[:6]}") if names.count(e.name) > 1 else e for e in found
    ]


def encode_all(
    experts: Sequence[Expert], texts: Sequence[str]
) -> tuple[Vocabulary, dict[str, list[int]]]:
    """The vocabulary that all of them share, and the token ids of each text."""

    async def body() -> tuple[Vocabulary, dict[str, list[int]]]:
        async with open_text(experts[0].path) as text:
            return text.vocabulary, {one: await text.encode(one) for one in texts}

    return trio.run(body)


def right_expert(domain: str, experts: Sequence[Expert]) -> int | None:
    """Index of the largest expert that declares this domain; None if nobody does."""
    fitting = [i for i, expert in enumerate(experts) if domain in expert.domains]
    return max(fitting, key=lambda i: (experts[i].n_params, -i)) if fitting else None
