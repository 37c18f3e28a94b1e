"""What can be typed behind `swarmllm ledger`; each command imports its module only when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

ledger = typer.Typer(
    help="What happened on this node, in a log that shows every change made to it afterwards.",
    no_args_is_help=False,
)

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[FOLDER|FILE]",
        help="A data folder, or a file that `ledger export` wrote. Without this: this node's.",
    ),
]


@ledger.callback(invoke_without_command=True)
def ledger_root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@ledger.command("show")
def ledger_show(
    source: Source = None,
    first: Annotated[
        int | None, typer.Option("--from", metavar="NUMBER", help="The first entry to show.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many to show (the last 20).")] = 20,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only such, as halt (repeatable)."),
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Show entries, the last ones if nothing else is said."""

    def body() -> int:
        from swarmllm.cli.ledger.commands import show
        from swarmllm.cli.settings import config_of

        return show(config_of(data_dir=data_dir), source, first, count, kind or [], as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("verify")
def ledger_verify(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER|FILE|PROOF]",
            help="A data folder, a file that `ledger export` wrote, or a proof of `ledger prove`."
            " Without this: this node's.",
        ),
    ] = None,
    peer: Annotated[
        str | None,
        typer.Option("--peer", metavar="PEERID", help="Whose it must be; any node's without this."),
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Check every entry against what was signed. Exit code 1 if anything is not what it was."""

    def body() -> int:
        from swarmllm.cli.ledger.verify import verify
        from swarmllm.cli.settings import config_of

        return verify(config_of(data_dir=data_dir), source, peer, as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("prove")
def ledger_prove(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The number of the entry.")],
    source: Source = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The file to write, .tlog-proof by custom; never overwritten.",
        ),
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Write a proof that an entry is in the ledger, for anybody to check without this node."""

    def body() -> int:
        from swarmllm.cli.ledger.commands import prove
        from swarmllm.cli.settings import config_of

        return prove(config_of(data_dir=data_dir), number, source, out, as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("export")
def ledger_export(
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The file to write; never overwritten.")
    ],
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Write the whole ledger to a file, which `ledger verify` checks anywhere."""

    def body() -> int:
        from swarmllm.cli.ledger.commands import export
        from swarmllm.cli.settings import config_of

        return export(config_of(data_dir=data_dir), out, as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("alarms")
def ledger_alarms(source: Source = None, data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show what this node found wrong with other nodes' ledgers, what proves it, and whether you
    have acknowledged it."""

    def body() -> int:
        from swarmllm.cli.ledger.alarms import alarms
        from swarmllm.cli.settings import config_of

        return alarms(config_of(data_dir=data_dir), source, as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("acknowledge")
def ledger_acknowledge(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="The alarm: the first digits of its id are enough.")
    ],
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Say that you have looked at an alarm: `status` stops showing it. The alarm and its proof stay
    in the ledger, and that node is not trusted again."""

    def body() -> int:
        from swarmllm.cli.ledger.alarms import acknowledge
        from swarmllm.cli.settings import config_of

        return acknowledge(config_of(data_dir=data_dir), id, as_json=json)

    raise typer.Exit(guarded(body))


@ledger.command("witnesses")
def ledger_witnesses(
    source: Source = None, data_dir: o.DataDir = None, json: o.Json = False
) -> None:
    """Show who has cosigned the last checkpoint, whose ledgers this node watches, and alarms."""

    def body() -> int:
        from swarmllm.cli.ledger.commands import witnesses
        from swarmllm.cli.settings import config_of

        return witnesses(config_of(data_dir=data_dir), source, as_json=json)

    raise typer.Exit(guarded(body))
