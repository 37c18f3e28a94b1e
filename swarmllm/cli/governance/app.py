"""What can be typed of governance; each command imports its module only when it runs, as in
`cli.app`, so that help costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded
from swarmllm.cli.operators.options import OPERATOR, PassphraseFile, Through
from swarmllm.cli.operators.options import Out as NewFile

if TYPE_CHECKING:  # Help must not cost their imports.
    from swarmllm.cli.governance.places import Way
    from swarmllm.cli.governance.signing import Signer
    from swarmllm.core.governance.tiers import Action
    from swarmllm.runtime.config import Config

PROPOSAL = "Proposal"

propose = typer.Typer(
    help="Propose a change to the swarm, for the voters that its charter names.",
    no_args_is_help=False,
)
proposals = typer.Typer(
    help="Show all proposals: their votes, and what each of them waits for.", no_args_is_help=False
)
phase = typer.Typer(
    help="Show the phase: how much the swarm's agent, a program that proposes improvements, may do"
    " by itself, and what the next phases need.",
    no_args_is_help=False,
)

Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEYFILE",
        help="The key file to sign with. Without this the running node signs with its own key,"
        " which has a say in a private swarm, or where the charter names it as an agent's.",
        rich_help_panel=OPERATOR,
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="FILE",
        help="Take the swarm and its proposals from a file that `proposals export` wrote, on a"
        " machine that runs no node.",
        rich_help_panel=OPERATOR,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write what was signed to a file as well, to carry by hand; never overwritten.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=60,
        help="How long to wait for a peer to have it, with --peer.",
        rich_help_panel=OPERATOR,
    ),
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="The proposal: the first digits of its id are enough.")
]


@dataclass(frozen=True, slots=True)
class Given:
    """What every proposal takes."""

    why: Annotated[
        str,
        typer.Option(
            "--why",
            metavar="TEXT",
            help="Why, for those who vote: at most 512 bytes. Needed, and decides nothing.",
            rich_help_panel=PROPOSAL,
        ),
    ] = ""
    evidence: Annotated[
        str | None,
        typer.Option(
            "--evidence",
            metavar="FILE",
            help="The report that shows that it works; the proposal carries its SHA-256. For a"
            " setting it is what `swarmllm validate` wrote, and has to say that the change is"
            " better; without one it needs the votes of a major change.",
            rich_help_panel=PROPOSAL,
        ),
    ] = None
    suggest: Annotated[
        bool,
        typer.Option(
            "--suggest",
            help="Only show it to people: nobody votes, and nothing follows from it.",
            rich_help_panel=PROPOSAL,
        ),
    ] = False
    tier: Annotated[
        int | None,
        typer.Option(
            "--tier",
            min=0,
            max=4,
            help="Ask for this tier. What belongs to a higher one waits there all the same.",
            rich_help_panel=PROPOSAL,
        ),
    ] = None
    key: Key = None
    passphrase_file: PassphraseFile = None
    state: State = None
    out: Out = None
    wait: Wait = 10.0
    peer: Through = None
    data_dir: o.DataDir = None
    json: o.Json = False


def register(app: typer.Typer) -> None:
    """Add the commands of governance to the program."""
    propose.callback(invoke_without_command=True)(_help)
    for name, group in (("propose", propose), ("proposals", proposals)):
        app.add_typer(group, name=name)
    app.command()(vote)
    app.command()(withdraw)
    app.add_typer(phase, name="phase")
    app.command()(tiers)


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# --- propose --------------------------------------------------------------------------------------


def _proposed(given: Given, action_of: Callable[[Config, Way], Action]) -> None:
    def body() -> int:
        from swarmllm.cli.governance.propose import About
        from swarmllm.cli.governance.propose import propose as run
        from swarmllm.cli.settings import config_of

        config = config_of(data_dir=given.data_dir, peers=given.peer or [])
        signer = _signer(given.key, given.passphrase_file)
        way = _way(given.state, given.out, given.wait)
        about = About(given.why, signer, way, given.evidence, given.tier, given.suggest)
        return run(config, action_of(config, way), about, as_json=given.json)

    raise typer.Exit(guarded(body))


def _signer(key: str | None, passphrase_file: str | None) -> Signer:
    from swarmllm.cli.governance.signing import Signer

    return Signer(key, passphrase_file)


def _way(state: str | None = None, out: str | None = None, wait_s: float = 10.0) -> Way:
    from swarmllm.cli.governance.places import Way

    return Way(state, out, wait_s)


@propose.command("set")
@o.spread
def propose_set(
    key_of_setting: Annotated[
        str, typer.Argument(metavar="KEY", help="The setting; `swarmllm settings` shows all.")
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A whole number of its unit.")],
    given: Given,
    validate: Annotated[
        bool,
        typer.Option(
            "--validate",
            help="Try it in the simulator first, as `swarmllm validate set` does, and propose it"
            " with that report if it is better.",
            rich_help_panel=PROPOSAL,
        ),
    ] = False,
) -> None:
    """Set a setting of the swarm."""
    if validate:
        given = _validated(key_of_setting, value, given)

    def action(_: Config, __: Way) -> Action:
        from swarmllm.cli.governance.propose import set_action

        return set_action(key_of_setting, value)

    _proposed(given, action)


def _validated(key: str, value: str, given: Given) -> Given:
    """The same with a report that was made now."""
    file = ""

    def body() -> int:
        nonlocal file
        from swarmllm.cli.governance.propose import checked_why, set_action
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.validation.command import validate_change
        from swarmllm.errors import UsageError

        checked_why(given.why)
        set_action(key, value)
        if given.evidence is not None:
            raise UsageError(
                "--validate makes a report, and --evidence names one; give one of them"
            )
        config = config_of(data_dir=given.data_dir)
        file = validate_change(config, (key, value), None, (300.0, 32), as_json=given.json)
        return 0

    if code := guarded(body):
        raise typer.Exit(code)
    return replace(given, evidence=file)


@propose.command("bounds")
@o.spread
def propose_bounds(
    key_of_setting: Annotated[str, typer.Argument(metavar="KEY", help="The setting.")],
    low: Annotated[str, typer.Argument(metavar="LOW", help="The lowest value.")],
    high: Annotated[str, typer.Argument(metavar="HIGH", help="The highest value.")],
    given: Given,
) -> None:
    """Change the bounds within which few votes are enough to set a setting."""

    def action(_: Config, __: Way) -> Action:
        from swarmllm.cli.governance.propose import bounds_action

        return bounds_action(key_of_setting, low, high)

    _proposed(given, action)


@propose.command("phase")
@o.spread
def propose_phase(
    number: Annotated[int, typer.Argument(metavar="N", help="The phase, 0 to 4.")], given: Given
) -> None:
    """Open a phase, in which the swarm's agent may do more, or go back to an earlier one."""
    _propose_phase(number, given)


def _propose_phase(number: int, given: Given) -> None:
    def action(config: Config, way: Way) -> Action:
        from swarmllm.cli.governance.propose import phase_action

        return phase_action(config, way, number)

    _proposed(given, action)


@propose.command("feature")
@o.spread
def propose_feature(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The feature.")],
    switch: Annotated[str, typer.Argument(metavar="on|off")],
    given: Given,
) -> None:
    """Suggest that a feature be switched on or off. This version has none that votes could switch,
    so a proposal is refused unless it is a suggestion (--suggest)."""

    def action(_: Config, __: Way) -> Action:
        from swarmllm.cli.governance.propose import feature_action

        return feature_action(name, switch)

    _proposed(given, action)


@propose.command("model")
@o.spread
def propose_model(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="As for join --model, of a kind that every machine finds: smollm2[:NAME],"
            " hf:REPO/FILE, hf:REPO:QUANT or llama3-demo:NAME.",
        ),
    ],
    digest: Annotated[
        str,
        typer.Argument(
            metavar="SHA256", help="Of the model's file; `swarmllm models show MODEL` has it."
        ),
    ],
    given: Given,
) -> None:
    """Make this model the one that new nodes are offered. No node fetches it without its owner's
    yes."""

    def action(_: Config, __: Way) -> Action:
        from swarmllm.cli.governance.propose import model_action

        return model_action(reference, digest)

    _proposed(given, action)


@propose.command("revert")
@o.spread
def propose_revert(id: Id, given: Given) -> None:
    """Take back what a proposal changed."""

    def action(config: Config, way: Way) -> Action:
        from swarmllm.cli.governance.propose import revert_action

        return revert_action(config, way, id)

    _proposed(given, action)


# --- proposals, votes -----------------------------------------------------------------------------


@proposals.callback(invoke_without_command=True)
def proposals_root(
    context: typer.Context,
    state: State = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    if context.invoked_subcommand is not None:
        return

    def body() -> int:
        from swarmllm.cli.governance.views import proposals as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), _way(state), as_json=json)

    raise typer.Exit(guarded(body))


@proposals.command("export")
def proposals_export(
    out: NewFile,
    id: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="The proposals; without this: all."),
    ] = None,
    state: State = None,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Write proposals and votes to a file, to look at, sign and hand in on any machine."""

    def body() -> int:
        from swarmllm.cli.governance.carrying import export
        from swarmllm.cli.settings import config_of

        config = config_of(data_dir=data_dir, peers=peer or [])
        return export(config, id or [], out, _way(state), as_json=json)

    raise typer.Exit(guarded(body))


@proposals.command("import")
def proposals_import(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of proposals and votes.")
    ],
    wait: Wait = 10.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Hand proposals and votes from files to the running node, or to peers. Each counts by its own
    signature."""

    def body() -> int:
        from swarmllm.cli.governance.carrying import import_files
        from swarmllm.cli.settings import config_of

        config = config_of(data_dir=data_dir, peers=peer or [])
        return import_files(config, files, _way(wait_s=wait), as_json=json)

    raise typer.Exit(guarded(body))


@proposals.command("show")
def proposals_show(
    id: Id, state: State = None, data_dir: o.DataDir = None, json: o.Json = False
) -> None:
    """Show one proposal in full: why, evidence, who voted, what it waits for."""

    def body() -> int:
        from swarmllm.cli.governance.views import proposal as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), id, _way(state), as_json=json)

    raise typer.Exit(guarded(body))


@proposals.command("verify")
def proposals_verify(
    id: Id,
    report: Annotated[
        str,
        typer.Option("--report", metavar="FILE", help="The report, as its author gave it to you."),
    ],
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Run the same simulations here as well: the same must come of them, to the byte.",
        ),
    ] = False,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Check that a file is the validation report that a proposal names, and show what it says."""

    def body() -> int:
        from swarmllm.cli.settings import config_of
        from swarmllm.cli.validation.command import verify

        return verify(config_of(data_dir=data_dir), id, report, again=again, as_json=json)

    raise typer.Exit(guarded(body))


def vote(
    id: Id,
    say: Annotated[str, typer.Argument(metavar="yes|no", help="Final: it cannot be taken back.")],
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    state: State = None,
    out: Out = None,
    wait: Wait = 10.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Vote on a proposal with a voter's key of the charter."""

    def body() -> int:
        from swarmllm.cli.governance.voting import vote as run
        from swarmllm.cli.settings import config_of

        signer = _signer(key, passphrase_file)
        config, way = config_of(data_dir=data_dir, peers=peer or []), _way(state, out, wait)
        return run(config, id, say, signer, way, as_json=json)

    raise typer.Exit(guarded(body))


def withdraw(
    id: Id,
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    state: State = None,
    out: Out = None,
    wait: Wait = 10.0,
    peer: Through = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Withdraw a proposal: its author alone while it is open, or a majority of the voters."""

    def body() -> int:
        from swarmllm.cli.governance.voting import withdraw as run
        from swarmllm.cli.settings import config_of

        signer = _signer(key, passphrase_file)
        config, way = config_of(data_dir=data_dir, peers=peer or []), _way(state, out, wait)
        return run(config, id, signer, way, as_json=json)

    raise typer.Exit(guarded(body))


# --- phase, tiers ---------------------------------------------------------------------------------


@phase.callback(invoke_without_command=True)
def phase_root(context: typer.Context, data_dir: o.DataDir = None, json: o.Json = False) -> None:
    if context.invoked_subcommand is not None:
        return

    def body() -> int:
        from swarmllm.cli.governance.views import phase as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@phase.command("propose")
@o.spread
def phase_propose(
    number: Annotated[int, typer.Argument(metavar="N", help="The phase, 0 to 4.")], given: Given
) -> None:
    """Propose another phase: the same as `swarmllm propose phase N`."""
    _propose_phase(number, given)


def tiers(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show what may be changed by whom: each tier with what it needs here and now, and what is
    missing."""

    def body() -> int:
        from swarmllm.cli.governance.views import tiers as run
        from swarmllm.cli.settings import config_of

        return run(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))
