"""`swarmllm settings`: what can be typed of the settings that the swarm can change."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

settings = typer.Typer(
    help="Show the settings that the swarm can change, and what this node goes by.",
    no_args_is_help=False,
)


@settings.callback(invoke_without_command=True)
def show_all(context: typer.Context, data_dir: o.DataDir = None, json: o.Json = False) -> None:
    if context.invoked_subcommand is None:
        _run(None, data_dir, json)


@settings.command("show")
def show(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The setting, such as router.hedging_extra.")
    ],
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Show one setting in full: what it does, its bounds, who changed it last."""
    _run(key, data_dir, json)


def _run(key: str | None, data_dir: str | None, json: bool) -> None:
    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.settings_view import show_settings

        return show_settings(config_of(data_dir=data_dir), key, as_json=json)

    raise typer.Exit(guarded(body))
