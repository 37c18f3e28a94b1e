"""The graph of peers: this node in the middle, each connected peer as far away as its round trip is
long, on a logarithmic scale with a ring for each power of ten."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarmllm.api.console.wording import ms, short_peer
from swarmllm.runtime.service.record import Record

WIDTH, HEIGHT = 480, 400
NEAR, FAR = 52.0, 150.0  # Pixels from the middle: a thousandth of the outermost ring, and that one.
DOTS_MAX: Final = 48
LABELS_MAX: Final = 12  # More would overlap; each dot has its words as a title all the same.
LABEL_CHARS_MAX: Final = 13
LEAST_MS: Final = 10.0  # Of the outermost ring.


@dataclass(frozen=True, slots=True)
class Dot:
    """`kind`: expert, or peer for one that offers none. `anchor`: of its label. `width`: of its
    line, the thicker the more its expert weighs in our answers."""

    x: float
    y: float
    kind: str
    label: str
    time: str
    title: str
    label_x: float
    label_y: float
    anchor: str
    width: float


@dataclass(frozen=True, slots=True)
class Ring:
    radius: float
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    dots: tuple[Dot, ...]
    rings: tuple[Ring, ...]
    left_out: int
    width: int = WIDTH
    height: int = HEIGHT
    centre_x: float = WIDTH / 2
    centre_y: float = HEIGHT / 2


def graph_of(status: Record) -> Graph:
    """Of a running node's status."""
    found = sorted(_peers(status), key=lambda one: (one[1] is None, one[1] or 0.0, one[0]))
    shown = found[:DOTS_MAX]
    times = [time for _, time, _ in shown if time is not None]
    most = 10.0 ** math.ceil(math.log10(max([*times, LEAST_MS])))
    with_labels = len(shown) <= LABELS_MAX
    dots = tuple(
        _dot(place / len(shown), one, most, with_label=with_labels)
        for place, one in enumerate(shown)
    )
    rings = tuple(Ring(_radius(most * part, most), ms(most * part)) for part in (0.01, 0.1, 1.0))
    return Graph(dots, rings, len(found) - len(shown))


_Peer = tuple[str, float | None, Record | None]
"""Its id, its round trip in milliseconds, and its expert."""


def _peers(status: Record) -> Iterator[_Peer]:
    experts = {one["peer"]: one for one in status["experts"]}
    for peer in status["peers"]:
        expert = experts.get(peer)
        time = None if expert is None else (expert["round_ms"] or expert["ping_ms"])
        yield peer, time, expert


def _radius(time_ms: float, most_ms: float) -> float:
    share = 1 + math.log10(max(time_ms, most_ms / 1000) / most_ms) / 3
    return NEAR + (FAR - NEAR) * min(1.0, share)


def _dot(turn: float, peer: _Peer, most_ms: float, *, with_label: bool) -> Dot:
    id, time, expert = peer
    angle = 2 * math.pi * turn - math.pi / 3
    radius = FAR if time is None else _radius(time, most_ms)
    x, y = WIDTH / 2 + radius * math.cos(angle), HEIGHT / 2 + radius * math.sin(angle)
    name = short_peer(id) if expert is None else str(expert["model"])
    side = math.cos(angle)
    aside = 0.0 if abs(side) < 0.3 else math.copysign(14.0, side)
    above = -26.0 if math.sin(angle) < 0 else 24.0
    return Dot(
        x=round(x, 1),
        y=round(y, 1),
        kind="peer" if expert is None else "expert",
        label=_shortened(name) if with_label else "",
        time=ms(time) if with_label and time is not None else "",
        title=f"{name}, {short_peer(id)}: " + ("not measured yet" if time is None else ms(time)),
        label_x=round(x + aside, 1),
        label_y=round(y + (above if not aside else -1.0), 1),
        anchor="middle" if not aside else "start" if aside > 0 else "end",
        width=1.0 if expert is None else round(1 + 4 * (expert["share"] or 0.0), 1),
    )


def _shortened(name: str) -> str:
    return name if len(name) <= LABEL_CHARS_MAX else f"{name[: LABEL_CHARS_MAX - 1]}…"
