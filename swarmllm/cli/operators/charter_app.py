"""What can be typed after `swarmllm charter`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded
from swarmllm.cli.helping import default_is
from swarmllm.cli.operators.options import OPERATOR, Keys, Merge, Out, PassphraseFile

if TYPE_CHECKING:  # Help must not cost their imports.
    from swarmllm.cli.operators.charter import Terms
    from swarmllm.cli.operators.charter_terms import GovernanceGiven

TERMS = "Terms"
GOVERNANCE = "Governance"

charter = typer.Typer(
    help="Who may stop the swarm, who may start it again, and who may change that.",
    no_args_is_help=False,
)


def _role(flag: str, what: str) -> object:
    return typer.Option(
        flag,
        metavar="KEY",
        help=f"{what} (hex, .pub or key file; repeatable).",
        rich_help_panel=TERMS,
    )


Root = Annotated[list[str] | None, _role("--root", "May change the charter")]
Halt = Annotated[list[str] | None, _role("--halt", "May stop the swarm, each alone")]
Resume = Annotated[list[str] | None, _role("--resume", "May start it again, together")]
Voter = Annotated[list[str] | None, _role("--voter", "May vote")]
Beacon = Annotated[list[str] | None, _role("--beacon", "May send signs of life")]
RootThreshold = Annotated[
    int | None,
    typer.Option(
        "--root-threshold",
        min=1,
        max=5,
        help="Root signatures that a charter needs." + default_is("2"),
        rich_help_panel=TERMS,
    ),
]
ResumeThreshold = Annotated[
    int | None,
    typer.Option(
        "--resume-threshold",
        min=1,
        max=5,
        help="Resume signatures that a resume needs." + default_is("2"),
        rich_help_panel=TERMS,
    ),
]
Revert = Annotated[
    int | None,
    typer.Option(
        "--revert",
        min=0,
        max=16,
        help="Changes of the agent that a halt takes back." + default_is("3"),
        rich_help_panel=TERMS,
    ),
]
BeaconTtl = Annotated[
    int | None,
    typer.Option(
        "--beacon-ttl",
        metavar="SECONDS",
        min=0,
        max=86_400,
        help="Stop without a sign of life for so long; 0: never." + default_is(0),
        rich_help_panel=TERMS,
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="DATE",
        help="Remind people to renew it by 2030-12-31, or never.",
        rich_help_panel=TERMS,
    ),
]
HeldOutText = Annotated[
    str | None,
    typer.Option(
        "--held-out",
        metavar="NAME=REPORT",
        help="Pin the text of the quality gate: a report for a phase has to be over the text that"
        " this one of `swarmllm eval --json` is over (its digest will do; none: any text).",
        rich_help_panel="Governance",
    ),
]


@dataclass(frozen=True, slots=True)
class Given:
    """What `create` and `rotate` take."""

    root: Root = None
    halt: Halt = None
    resume: Resume = None
    voter: Voter = None
    beacon: Beacon = None
    root_threshold: RootThreshold = None
    resume_threshold: ResumeThreshold = None
    revert: Revert = None
    beacon_ttl: BeaconTtl = None
    expires: Expires = None
    held_out: HeldOutText = None

    def terms(self) -> Terms:
        from swarmllm.cli.operators.charter import Terms

        roles = {
            "root": self.root or (),
            "halt": self.halt or (),
            "resume": self.resume or (),
            "voter": self.voter or (),
            "beacon": self.beacon or (),
        }
        return Terms(
            roles,
            self.root_threshold,
            self.resume_threshold,
            self.revert,
            self.beacon_ttl,
            self.expires,
            self.held_out,
        )


def _count(flag: str, low: int, high: int, what: str, usual: int) -> object:
    what += default_is(usual)
    return typer.Option(flag, min=low, max=high, help=what, rich_help_panel=GOVERNANCE)


def _words(flag: str, form: str, what: str, usual: str = "") -> object:
    what += default_is(usual) if usual else ""
    return typer.Option(flag, metavar=form, help=what, rich_help_panel=GOVERNANCE)


@dataclass(frozen=True, slots=True)
class Governing:
    """What `create` and `rotate` take of governance."""

    agent: Annotated[
        list[str] | None,
        _words("--agent", "KEY", "The agent's: may propose, and report on canaries (repeatable)."),
    ] = None
    minor_votes: Annotated[
        int | None,
        _count("--minor-votes", 1, 16, "Votes that carry a minor change.", 2),
    ] = None
    review_hours: Annotated[
        int | None,
        _count(
            "--review-hours",
            1,
            8_760,
            "How long a major change is open to review.",
            24,
        ),
    ] = None
    canary_permille: Annotated[
        int | None,
        _count(
            "--canary-permille",
            0,
            1_000,
            "Nodes of 1000 that try a setting first.",
            10,
        ),
    ] = None
    canary_seconds: Annotated[
        int | None,
        _count("--canary-seconds", 0, 604_800, "How long they try it.", 3600),
    ] = None
    phase: Annotated[int | None, _count("--phase", 0, 4, "The phase to start in.", 0)] = None
    phase_experts: Annotated[
        str | None,
        _words(
            "--phase-experts",
            "N,N,N,N",
            "Experts that phases 1 to 4 need.",
            "0,280,1000,5000",
        ),
    ] = None
    phase_audits: Annotated[
        str | None,
        _words("--phase-audits", "N,N,N,N", "Passed audits that they need.", "0,0,0,0"),
    ] = None
    stable_days: Annotated[
        int | None,
        _count("--stable-days", 0, 3_650, "Days with as many experts.", 30),
    ] = None
    agent_interval: Annotated[
        int | None,
        _count("--agent-interval", 1, 1_440, "Minutes from one cycle of an agent to the next.", 60),
    ] = None
    agent_share: Annotated[
        int | None,
        _count("--agent-share", 0, 100, "Permille of the experts' time that an agent takes.", 50),
    ] = None
    agent_attempts: Annotated[
        int | None, _count("--agent-attempts", 1, 16, "Proposals that a cycle may try.", 4)
    ] = None
    weight: Annotated[
        list[str] | None,
        _words("--weight", "PART=NUMBER", "What a part of the objective weighs, as token=1.5."),
    ] = None
    unattended: Annotated[
        bool | None,
        typer.Option(
            "--unattended/--attended",
            help="In phase 4 the agent's minor changes need no vote." + default_is("attended"),
            rich_help_panel=GOVERNANCE,
        ),
    ] = None
    bounds: Annotated[
        list[str] | None,
        _words("--bounds", "KEY=LOW..HIGH", "Within these a setting is a minor change."),
    ] = None
    value: Annotated[
        list[str] | None, _words("--value", "KEY=VALUE", "What a setting of the swarm starts from.")
    ] = None

    def given(self) -> GovernanceGiven:
        from swarmllm.cli.operators.agent_grant import GrantGiven
        from swarmllm.cli.operators.charter_terms import GovernanceGiven

        return GovernanceGiven(
            agent=tuple(self.agent or ()),
            minor_votes=self.minor_votes,
            review_hours=self.review_hours,
            canary_permille=self.canary_permille,
            canary_seconds=self.canary_seconds,
            phase=self.phase,
            phase_experts=self.phase_experts,
            phase_audits=self.phase_audits,
            stable_days=self.stable_days,
            unattended=self.unattended,
            bounds=tuple(self.bounds or ()),
            value=tuple(self.value or ()),
            grant=GrantGiven(
                *(self.agent_interval, self.agent_share, self.agent_attempts),
                tuple(self.weight or ()),
            ),
        )


@charter.command("create")
@o.spread
def create(given: Given, governing: Governing, out: Out, json: o.Json = False) -> None:
    """Write the first charter of a new swarm, for its root keys to sign. Its hash is the swarm's
    id. What it says of governance goes into a second file, OUT.terms, which belongs to it."""

    def body() -> int:
        from swarmllm.cli.operators.charter import create as run

        return run(given.terms(), governing.given(), out, as_json=json)

    raise typer.Exit(guarded(body))


@charter.command("show")
def show(file: Annotated[str, typer.Argument(metavar="FILE")], json: o.Json = False) -> None:
    """Show the charters in a file, and whose signatures are missing."""

    def body() -> int:
        from swarmllm.cli.operators.charter import show as run

        return run(file, as_json=json)

    raise typer.Exit(guarded(body))


@charter.command("sign")
def sign(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The charter; the signature is added to it.")
    ],
    key: Keys = None,
    merge: Merge = None,
    passphrase_file: PassphraseFile = None,
    json: o.Json = False,
) -> None:
    """Sign the last charter in a file with a root key."""

    def body() -> int:
        from swarmllm.cli.operators.charter import sign as run

        return run(file, key or [], merge or [], passphrase_file, as_json=json)

    raise typer.Exit(guarded(body))


@charter.command("rotate")
@o.spread
def rotate(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The signed charter that is in force.")
    ],
    given: Given,
    governing: Governing,
    out: Out,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Take what has been lifted from exported records instead of the running node.",
            rich_help_panel=OPERATOR,
        ),
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Write the next charter. A role that is named gets exactly the keys named; everything else
    stays as it is."""

    def body() -> int:
        from swarmllm.cli.operators.charter import rotate as run
        from swarmllm.cli.settings import config_of

        config, terms, governed = config_of(data_dir=data_dir), given.terms(), governing.given()
        return run(config, file, terms, governed, state, out, as_json=json)

    raise typer.Exit(guarded(body))


@charter.command("verify")
def verify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Charter files; copies that were signed apart count together."
        ),
    ],
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="FILE",
            help="The charter or charters that they follow, which you trust.",
            rich_help_panel=OPERATOR,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Check that charters follow each other and have the signatures that they need."""

    def body() -> int:
        from swarmllm.cli.operators.charter import verify_files

        return verify_files(files, after, as_json=json)

    raise typer.Exit(guarded(body))
