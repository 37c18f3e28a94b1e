"""`swarmllm service install`, `status` and `remove`: what they change, and what they say of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.cli.guard import OK
from swarmllm.cli.output import notice, print_record, write_stdout
from swarmllm.cli.service.managers import Manager, manager_of
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import SETTINGS, Config

FILE_BYTES_MAX: Final = 1 << 16
OURS: Final = b"swarmllm"


def join_words(config: Config, given: Mapping[str, Any], *, yes: bool, tiny: bool) -> list[str]:
    """The command line of the node: the options that were given, as they were checked. Paths are
    absolute by then, and a key of the HTTP API is its hash."""
    words = [sys.executable, "-P", "-m", "swarmllm", "join"]
    for name, row in SETTINGS.items():
        if given.get(name) is None:
            continue
        value = getattr(config, name)
        if row.kind is bool:
            words.append(row.option)
        else:
            items = value if row.kind is list else (value,)
            words += (word for item in items for word in (row.option, str(item)))
    return [*words, *(["--yes"] if yes else []), *(["--tiny"] if tiny else [])]


def install(config: Config, words: list[str], *, dry_run: bool, as_json: bool) -> int:
    manager = manager_of(os.environ, config.data_dir)
    data = manager.text(words, config.swarm)
    if dry_run:
        text = data.decode("utf-8", "replace")
        if as_json:
            print_record({"event": "service_file", "path": str(manager.file), "text": text})
        else:
            write_stdout(text)
        return OK
    _refuse_foreign(manager)
    _write(manager.file, data)
    try:
        hint = manager.start()
    except LocalError:
        manager.file.unlink(missing_ok=True)  # What does not run is not installed.
        raise
    if as_json:
        print_record({"event": "service_installed", "path": str(manager.file), "hint": hint})
        return OK
    write_stdout(f"the node runs as a service: {manager.file}\n")
    if hint:
        notice(hint)
    return OK


def status(config: Config, *, as_json: bool) -> int:
    manager = manager_of(os.environ, config.data_dir)
    if not os.path.lexists(manager.file):
        raise LocalError("no service is installed; `swarmllm service install` makes one")
    state = manager.state()
    if as_json:
        print_record({"event": "service", "state": state, "path": str(manager.file)})
    else:
        write_stdout(f"the service is {state}: {manager.file}\n")
    return OK


def remove(config: Config, *, as_json: bool) -> int:
    manager = manager_of(os.environ, config.data_dir)
    if not os.path.lexists(manager.file):
        raise LocalError("no service is installed, so there is none to remove")
    _refuse_foreign(manager)
    manager.stop()
    manager.file.unlink(missing_ok=True)
    manager.forget()
    if as_json:
        print_record({"event": "service_removed", "path": str(manager.file)})
    else:
        write_stdout("the service is removed; the node's own folder is as it was\n")
    return OK


def _refuse_foreign(manager: Manager) -> None:
    """UsageError for a file of that name that we have not written."""
    if not os.path.lexists(manager.file):
        return
    if OURS not in read_bounded(manager.file, FILE_BYTES_MAX, "the service's file"):
        raise UsageError(f"{manager.file} is not a file of swarmllm's; move it away, and try again")


def _write(path: Path, data: bytes) -> None:
    """For the owner's eyes: options may name people and places."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LocalError(f"{path} could not be written ({error.strerror})") from error
