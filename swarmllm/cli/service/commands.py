"""`swarmllm service install`, `status` and `remove`: what they change, and what they say of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from swarmllm.adapters.atomic_file import read_bounded, replace_whole
from swarmllm.adapters.datadir import make_folder
from swarmllm.cli.guard import OK
from swarmllm.cli.output import notice, print_record, write_stdout
from swarmllm.cli.service.managers import Manager, manager_of
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import SETTINGS, Config

FILE_BYTES_MAX: Final = 1 << 16
OURS: Final = b"swarmllm"
WHAT: Final = "the service's file"


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
    hint = _installed(manager, data, _of_ours(manager))
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
    _of_ours(manager)
    manager.stop()
    manager.file.unlink(missing_ok=True)
    manager.forget()
    if as_json:
        print_record({"event": "service_removed", "path": str(manager.file)})
    else:
        write_stdout("the service is removed; the node's own folder is as it was\n")
    return OK


def _of_ours(manager: Manager) -> bytes | None:
    """What the service's file holds; None if there is none. UsageError for a file of that name that
    we have not written."""
    if not os.path.lexists(manager.file):
        return None
    found = read_bounded(manager.file, FILE_BYTES_MAX, WHAT)
    if OURS not in found:
        raise UsageError(f"{manager.file} is not a file of swarmllm's; move it away, and try again")
    return found


def _installed(manager: Manager, data: bytes, before: bytes | None) -> str:
    """Write the file and start the service; what else the owner may want to do. Whatever goes
    wrong, Ctrl-C too, the service is as it was before."""
    make_folder(manager.file.parent, "XDG_CONFIG_HOME")
    try:
        if before is not None:
            manager.stop()  # Or it would go on with what it was started with.
        # For the owner's eyes: options may name people and places.
        replace_whole(manager.file, data, WHAT, 0o600)
        return manager.start()
    except BaseException as error:
        if before is None:
            if not isinstance(error, LocalError):
                _try(manager.stop)
            manager.file.unlink(missing_ok=True)
        else:
            _try(lambda: replace_whole(manager.file, before, WHAT, 0o600))
            _try(manager.start)
        raise


def _try(step: Callable[[], object]) -> None:
    """One of those that make a failure good; the failure itself is what is told."""
    with suppress(LocalError):
        step()
