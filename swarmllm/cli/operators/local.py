"""`swarmllm stop` and `swarmllm start`: the owner's own switch, for this node alone. It needs no
key and no network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from swarmllm.adapters.datadir import DataDir
from swarmllm.adapters.record_files import read_sheets
from swarmllm.cli.guard import OK
from swarmllm.cli.operators.halt_source import (
    Standing,
    ask_node,
    folder_held,
    has_history,
    state_in,
    status_of,
)
from swarmllm.cli.output import people, print_record
from swarmllm.cli.screen import Line
from swarmllm.errors import HaltedError, LocalError
from swarmllm.runtime.config import Config


def stop(config: Config, *, as_json: bool) -> int:
    answers = ask_node(config, "stop_here")
    if answers is not None:
        record = answers[0] | {"running": True}
    else:
        with folder_held(config, _swarm_named(config)) as (boot, save):
            stopped = replace(boot.state, stopped_here=True)
            if stopped != boot.state or boot.is_new:
                save(stopped)
        record = status_of(Standing(stopped, str(config.data_dir)))
    if as_json:
        print_record(record)
    if record["running"] and not record["durable"]:
        raise LocalError(
            "this node is stopped, but that is not on its disk, and it would not be stopped after"
            f" a restart: look whether {config.data_dir} can be written (a full disk?)"
        )
    if as_json:
        return OK
    if record["running"]:
        people().print(
            Line(
                "This node is stopped: it makes no token and asks for none until `swarmllm start`.",
                "yellow",
            ),
            soft_wrap=True,
        )
    else:
        said = (
            f"No node runs on {config.data_dir}; the next `swarmllm join` will be stopped until"
            " `swarmllm start`."
        )
        people().print(Line(said, style="yellow"), soft_wrap=True)
    return OK


def _swarm_named(config: Config) -> bytes | None:
    """The swarm that the settings name, for a folder in which no node ever ran; any other has its
    own, and is stopped in that."""
    if not config.charter or has_history(DataDir(config.data_dir)):
        return None
    if re.fullmatch("[0-9a-f]{64}", config.charter):
        return bytes.fromhex(config.charter)
    return state_in(read_sheets(Path(config.charter)), config.charter).swarm


def start(config: Config, *, as_json: bool) -> int:
    """Take the local stop back. HaltedError if the swarm is halted all the same."""
    answers = ask_node(config, "start_here")
    if answers is not None:
        record = answers[0] | {"running": True}
    else:
        with folder_held(config) as (boot, save):
            started = replace(boot.state, stopped_here=False, lost=False)
            if started != boot.state:
                save(started)
        record = status_of(Standing(started, str(config.data_dir)))
    if as_json:
        print_record(record)
    if record["halted"]:
        raise HaltedError(
            f"the owner's stop is taken back, but the swarm is {record['halted'][0]};"
            " only its resume quorum can lift that"
        )
    if record["running"] and not record["durable"]:
        raise LocalError(
            f"a start counts only when it is on disk, and {config.data_dir} cannot be written"
            " (a full disk?): make room, and the node starts by itself"
        )
    if not as_json:
        said = (
            "This node may work again."
            if record["running"]
            else f"No node runs on {config.data_dir}; the next one may work."
        )
        people().print(Line(said, style="green"), soft_wrap=True)
    return OK
