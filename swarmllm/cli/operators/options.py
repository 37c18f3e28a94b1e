"""Options that several operators' commands share, each declared once; `cli.options` has those of
all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o

OPERATOR = "Operator"

PassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Take the passphrase from this file's only line (or from the file that"
        " SWARMLLM_PASSPHRASE_FILE names).",
        rich_help_panel=OPERATOR,
    ),
]
Out = Annotated[
    str, typer.Option("--out", metavar="FILE", help="The file to write; never overwritten.")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=60,
        help="How long to wait for acknowledgements.",
        rich_help_panel=OPERATOR,
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEYFILE",
        help="The key file to sign with (repeatable).",
        rich_help_panel=OPERATOR,
    ),
]
Merge = Annotated[
    list[str] | None,
    typer.Option(
        "--merge",
        metavar="FILE",
        help="Add the signatures of this copy of the file (repeatable).",
        rich_help_panel=OPERATOR,
    ),
]
Through = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="MULTIADDR",
        help="Publish to these peers by a node for this command alone,"
        " instead of the running one (repeatable).",
        rich_help_panel=o.NODE,
    ),
]
