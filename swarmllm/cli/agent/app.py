"""What can be typed behind `swarmllm agent` and `swarmllm experts`; each command imports its module
only when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

agent = typer.Typer(
    help="The swarm's improvement of itself: what this node's agent does, and tasks for it.",
    no_args_is_help=False,
)
experts = typer.Typer(
    help="Show the experts that the running node knows, and what it has measured of them.",
    no_args_is_help=False,
)

Domain = Annotated[
    str,
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="scheduling, security, storage or network. Without this: that of the task.",
    ),
]


@agent.callback(invoke_without_command=True)
def agent_root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@agent.command("status")
def agent_status(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Show how far each domain's cycle is, what it waits for, and the last steps."""

    def body() -> int:
        from swarmllm.cli.agent.commands import status
        from swarmllm.cli.settings import config_of

        return status(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@agent.command("run")
def agent_run(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="One cycle now, step by step. Needed: they come by themselves."
        ),
    ] = False,
    domain: Domain = "scheduling",
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Let a domain's next cycle begin now, and watch it until it rests or waits for votes."""

    def body() -> int:
        from swarmllm.cli.agent.commands import run_once
        from swarmllm.cli.settings import config_of

        return run_once(config_of(data_dir=data_dir), domain, once=once, as_json=json)

    raise typer.Exit(guarded(body))


@agent.command("tasks")
def agent_tasks(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """List the tasks of this node's agent, and what came of them."""

    def body() -> int:
        from swarmllm.cli.agent.commands import tasks
        from swarmllm.cli.settings import config_of

        return tasks(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@agent.command("submit")
def agent_submit(
    type_: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="tune_scheduler, analyse_security, write_test, tune_configuration or"
            " draft_proposal.",
        ),
    ],
    description: Annotated[
        str,
        typer.Argument(
            metavar="[NOTE]",
            help="What you have seen, for the model that proposes: at most 512 bytes.",
        ),
    ] = "",
    domain: Domain = "",
    priority: Annotated[
        int, typer.Option("--priority", min=0, max=9, help="Higher ones begin first.")
    ] = 0,
    deadline: Annotated[
        int,
        typer.Option(
            "--deadline", metavar="SECONDS", help="Not to be begun later than that; 0: no matter."
        ),
    ] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Watch it until it is done.")] = False,
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Give this node's agent a task. How far its result may go follows from its type, the phase
    and the votes, never from who gave it."""

    def body() -> int:
        from swarmllm.cli.agent.commands import submit
        from swarmllm.cli.settings import config_of

        order = {
            "type": type_,
            "description": description,
            "domain": domain,
            "priority": priority,
            "deadline_s": deadline,
            "follow": follow,
        }
        return submit(config_of(data_dir=data_dir), order, as_json=json)

    raise typer.Exit(guarded(body))


# --- experts --------------------------------------------------------------------------------------


@experts.callback(invoke_without_command=True)
def experts_root(context: typer.Context, data_dir: o.DataDir = None, json: o.Json = False) -> None:
    if context.invoked_subcommand is not None:
        return

    def body() -> int:
        from swarmllm.cli.inspect import show_experts
        from swarmllm.cli.settings import config_of

        return show_experts(config_of(data_dir=data_dir), as_json=json)

    raise typer.Exit(guarded(body))


@experts.command("register")
def experts_register(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="A model as --model takes it, to be loaded in place of the present one.",
        ),
    ] = "",
    data_dir: o.DataDir = None,
    json: o.Json = False,
) -> None:
    """Offer the running node's expert to the swarm again, or another model in its place."""

    def body() -> int:
        from swarmllm.cli.agent.commands import offer
        from swarmllm.cli.settings import config_of

        return offer(config_of(data_dir=data_dir), "register_expert", as_json=json, model=model)

    raise typer.Exit(guarded(body))


@experts.command("withdraw")
def experts_withdraw(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """Take the running node's expert back from the swarm; the node itself goes on using it."""

    def body() -> int:
        from swarmllm.cli.agent.commands import offer
        from swarmllm.cli.settings import config_of

        return offer(config_of(data_dir=data_dir), "withdraw_expert", as_json=json)

    raise typer.Exit(guarded(body))
