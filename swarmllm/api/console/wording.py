"""Numbers, times and names as the console writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NONE_YET: Final = "–"


def amount(number: float) -> str:
    """135 M, 8.0 B."""
    for unit, one in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= one:
            return f"{number / one:.{0 if number >= 100 * one else 1}f} {unit}"
    return f"{number:.0f}"


def ms(value: float | None) -> str:
    if value is None:
        return NONE_YET
    if value >= 1000:
        return f"{value / 1000:.1f} s" if value < 10_000 else f"{value / 1000:.0f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def percent(share: float | None) -> str:
    return NONE_YET if share is None else f"{100 * share:.0f} %"


def span(seconds: float) -> str:
    """A duration: 3 s, 4 min, 2 h, 5 d."""
    for unit, one in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= one:
            return f"{seconds / one:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(unix_s: float) -> str:
    """In UTC; far outside the calendar, the number itself."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s:.0f} s"


def short_peer(peer: str) -> str:
    """All ids of Ed25519 keys begin alike, so the end tells them apart."""
    return peer if len(peer) <= 8 else f"…{peer[-6:]}"


def short_key(key: str) -> str:
    return key[:8]


def sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a setting, and a full stop."""
    if text.partition(" ")[0].isalpha():
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."
