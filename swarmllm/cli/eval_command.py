"""What can be typed after `swarmllm eval`; the work is imported only when it is wanted, as for
every command in `app`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded
from swarmllm.cli.helping import default_is

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="llama3-demo:NAME, smollm2:NAME or a GGUF file (repeatable). Without this: all "
        "bundled experts.",
    ),
]
Corpora = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        metavar="NAME=PATH",
        help="Text of one domain: a folder, a text file or JSON lines (repeatable)."
        " Without this: the bundled held-out text.",
    ),
]
Documents = Annotated[
    int | None,
    typer.Option("--documents", help="Documents of each kind of text." + default_is(24)),
]
Tokens = Annotated[
    int | None,
    typer.Option("--tokens", help="Tokens of each document, at most." + default_is(512)),
]
Prompt = Annotated[
    int, typer.Option("--prompt", help="Tokens at its beginning that are evidence and not scored.")
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed takes the same documents.")]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write evaluation.md and its pictures there.",
        rich_help_panel=o.OUTPUT,
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Fewer and shorter documents, in a minute or two.")
]


def evaluate(
    model: Models = None,
    corpus: Corpora = None,
    documents: Documents = None,
    tokens: Tokens = None,
    prompt: Prompt = 64,
    seed: Seed = 1,  # `eval.plan.SEED`, whose import help must not cost.
    out: Out = None,
    quick: Quick = False,
    threads: o.Threads = None,
    context: o.Context = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """Measure on held-out text whether the ensemble is better than its best member."""

    def body() -> int:
        from swarmllm.cli.eval.command import evaluate as run
        from swarmllm.cli.eval.plan import make_plan
        from swarmllm.cli.settings import config_of

        config = config_of(threads=threads, context_max=context, cache_dir=cache_dir)
        plan = make_plan(
            model or [],
            corpus or [],
            documents=documents,
            tokens=tokens,
            prompt=prompt,
            seed=seed,
            threads=config.threads,
            context=config.context_max,
            quick=quick,
            out=out,
        )
        return run(config, plan, as_json=json)

    raise typer.Exit(guarded(body))
