"""The declaration of one setting: what it decides, how a value of it is read, and how it is shown.

It stands in the annotation of the setting's field in `table.Config`, which gives it its name, its
type and its default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args

from swarmllm.core.settings import setting as core

PREFIX: Final = "SWARMLLM_"  # Of the environment variables.

PANELS: Final = ("Node", "Model", "Answer", "Output", "HTTP API")
"""The groups of options in the help of a command."""

Reader = Callable[[object, bool], object]
"""The value of a setting from a raw value and whether that is text (a flag or a variable, to be
parsed) or already typed (TOML), so that `port = "7339"` in the file is a mistake while
`SWARMLLM_PORT=7339` is not. It raises `Unfit` for whatever it does not take."""


class Unfit(ValueError):
    """`value` (the setting's, or one item of it) is not `expected`, which ends a sentence."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{value!r} is not {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Folders:
    """The default folders of this machine's user, found by `adapters.datadir`."""

    config_dir: Path
    data_dir: Path
    cache_dir: Path


@dataclass(frozen=True, slots=True)
class Setting:
    """`about` says what the setting decides: the option's help and docs/configuration.md are made
    of it. `flag` is the option, if it is not the name with hyphens, and `also` further spellings of
    it. `panel` is its place in the help of a command.

    An option of a switch takes no value: it sets the setting to the opposite of the default, and
    `help` then says what giving it means. `usual` describes a default that says nothing by itself.
    """

    read: Reader
    about: str
    flag: str = ""
    panel: str = "Node"
    metavar: str | None = None
    also: tuple[str, ...] = ()
    help: str = ""
    usual: str = ""
    # The setting of the swarm that giving this one pins for this node; where it is not given (its
    # default is None) the swarm's holds.
    pins: core.Setting[Any] | None = None
    # Of the field that is annotated; `default` is None where the machine decides.
    name: str = ""
    kind: type = str
    default: object = None

    def of(self, field: Field[Any], hint: Any) -> Setting:
        """This declaration, of this field. `kind` becomes that of the option's value: str, int,
        float, bool, or list (given once for each item)."""
        declared = get_args(hint)[0]
        if isinstance(declared, UnionType):  # Or None.
            declared = get_args(declared)[0]
        kind = {Path: str, tuple[str, ...]: list}.get(declared, declared)
        flag = self.flag or f"--{field.name.replace('_', '-')}"
        default = None if field.default is MISSING else field.default
        return replace(self, name=field.name, kind=kind, default=default, flag=flag)

    @property
    def sets(self) -> bool:
        """What the option of a switch sets it to."""
        return not self.default

    @property
    def option(self) -> str:
        """What is typed: `--no-lan` for a switch that switches off."""
        if self.kind is not bool or self.sets:
            return self.flag
        return f"--no-{self.flag.removeprefix('--')}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()
