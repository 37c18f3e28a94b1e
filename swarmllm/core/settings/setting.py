"""The declaration of one setting that the swarm can change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from swarmllm.errors import LocalError
from swarmllm.messages import Range

N = TypeVar("N", int, float)
Owner = Literal["agent", "operator"]
"""Whose it is to change within the bounds: `agent`'s by a vote of the minor threshold, `operator`'s
only by the whole electorate."""

UNITS: Final[dict[str, tuple[int, str]]] = {
    "ms": (1000, "s"),
    "permille": (1000, ""),
    "millinats": (1000, "nats"),
    "millinats/s": (1000, "nats/s"),
}
"""Units that the code reads as a number with a fraction: how many make one, and of what."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Setting(Generic[N]):
    """A value is a whole number of `unit`, in the same form on the wire, on disk, in settings files
    and on the screen; `read` makes of it what the code reads. `code` stands for the setting on the
    wire and on disk, for ever.

    Within `bounds` the change is a small one, unless the charter has others; beyond `limits` no
    value makes sense, whoever votes for it. `effect` is what to expect of a higher value, in one
    sentence.
    """

    key: str
    code: int
    unit: str
    default: int
    bounds: Range
    limits: Range
    effect: str
    read: Callable[[int], N]
    owner: Owner = "agent"

    def __repr__(self) -> str:
        return self.key

    @property
    def usual(self) -> N:
        """The default, as the code reads it."""
        return self.read(self.default)

    def units(self, value: float) -> int:
        """The reverse of `read`."""
        parts, _ = UNITS.get(self.unit, (1, ""))
        return round(value * parts)

    def fits(self, value: int) -> bool:
        """Whether this node could work with the value."""
        return self.limits.low <= value <= self.limits.high

    def check(self, value: int) -> None:
        """LocalError for a value beyond the limits."""
        if not self.fits(value):
            raise LocalError(
                f"{self.key} cannot be {value}; a whole number from {self.limits.low} to"
                f" {self.limits.high} ({self.unit}) is possible"
            )


def whole(value: int) -> int:
    return value


def thousandth(value: int) -> float:
    """Divided, not multiplied: 100 is exactly the 0.1 that a person writes."""
    return value / 1000
