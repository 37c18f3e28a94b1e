"""How the help of all commands looks: switches take no value, defaults are told in one way, and a
sentence goes on to the end of its line."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandInfo, TyperInfo


def default_is(text: object) -> str:
    """What follows the help of an option whose default typer does not know, in typer's words."""
    return f" \\[default: {text}]"


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> Any:
        return _switches_without_type(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> Any:
        return _switches_without_type(super().get_params(ctx))


def in_panels(app: typer.Typer, panels: Mapping[str, Sequence[str]]) -> None:
    """Show the commands by what people want, in the order of `panels`, which name each of them.
    Call it after `tidy`."""
    places = {name: panel for panel, names in panels.items() for name in names}
    listed: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for one in listed:
        one.rich_help_panel = places[_name_of(one)]

    class Ordered(_Group):
        def list_commands(self, ctx: Any) -> list[str]:
            order = list(places)
            return sorted(super().list_commands(ctx), key=order.index)

    app.info.cls = Ordered


def _name_of(one: CommandInfo | TyperInfo) -> str:
    """typer names a command after its function, where no name is given."""
    return str(one.name or getattr(one.callback, "__name__", "").replace("_", "-"))


def _switches_without_type(parameters: Iterable[Any]) -> list[Any]:
    """typer shows a switch as if it took a `<bool>`."""
    found = list(parameters)
    for one in found:
        if getattr(one, "is_flag", False) and one.metavar is None:
            one.metavar = ""
    return found


def tidy(app: typer.Typer) -> None:
    """Call it once, when the whole tree of commands is there."""
    app.info.cls = _Group
    for command in app.registered_commands:
        command.cls = _Command
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    for group in app.registered_groups:
        group.cls = _Group
        if group.typer_instance is not None:
            tidy(group.typer_instance)
