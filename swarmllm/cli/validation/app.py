"""What can be typed of validation; each command imports its module only when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

validate = typer.Typer(
    help="Try a change in the simulator, on a swarm like the one that this node knows.",
    no_args_is_help=False,
)

Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        metavar="S",
        min=1,
        max=86_400,
        help="Begin no further simulation after so long; what was found until then counts.",
    ),
]
Pairs = Annotated[
    int,
    typer.Option(
        "--pairs",
        metavar="N",
        help="At most so many simulations with and as many without the change: 8, 16 or 32.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of validation to the program."""
    validate.callback(invoke_without_command=True)(_help)
    app.add_typer(validate, name="validate")


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@validate.command("set")
def validate_set(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The setting; `swarmllm settings` shows all.")
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A whole number of its unit.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the report here; without this to validation-KEY-VALUE.json.",
        ),
    ] = None,
    seconds: Seconds = 300.0,
    pairs: Pairs = 32,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Say whether the swarm would be better off with another value of a setting: with and without
    it, on the running node's snapshot of the swarm and on its recording of the last 24 hours. The
    report is what `swarmllm propose set KEY VALUE --evidence FILE` takes."""

    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.validation.command import validate_change

        config = config_of(data_dir=data_dir)
        validate_change(config, (key, value), out, (seconds, pairs), as_json=json)
        return 0

    raise typer.Exit(guarded(body))
