"""Where a passphrase may come from: a terminal that does not show it, or a file. Never the command
line, which every user of the machine can read, and never the value of a variable, which every child
process inherits."""

from __future__ import annotations

import getpass
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.adapters.operator_keys import OperatorKey, check_passphrase
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.user_path import user_path
from swarmllm.runtime.visible import one_line
from swarmllm.wire.envelope import Sign

VARIABLE: Final = "SWARMLLM_PASSPHRASE_FILE"
VALUE: Final = "SWARMLLM_PASSPHRASE"  # What people try first.
FILE_BYTES_MAX: Final = 8_192  # The longest passphrase in the widest characters, twice.

Signers = Sequence[tuple[bytes, Sign]]


def new_passphrase(name: str, file: str | None) -> str:
    """One for a new key, typed twice. UsageError if the two differ or it is too short."""
    if path := _file(file):
        return check_passphrase(_read(path))
    first = check_passphrase(_typed(f"Passphrase for the new key {name}: "))
    if first != check_passphrase(_typed("Once more: ")):
        raise UsageError("the two passphrases are not the same, so no key was made; start again")
    return first


def unseal(key: OperatorKey, file: str | None) -> Sign:
    """What signs with the key. LocalError if the passphrase does not open it."""
    path = _file(file)
    return key.unseal(
        _read(path) if path else _typed(f"Passphrase for the key {key.name} ({key.path}): ")
    )


def _file(flag: str | None) -> Path | None:
    if os.environ.get(VALUE):
        raise UsageError(
            f"the variable {VALUE} is not used, for every program that is started from here"
            " inherits it; unset it, write the passphrase into a file of mode 600 and name that in"
            f" {VARIABLE}"
        )
    named = flag or os.environ.get(VARIABLE, "")
    return user_path(named) if named else None


def _read(path: Path) -> str:
    """The first line of the file; a passphrase has no line end in it."""
    data = read_bounded(path, FILE_BYTES_MAX, "the passphrase file", is_secret=True)
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise LocalError(
            f"the passphrase file {path} is not text in UTF-8;"
            " write the passphrase as its only line"
        ) from None
    if len(lines) != 1 or not lines[0]:
        raise LocalError(
            f"the passphrase file {path} has {len(lines)} lines;"
            " write the passphrase as its only line"
        )
    return lines[0]


def _typed(question: str) -> str:
    """From the terminal, unseen. UsageError where there is none: a script must not wait for ever,
    nor a passphrase be shown."""
    hint = (
        "there is no terminal to type a passphrase on; give --passphrase-file FILE,"
        f" or name the file in {VARIABLE}"
    )
    if not sys.stdin.isatty():
        raise UsageError(hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(one_line(question))
    except (getpass.GetPassWarning, EOFError) as error:
        raise UsageError(hint) from error
