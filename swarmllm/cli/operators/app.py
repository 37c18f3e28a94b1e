"""What operators can type; each command imports its module only when it runs, as in `cli.app`, so
that help costs nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded
from swarmllm.cli.operators import charter_app
from swarmllm.cli.operators.options import (
    OPERATOR,
    Keys,
    Merge,
    Out,
    PassphraseFile,
    Through,
    Wait,
)

keys = typer.Typer(
    help="Make and show your own key as an operator, sealed with a passphrase.",
    no_args_is_help=False,
)
halt = typer.Typer(
    help="Stop the whole swarm with one signature, and see that it has.", no_args_is_help=False
)
resume = typer.Typer(
    help="Start a halted swarm again, with the signatures of a quorum.", no_args_is_help=False
)


members = typer.Typer(
    help="Say which nodes belong to a closed swarm, with a root key.", no_args_is_help=False
)


def register(app: typer.Typer) -> None:
    """Add the operators' commands to the program."""
    for name, group in (
        ("keys", keys),
        ("charter", charter_app.charter),
        ("halt", halt),
        ("resume", resume),
        ("members", members),
    ):
        group.callback(invoke_without_command=True)(_help)
        app.add_typer(group, name=name)
    app.command()(stop)
    app.command()(start)


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# --- members --------------------------------------------------------------------------------------


@members.command("sign")
def members_sign(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="The node's id (12D3KooW...).")],
    charter: Annotated[
        str, typer.Option("--charter", metavar="FILE", help="The file of the swarm's charter.")
    ],
    key: Annotated[
        str, typer.Option("--key", metavar="KEYFILE", help="A root key of that charter.")
    ],
    out: Out,
    inviter: Annotated[
        bool, typer.Option("--inviter", help="The node may also let others in, by invites.")
    ] = False,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it belongs to the swarm.")
    ] = "365d",
    passphrase_file: PassphraseFile = None,
    json: o.Json = False,
) -> None:
    """Sign that a node belongs to a closed swarm, for its setting --membership."""

    def body() -> int:
        from swarmllm.cli.operators.members import sign_member

        told = {"may_invite": inviter, "as_json": json}
        return sign_member(peer, charter, key, out, expires, passphrase_file, **told)

    raise typer.Exit(guarded(body))


# --- keys -----------------------------------------------------------------------------------------


@keys.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, such as alice.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="The file to make (NAME.key); never overwritten."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json: o.Json = False,
) -> None:
    """Make a key, sealed with a passphrase that is asked for; its public half goes into a .pub file
    beside it."""

    def body() -> int:
        from swarmllm.cli.operators.keys import new

        return new(name, out, passphrase_file, as_json=json)

    raise typer.Exit(guarded(body))


@keys.command("show")
def keys_show(
    file: Annotated[str, typer.Argument(metavar="KEYFILE")],
    check: Annotated[
        bool, typer.Option("--check", help="Ask for the passphrase, and see that it opens the key.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    json: o.Json = False,
) -> None:
    """Show the public half of a key file, and the id by which records name it."""

    def body() -> int:
        from swarmllm.cli.operators.keys import show

        return show(file, passphrase_file, check=check, as_json=json)

    raise typer.Exit(guarded(body))


# --- halt -----------------------------------------------------------------------------------------


@halt.command("publish")
def halt_publish(
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="KEYFILE",
            help="Your key file, of a halt key.",
            rich_help_panel=OPERATOR,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", help="drill, misbehaviour, security, legal, maintenance or 'not given'."
        ),
    ] = "not given",
    passphrase_file: PassphraseFile = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Take the swarm and its charter from exported records.",
            rich_help_panel=OPERATOR,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the signed order to a file as well, to carry by hand.",
        ),
    ] = None,
    wait: Wait = 3.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Stop the whole swarm. One halt key is enough; only the resume quorum starts it again."""

    def body() -> int:
        from swarmllm.cli.operators.halt import publish
        from swarmllm.cli.settings import config_of

        return publish(
            config_of(data_dir=data_dir, peers=peer or []),
            key,
            reason=reason,
            passphrase_file=passphrase_file,
            state_file=state,
            out=out,
            wait_s=wait,
            as_json=json,
        )

    raise typer.Exit(guarded(body))


@halt.command("status")
def halt_status(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show whether this node is halted, by whom and why, and which peers know it too."""

    def body() -> int:
        from swarmllm.cli.operators.halt import status
        from swarmllm.cli.settings import config_of

        return status(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@halt.command("import")
def halt_import(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of signed records, in any order.")
    ],
    wait: Wait = 3.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Apply halt records from files, and pass them on to peers. Works on a data folder without a
    running node, too."""

    def body() -> int:
        from swarmllm.cli.operators.halt import import_files
        from swarmllm.cli.settings import config_of

        return import_files(
            config_of(data_dir=data_dir, peers=peer or []), files, wait_s=wait, as_json=json
        )

    raise typer.Exit(guarded(body))


@halt.command("export")
def halt_export(out: Out, data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Write every halt record of this node to a file, which proves the swarm's state."""

    def body() -> int:
        from swarmllm.cli.operators.halt import export
        from swarmllm.cli.settings import config_of

        return export(config_of(data_dir=data_dir), out, as_json=json)

    raise typer.Exit(guarded(body))


@halt.command("drill")
def halt_drill(
    nodes: Annotated[
        int, typer.Option("--nodes", min=2, max=64, help="Nodes of the test swarm.")
    ] = 8,
    halts: Annotated[
        int, typer.Option("--halts", min=1, max=1000, help="How often it is halted and resumed.")
    ] = 20,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """Halt and resume a test swarm of its own on this machine, and show how long a halt takes to
    reach every node."""

    def body() -> int:
        from swarmllm.cli.operators.drill import drill
        from swarmllm.cli.settings import config_of

        return drill(config_of(cache_dir=cache_dir), nodes, halts, as_json=json)

    raise typer.Exit(guarded(body))


# --- resume ---------------------------------------------------------------------------------------


@resume.command("propose")
def resume_propose(
    out: Out,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take the state from exported records.",
            rich_help_panel=OPERATOR,
        ),
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Write a proposal that lifts every halt that stands, for the resume quorum to sign."""

    def body() -> int:
        from swarmllm.cli.operators.resume import propose
        from swarmllm.cli.settings import config_of

        return propose(config_of(data_dir=data_dir), out, from_file, as_json=json)

    raise typer.Exit(guarded(body))


@resume.command("sign")
def resume_sign(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The proposal; the signature is added to it.")
    ],
    key: Keys = None,
    merge: Merge = None,
    passphrase_file: PassphraseFile = None,
    json: o.Json = False,
) -> None:
    """Sign a proposal with a resume key, and see whose signatures are missing."""

    def body() -> int:
        from swarmllm.cli.operators.resume import sign

        return sign(file, key or [], merge or [], passphrase_file, as_json=json)

    raise typer.Exit(guarded(body))


@resume.command("publish")
def resume_publish(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="The signed proposal, or copies of it that were signed apart."
        ),
    ],
    wait: Wait = 3.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Start the swarm again with a proposal that has enough signatures."""

    def body() -> int:
        from swarmllm.cli.operators.resume import publish
        from swarmllm.cli.settings import config_of

        return publish(config_of(data_dir=data_dir, peers=peer or []), files, wait, as_json=json)

    raise typer.Exit(guarded(body))


# --- this node alone ------------------------------------------------------------------------------


def stop(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Stop this node alone, at once: it makes no token and asks for none until `swarmllm start`."""

    def body() -> int:
        from swarmllm.cli.operators.local import stop as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


def start(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Take back `swarmllm stop`. A halt of the swarm stays in force."""

    def body() -> int:
        from swarmllm.cli.operators.local import start as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))
