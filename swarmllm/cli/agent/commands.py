"""`swarmllm agent status`, `run`, `tasks` and `submit`, and `swarmllm experts register` and
`withdraw`: questions to the running node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from swarmllm.cli.agent.views import status_view, step_line, task_line, tasks_view
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import answer, notice, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import HUB
from swarmllm.runtime.service.record import NO_PARAMS, Record


def status(config: Config, *, as_json: bool) -> int:
    found = _asked(config, "agent_status")
    if as_json:
        print_record(found)
    else:
        answer().print(status_view(found))
    return OK


def tasks(config: Config, *, as_json: bool) -> int:
    found = _asked(config, "agent_tasks")
    if as_json:
        print_record(found)
    elif found["tasks"]:
        answer().print(tasks_view(found["tasks"]))
    else:
        notice("No task was submitted; `swarmllm agent submit` takes one.")
    return OK


def run_once(config: Config, domain: str, *, once: bool, as_json: bool) -> int:
    if not once:
        raise UsageError(
            "cycles come by themselves; `swarmllm agent run --once` lets the next one begin now"
        )
    _watched(config, "agent_run", {"domain": domain}, as_json=as_json)
    return OK


def submit(config: Config, order: Mapping[str, object], *, as_json: bool) -> int:
    _watched(config, "submit_self_task", order, as_json=as_json)
    return OK


def offer(config: Config, op: str, *, as_json: bool, model: str = "") -> int:
    """The node has a current folder of its own, so a path is told it from / on."""
    if model.endswith(".gguf") and not model.startswith(HUB):
        model = os.path.abspath(os.path.expanduser(model))
    told = ""

    def show(record: Record) -> None:
        nonlocal told
        if as_json:
            print_record(record)
        elif record["event"] != "progress":
            said = f"{record['model_name']}: {record['message']}."
            answer().print(Line(said), soft_wrap=True)
        elif record["what"] != told:
            told = str(record["what"])
            notice(f"{told} …")

    _each(config, op, {"model": model} if model else NO_PARAMS, show)
    return OK


def _asked(config: Config, op: str, params: Mapping[str, object] = NO_PARAMS) -> Record:
    found: list[Record] = []
    _each(config, op, params, found.append)
    return found[0]


def _watched(config: Config, op: str, params: Mapping[str, object], *, as_json: bool) -> None:
    """Each record as it comes."""

    shown = Line()

    def show(record: Record) -> None:
        nonlocal shown
        if as_json:
            print_record(record)
            return
        match record["event"]:
            case "agent_step":
                answer().print(step_line(record), soft_wrap=True)
            case "agent_task":
                if (line := task_line(record)) != shown:  # It may be over as soon as it is taken.
                    shown = line
                    answer().print(line, soft_wrap=True)
            case "agent_cycle":
                waits = "it waits for votes" if record["step"] == "reviewing" else "it rests"
                answer().print(Line(f"Cycle {record['cycle']} of {record['domain']}: {waits}."))
            case _:
                return

    _each(config, op, params, show)


def _each(
    config: Config, op: str, params: Mapping[str, object], take: Callable[[Record], object]
) -> None:
    async def body() -> int:
        async with asking(config.data_dir, op, QUESTION, **params) as records:
            async for record in records:
                take(record)
        return OK

    run(body)
