"""What can be typed after `swarmllm service`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

service = typer.Typer(
    help="Run the node as a service of this machine: install, look at, remove.",
    no_args_is_help=False,
)


@service.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@service.command("install")
@o.spread
def install(
    settings: o.ServingSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the service's file, and change nothing.")
    ] = False,
    yes: o.Yes = False,
    tiny: o.Tiny = False,
    json: o.Json = False,
) -> None:
    """Start a node with these options now and at each log-in (systemd, launchd)."""

    def body() -> int:
        from swarmllm.cli.service.commands import install as run
        from swarmllm.cli.service.commands import join_words
        from swarmllm.cli.settings import config_of

        config = config_of(**settings)
        words = join_words(config, settings, yes=yes, tiny=tiny)
        return run(config, words, dry_run=dry_run, as_json=json)

    raise typer.Exit(guarded(body))


@service.command("status")
def status(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Whether the service is installed, and runs."""

    def body() -> int:
        from swarmllm.cli.service.commands import status as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@service.command("remove")
def remove(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """End the service and leave nothing of it; the node's own folder stays."""

    def body() -> int:
        from swarmllm.cli.service.commands import remove as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))
