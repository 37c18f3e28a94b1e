"""What is to be measured, checked once before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.errors import UsageError
from swarmllm.messages import CONTEXT_MAX
from swarmllm.runtime.user_path import user_path

# Tokens after the prompt: below this the weights would hardly have begun to matter.
SCORED_MIN: Final = 64
SEGMENT_MIN, SEGMENT_MAX = 96, 128  # Tokens of one domain inside a mixed text.
DOCUMENTS, TOKENS, PROMPT = 24, 512, 64
DOCUMENTS_QUICK, TOKENS_QUICK = 8, 320
NAME_MAX: Final = 32  # Columns of a table.
RESERVED: Final = ("mixed", "single-domain")  # Names of text kinds that are made of the corpora.
# Per text kind; intervals shrink with the square root, so more is patience wasted.
DOCUMENTS_MAX: Final = 1000
SEED: Final = 1  # Which documents are drawn where nobody says otherwise.
# Of what `--json` prints: numbers; this is some million lines of them.
REPORT_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """`documents` per text kind, `tokens` each at most, of which the first `prompt` are evidence
    only and the rest is scored. `corpora` are (name, path); empty means the bundled held-out text.
    `models` empty means all bundled experts."""

    models: tuple[str, ...]
    corpora: tuple[tuple[str, Path], ...]
    documents: int
    tokens: int
    prompt: int
    seed: int
    threads: int
    context: int
    is_quick: bool
    out: Path | None


def make_plan(
    models: Sequence[str],
    corpora: Sequence[str],
    *,
    documents: int | None,
    tokens: int | None,
    prompt: int | None,
    seed: int,
    threads: int,
    context: int,
    quick: bool,
    out: str | None,
) -> Plan:
    """UsageError for the first option that makes no sense."""
    plan = Plan(
        models=tuple(dict.fromkeys(models)),
        corpora=_named(corpora),
        documents=documents if documents is not None else (DOCUMENTS_QUICK if quick else DOCUMENTS),
        tokens=tokens if tokens is not None else (TOKENS_QUICK if quick else TOKENS),
        prompt=PROMPT if prompt is None else prompt,
        seed=seed,
        threads=threads,
        context=context,
        is_quick=quick,
        out=user_path(out) if out is not None else None,
    )
    _within("--documents", plan.documents, 1, DOCUMENTS_MAX)
    _within("--prompt", plan.prompt, 1, CONTEXT_MAX - SCORED_MIN)
    _within(
        "--tokens",
        plan.tokens,
        plan.prompt + SCORED_MIN,
        CONTEXT_MAX,
        f"the prompt of {plan.prompt} and {SCORED_MIN} to score",
    )
    _within("--seed", plan.seed, 0, 2**63 - 1)
    if plan.out is not None and plan.out.exists() and not plan.out.is_dir():
        raise UsageError(f"--out {plan.out} is a file, not a folder: name a folder for the report")
    return plan


def _within(name: str, value: int, low: int, high: int, why: str = "") -> None:
    if not low <= value <= high:
        raise UsageError(
            f"{name} {value} makes no sense: choose {low} to {high}"
            + (f" (at least {why})" if why else "")
        )


def _named(corpora: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    found: dict[str, Path] = {}
    for given in corpora:
        name, sign, path = given.partition("=")
        if not sign or not name or not path:
            raise UsageError(f"--corpus {given!r} is not NAME=PATH, such as code=./src")
        if name in RESERVED or len(name) > NAME_MAX or not name.isprintable():
            raise UsageError(
                f"--corpus {name!r} cannot be a name: use up to {NAME_MAX} printable characters,"
                f" and none of {', '.join(RESERVED)}"
            )
        if name in found:
            raise UsageError(
                f"--corpus {name!r} is named twice: give each corpus a name of its own"
            )
        found[name] = user_path(path)
    return tuple(found.items())
