"""The settings of a node are read: each from the first place that has it, which is a flag, a
`SWARMLLM_*` variable, the config file or the default.

Everything is checked here, once, before a port is opened or a model loaded, and each mistake is one
sentence that names where the value was found, the value and what is allowed. A misspelt key or
variable is an error and not a silence: a setting that a person believes to be on must be on. The
environment and the default folders are arguments, so that a test needs neither.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config.setting import PREFIX, Folders, Unfit
from swarmllm.runtime.config.table import SETTINGS, Config

CONFIG_VERSION: Final = 1
CONFIG_FILE: Final = "config.toml"
# Every setting at its longest needs a tenth of this; more is the wrong file.
CONFIG_BYTES_MAX: Final = 256 * 1024
OTHER_VARIABLES: Final = frozenset(
    {"SWARMLLM_ALLOW_DUMPS", "SWARMLLM_DEBUG", "SWARMLLM_PASSPHRASE_FILE", "SWARMLLM_PATIENCE_S"}
)
"""Read where they are needed: whether core dumps and debuggers are allowed; tracebacks instead of
sentences; the file with an operator's passphrase; how long commands wait."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A raw value, and where it was found in the words of a person. `is_text` tells strings to be
    parsed from TOML's typed values."""

    value: object
    where: str
    is_text: bool


def load_config(
    flags: Mapping[str, object], environ: Mapping[str, str], folders: Folders
) -> Config:
    """The settings of one node.

    `flags` maps field names of `Config` to values given on the command line or by an embedder; None
    means not given. With a data folder named by flag or variable, the config file is looked for in
    it: one folder then holds all of a node but its caches. Raises UsageError for a value that makes
    no sense and LocalError for a config file that cannot be read.
    """
    stray = sorted(set(flags) - set(SETTINGS))
    assert not stray, f"not settings: {stray}"
    found = {
        name: _Found(value, SETTINGS[name].flag, isinstance(value, str))
        for name, value in flags.items()
        if value is not None
    }
    for name, value in _variables(environ).items():
        found.setdefault(name, value)
    config_dir = _data_dir(found["data_dir"]) if "data_dir" in found else folders.config_dir
    for name, value in _file(config_dir / CONFIG_FILE).items():
        found.setdefault(name, value)
    values: dict[str, object] = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    values.update({name: _read(name, value) for name, value in found.items()})
    return Config(**values)  # type: ignore[arg-type]  # Each reader gives its field's type; a test compares them.


def _variables(environ: Mapping[str, str]) -> dict[str, _Found]:
    found = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in SETTINGS or variable != PREFIX + name.upper():
            raise UsageError(
                f"the environment variable {variable} is no setting{_did_you_mean(name, PREFIX)};"
                " unset it or correct its name"
            )
        if environ[variable] != "":  # Set to nothing is how shells and service files unset.
            found[name] = _Found(environ[variable], variable, is_text=True)
    return found


def _file(path: Path) -> dict[str, _Found]:
    try:
        table = tomllib.loads(_bytes_of(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        return {}  # Where a data folder cannot be, making it will say so better.
    except OSError as error:
        raise LocalError(
            f"cannot read the config file {path} ({error.strerror});"
            " make it readable or move it away"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not valid TOML ({error}); correct it or move it away"
        ) from error
    # Then a key that is nearly one of ours is a misspelt one.
    is_ours = table.get("version") == CONFIG_VERSION
    strange = [
        key
        for key in table
        if key not in {"version", *SETTINGS} and not (is_ours and _did_you_mean(key))
    ]
    if strange:
        raise UsageError(
            f"{path} has the unknown key {strange[0]!r}; correct or remove it, or,"
            " if the file is another program's of the same name,"
            " give this node a folder of its own with --data-dir"
        )
    if "version" not in table:
        raise UsageError(
            f"{path} does not say which version of the format it is;"
            f" add the line `version = {CONFIG_VERSION}` at its top"
        )
    version = table.pop("version")
    if version != CONFIG_VERSION or isinstance(version, bool):
        raise UsageError(
            f"{path} has version = {version!r}, and this swarmllm reads only version ="
            f" {CONFIG_VERSION}; correct it or move the file away"
        )
    for key in table:
        if key not in SETTINGS:
            raise UsageError(
                f"{path} has the unknown key {key!r}{_did_you_mean(key)};"
                " remove it or correct its name"
            )
    return {key: _Found(value, f"{key} in {path}", is_text=False) for key, value in table.items()}


def _bytes_of(path: Path) -> bytes:
    """Judged by the open file, which may have been put there by somebody else: a named pipe would
    be waited for, for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path} is not a regular file; move it away")
        if found.st_mode & 0o002:
            raise UsageError(
                f"{path} can be changed by every user, and with it what this node does; run:"
                f" chmod o-w {path}"
            )
        if found.st_size > CONFIG_BYTES_MAX:
            raise UsageError(
                f"{path} is larger than {CONFIG_BYTES_MAX} bytes, which no config file is;"
                " move it away"
            )
        return file.read(CONFIG_BYTES_MAX)


def _did_you_mean(name: str, prefix: str = "") -> str:
    close = difflib.get_close_matches(name.lower(), SETTINGS, n=1)
    if not close:
        return ""
    return f" (did you mean {prefix + (close[0].upper() if prefix else close[0])}?)"


def _data_dir(found: _Found) -> Path:
    folder = _read("data_dir", found)
    assert isinstance(folder, Path)
    return folder


def _read(name: str, found: _Found) -> object:
    try:
        return SETTINGS[name].read(found.value, found.is_text)
    except Unfit as error:
        raise UsageError(f"{found.where}: {error}") from error
