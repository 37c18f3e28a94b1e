"""How a setting is shown to people: its default and what is allowed, in words."""

from __future__ import annotations

from typing import Final

from swarmllm.runtime.config.setting import Setting, Unfit

NO_DEFAULT: Final = "none"  # The text of a default that is nothing.


def default_text(setting: Setting) -> str:
    """The default as it is written in Markdown."""
    value = setting.default
    if setting.pins is not None:
        return f"{setting.pins.usual:g}, or what the swarm has set"
    if setting.usual:
        return setting.usual
    assert value is not None, f"{setting.name} has no default, and does not say what it usually is"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value in ("", ()):
        return NO_DEFAULT
    return f"{value:g}" if isinstance(value, (int, float)) else f"`{value}`"


def allowed_text(setting: Setting) -> str:
    """In the words of the refusal of a value that fits no setting."""
    try:
        setting.read(None, False)
    except Unfit as refusal:
        return refusal.expected
    raise AssertionError(f"{setting.name} takes anything")
