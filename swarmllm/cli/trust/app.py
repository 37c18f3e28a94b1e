"""The commands `swarmllm audits` and `swarmllm verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded


def register(app: typer.Typer) -> None:
    app.command("audits")(audits)
    app.command("verify")(verify)


def audits(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show what the running node's audits have found, and what it thinks of each expert."""

    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.trust.views import show_audits

        return show_audits(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


def verify(
    receipts: Annotated[
        list[str], typer.Argument(metavar="RECEIPT...", help="Files that --receipt has written.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Compare with this model, as for join; its sessions are scored again here.",
        ),
    ] = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask",
            help="Have the node that runs here ask other holders of each model. They see the text.",
        ),
    ] = False,
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    threads: o.Threads = None,
    json: o.Json = False,
) -> None:
    """Look at receipts: whether they are signed, contradict each other, and agree with a model."""

    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.trust.receipts import ask_holders
        from swarmllm.cli.trust.receipts import verify as run
        from swarmllm.errors import UsageError

        if ask and model is not None:
            raise UsageError("--ask and --model are two ways to compare; give one of them")
        if ask:
            return ask_holders(config_of(data_dir=data_dir), receipts, as_json=json)
        given = {"model": model} if model is not None else {}
        config = config_of(cache_dir=cache_dir, threads=threads, **given)
        return run(config, receipts, is_compared=model is not None, as_json=json)

    raise typer.Exit(guarded(body))
