"""The commands `swarmllm audits` and `swarmllm verify`."""

from __future__ import annotations

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded


def register(app: typer.Typer) -> None:
    app.command("audits")(audits)


def audits(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show what the running node's audits have found, and what it thinks of each expert."""

    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.trust.views import show_audits

        return show_audits(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))
