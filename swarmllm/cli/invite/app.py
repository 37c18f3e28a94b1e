"""What can be typed after `swarmllm invite`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded
from swarmllm.cli.helping import default_is

invite = typer.Typer(
    help="Print one line with which others join this swarm: `swarmllm join LINE`.",
    no_args_is_help=False,
)


@invite.callback(invoke_without_command=True)
def make(
    context: typer.Context,
    expires: Annotated[
        str,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="How long the invite is good: 30m, 12h or 7d, up to a year." + default_is("7d"),
            show_default=False,
        ),
    ] = "7d",
    uses: Annotated[
        int | None,
        typer.Option(
            "--uses",
            metavar="N",
            help="How many may join with it; this node counts. In a closed swarm only.",
        ),
    ] = None,
    qr: Annotated[
        bool, typer.Option("--qr", help="Also as a QR code.", rich_help_panel=o.OUTPUT)
    ] = False,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    if context.invoked_subcommand is not None:
        return

    def body() -> int:
        from swarmllm.cli.invite.commands import make_invite
        from swarmllm.cli.settings import config_of

        config = config_of(data_dir=data_dir)
        return make_invite(config, expires, uses, is_drawn=qr, as_json=json)

    raise typer.Exit(guarded(body))


@invite.command("show")
def show(
    line: Annotated[str, typer.Argument(metavar="LINE", help="The invite.")],
    json: o.Json = False,
) -> None:
    """Tell what an invite says, without joining."""

    def body() -> int:
        from swarmllm.cli.invite.commands import show_invite

        return show_invite(line, as_json=json)

    raise typer.Exit(guarded(body))
