"""What can be typed, and nothing else: each command hands over to its own module, which is imported
only then.

So help, usage errors and shell completion cost no import of the network or of the model library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from swarmllm.cli import options as o
from swarmllm.cli.agent.app import agent, experts
from swarmllm.cli.eval_command import evaluate
from swarmllm.cli.governance import app as governance
from swarmllm.cli.guard import guarded
from swarmllm.cli.helping import default_is, in_panels, tidy
from swarmllm.cli.invite.app import invite
from swarmllm.cli.ledger.app import ledger
from swarmllm.cli.operators import app as operators
from swarmllm.cli.output import write_stdout
from swarmllm.cli.service.app import service
from swarmllm.cli.settings_command import settings
from swarmllm.cli.trust import app as trust
from swarmllm.cli.validation import app as validation

app = typer.Typer(
    name="swarmllm",
    help="A swarm of equal peers that together serve one language model that no one owns.",
    epilog="First try: swarmllm demo, or swarmllm chat, alone on this machine. Then: swarmllm join"
    " on several machines of one network, and swarmllm chat on any of them.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="Fetch, list, show and remove models.", no_args_is_help=False)
app.add_typer(models, name="models")
bench = typer.Typer(
    help="Measure this machine's node against its theoretical ceilings.", no_args_is_help=False
)
app.add_typer(bench, name="bench")


PANELS: Final = {
    "Use": ("join", "invite", "chat", "generate", "run", "models", "demo"),
    "Look": ("status", "experts", "doctor", "audits", "verify", "ledger"),
    "This node": ("stop", "start", "service", "settings"),
    "Halt and resume the swarm": ("halt", "resume", "charter", "keys", "members"),
    "Change the swarm": (
        *("proposals", "propose", "vote", "withdraw", "validate", "tiers", "phase", "agent"),
    ),
    "Research": ("simulate", "eval", "bench"),
}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write_stdout(f"swarmllm {version('swarmllm')}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@models.callback(invoke_without_command=True)
def models_root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@o.spread
def join(
    settings: o.ServingSettings,
    invitation: Annotated[
        str | None,
        typer.Argument(
            metavar="[INVITE]",
            help="The line that swarmllm invite printed on a node of the swarm.",
        ),
    ] = None,
    until_eof: Annotated[
        bool,
        typer.Option(
            "--until-eof", help="Leave when standard input closes (for programs that start nodes)."
        ),
    ] = False,
    yes: o.Yes = False,
    tiny: o.Tiny = False,
    json: o.Json = False,
) -> None:
    """Load an expert, find the swarm, and serve until Ctrl-C."""

    def body() -> int:
        from swarmllm.cli.join import join as run
        from swarmllm.cli.settings import config_of
        from swarmllm.errors import UsageError

        if invitation is not None and settings["invite"] is not None:
            raise UsageError("two invites were given, one of them with --invite; leave one out")
        settings["invite"] = settings["invite"] if invitation is None else invitation
        return run(config_of(**settings), as_json=json, until_eof=until_eof, yes=yes, tiny=tiny)

    raise typer.Exit(guarded(body))


@app.command()
@o.spread
def generate(
    answer: o.Answering,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[-|PROMPT]",
            help="The text to continue; - reads it from standard input. A text given here can be"
            " seen by every user of this machine, in its list of processes.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The text to continue is in this file.",
            rich_help_panel=o.ANSWER,
        ),
    ] = None,
    chat: o.Chat = False,
    system: o.System = "",
    receipt: Annotated[
        str | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="Write what the experts of other nodes have signed to this file; swarmllm verify"
            " looks at it. It holds the whole text.",
            rich_help_panel=o.ANSWER,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Continue a text through the swarm, or answer a question (--chat), streaming it to standard
    output."""

    def body() -> int:
        from swarmllm.cli.generate import generate as run
        from swarmllm.cli.prompt import as_question, read_prompt
        from swarmllm.cli.trust.receipts import wanted

        config = answer.config()
        request = answer.request(read_prompt(prompt, file), config)
        if chat or system:
            request = as_question(request, system, is_raw=not chat)
        request, keep = wanted(request, receipt)
        told = {"as_json": json, "verbose": answer.verbose, "local": not answer.no_local}
        return run(config, request, **told, keep=keep)

    raise typer.Exit(guarded(body))


@app.command()
@o.spread
def chat(answer: o.Answering, system: o.System = "") -> None:
    """Talk with the swarm. Ctrl-C stops an answer, /help shows the commands, Ctrl-D ends."""

    def body() -> int:
        from swarmllm.cli.chat import chat as run
        from swarmllm.runtime.user_text import typed_text

        config = answer.config()
        return run(
            config,
            answer.request("", config),
            instructions=typed_text(system, "--system"),
            verbose=answer.verbose,
            local=not answer.no_local,
        )

    raise typer.Exit(guarded(body))


@app.command("run")
def run_tool(
    tool: Annotated[str, typer.Argument(metavar="claude|codex|opencode|aider")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ...]", help="What the tool itself is given."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="The model that it asks for, as /v1/models names it.")
    ] = "swarm",
    show: Annotated[
        bool, typer.Option("--show", help="Write what would be run, and run nothing.")
    ] = False,
    data_dir: o.DataDir = None,
) -> None:
    """Start a coding tool of yours that asks the node running on this machine. A key, if the node
    wants one, is taken from SWARM_API_KEY."""

    def body() -> int:
        from swarmllm.cli.launchers import launch
        from swarmllm.cli.settings import config_of

        return launch(config_of(data_dir=data_dir), tool, words or [], model=model, show=show)

    raise typer.Exit(guarded(body))


@app.command()
def status(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show what the node running on this machine is doing."""

    def body() -> int:
        from swarmllm.cli.inspect import show_status
        from swarmllm.cli.settings import config_of

        return show_status(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@models.command("list")
def models_list(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER]...", help="GGUF files, or folders to look for them in."
        ),
    ] = None,
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """List the models that have names, and those on this machine, or the GGUF files given."""

    def body() -> int:
        from swarmllm.cli.models import list_models
        from swarmllm.cli.settings import config_of

        return list_models(
            config_of(data_dir=data_dir, cache_dir=cache_dir), files or [], as_json=json
        )

    raise typer.Exit(guarded(body))


@models.command("show")
def models_show(
    model: o.ModelName,
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """Show one model in full, with its model card."""

    def body() -> int:
        from swarmllm.cli.models import show_model
        from swarmllm.cli.settings import config_of

        return show_model(config_of(data_dir=data_dir, cache_dir=cache_dir), model, as_json=json)

    raise typer.Exit(guarded(body))


@models.command("pull")
def models_pull(
    model: o.ModelName,
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """Fetch a model, or go on with fetching it, and compare its checksum."""

    def body() -> int:
        from swarmllm.cli.models import pull_model
        from swarmllm.cli.settings import config_of

        return pull_model(config_of(data_dir=data_dir, cache_dir=cache_dir), model, as_json=json)

    raise typer.Exit(guarded(body))


@models.command("remove")
def models_remove(
    model: o.ModelName,
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    """Remove from this machine a model that was fetched or expanded."""

    def body() -> int:
        from swarmllm.cli.models import remove_model
        from swarmllm.cli.settings import config_of

        return remove_model(config_of(data_dir=data_dir, cache_dir=cache_dir), model, as_json=json)

    raise typer.Exit(guarded(body))


@app.command()
def doctor(
    data_dir: o.DataDir = None,
    cache_dir: o.CacheDir = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Also write what a bug report needs into this file (tar.gz): versions, settings,"
            " status, metrics, the end of the log; no keys, prompts or addresses.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Check everything that a node needs, and say what to do about what is missing."""

    def body() -> int:
        from swarmllm.cli.doctor import examine
        from swarmllm.cli.settings import config_of
        from swarmllm.runtime.user_path import user_path

        return examine(
            config_of(data_dir=data_dir, cache_dir=cache_dir),
            as_json=json,
            bundle=None if bundle is None else user_path(bundle),
        )

    raise typer.Exit(guarded(body))


@app.command()
def demo(
    cache_dir: o.CacheDir = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave the nodes' folders and logs behind.", rich_help_panel=o.OUTPUT
        ),
    ] = False,
    yes: o.Yes = False,
    tiny: o.Tiny = False,
    governance: Annotated[
        bool,
        typer.Option(
            "--governance",
            help="Instead: three nodes that are changed by votes, and by nothing else.",
        ),
    ] = False,
    agent: Annotated[
        bool,
        typer.Option(
            "--agent",
            help="Instead: five nodes, a setting that makes them slow, and an agent that finds it.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="With --agent: a picture (PNG) of tokens/s before and after.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Run four nodes on this machine: they answer together, lose one in mid-answer, and obey a
    halt."""

    def body() -> int:
        from swarmllm.cli.demo import demo as run
        from swarmllm.cli.demo_agent import agent_demo
        from swarmllm.cli.demo_governance import governance_demo
        from swarmllm.cli.settings import config_of
        from swarmllm.errors import UsageError

        if governance and agent:
            raise UsageError("--governance and --agent are two demonstrations; give one of them")
        if out is not None and not agent:
            raise UsageError("--out is the picture of --agent; give both, or leave it out")
        if agent:
            return agent_demo(config_of(cache_dir=cache_dir), as_json=json, keep=keep, picture=out)
        if governance:
            return governance_demo(config_of(cache_dir=cache_dir), as_json=json, keep=keep)
        return run(config_of(cache_dir=cache_dir), as_json=json, keep=keep, yes=yes, tiny=tiny)

    raise typer.Exit(guarded(body))


@bench.callback(invoke_without_command=True)
def bench_root(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PART",
            help="requester, constrained, engine, api, transport or speculation (repeatable).",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Fewer cases and tokens, in a minute or two on a machine that is idle."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The model to measure with, as for join. Without this: a tiny bundled one.",
        ),
    ] = None,
    threads: o.Threads = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
) -> None:
    if context.invoked_subcommand is not None:
        return

    def body() -> int:
        from swarmllm.cli.bench import MODEL
        from swarmllm.cli.bench import bench as run
        from swarmllm.cli.settings import config_of

        config = config_of(cache_dir=cache_dir, threads=threads, model=model or MODEL)
        return run(config, only or [], quick=quick, as_json=json)

    raise typer.Exit(guarded(body))


@bench.command("halt")
def bench_halt(
    nodes: Annotated[
        int | None, typer.Option("--nodes", help="Nodes, each a process." + default_is(50))
    ] = None,
    halts: Annotated[
        int | None,
        typer.Option(
            "--halts",
            help="Halts in each scenario, each followed by a resume." + default_is(1000),
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            metavar="NAME",
            help="plain, streaming, saturated, flood, frozen, droppers or slow (repeatable)."
            " Without this: plain and streaming.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All scenarios.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="12 nodes and 30 halts.")] = False,
    json: o.Json = False,
) -> None:
    """Measure how long a halt takes to stop the last token, anywhere, and under attack."""

    def body() -> int:
        from swarmllm.cli.bench.halt import bench_halt as run
        from swarmllm.cli.bench.halt import plan_of

        return run(plan_of(nodes, halts, scenario or [], every=every, quick=quick), as_json=json)

    raise typer.Exit(guarded(body))


@bench.command("world")
def bench_world(
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes of the simulated swarm.")] = 1000,
    minutes: Annotated[float, typer.Option("--minutes", help="Simulated time.")] = 60.0,
    requests: Annotated[
        float, typer.Option("--requests", help="Answers an hour, by the whole swarm.")
    ] = 1000.0,
    halts: Annotated[
        bool,
        typer.Option("--kill-switch/--no-kill-switch", help="Whether nodes have the kill switch."),
    ] = True,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    json: o.Json = False,
) -> None:
    """Measure how long it takes to simulate a swarm for an hour, on one core."""

    def body() -> int:
        from swarmllm.cli.bench.world import Plan
        from swarmllm.cli.bench.world import bench_world as run

        return run(Plan(nodes, minutes, requests, halts, seed), as_json=json)

    raise typer.Exit(guarded(body))


@bench.command("ledger")
def bench_ledger(
    entries: Annotated[int, typer.Option("--entries", help="Entries of the ledger.")] = 100_000,
    folder: Annotated[
        str | None,
        typer.Option("--folder", metavar="FOLDER", help="Where to write: the disk to measure."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure what an entry of the ledger costs, and how long a whole one takes to verify."""

    def body() -> int:
        from swarmllm.cli.bench.ledger import Plan
        from swarmllm.cli.bench.ledger import bench_ledger as run
        from swarmllm.runtime.user_path import user_path

        return run(Plan(entries, None if folder is None else user_path(folder)), as_json=json)

    raise typer.Exit(guarded(body))


@app.command(
    "simulate",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def simulate(context: typer.Context) -> None:
    """Simulate swarms of any size: research questions with sweeps, tables and plots. Without a
    name, list the questions."""

    def body() -> int:
        from swarmllm.cli.simulate import simulate as run

        return run(context.args)

    raise typer.Exit(guarded(body))


app.command("eval")(evaluate)
app.add_typer(settings, name="settings")
operators.register(app)
app.add_typer(invite, name="invite")
app.add_typer(ledger, name="ledger")
app.add_typer(agent, name="agent")
app.add_typer(experts, name="experts")
app.add_typer(service, name="service")
trust.register(app)
governance.register(app)
validation.register(app)
tidy(app)
in_panels(app, PANELS)
