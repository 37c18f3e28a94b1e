"""One line per token for people: which experts answered, how much each counted, and what the round
cost.

Works on the token records that `--json` prints, so that people and machines are told the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from swarmllm.cli.output import short_peer
from swarmllm.cli.screen import Line
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.visible import one_line

COLOURS: Final = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_magenta",
)
CELL, TOKEN = 11, 14  # Columns: four experts, index, token, time and agreement fit in 80.


def uses(token: Record) -> list[Record]:
    """The experts whose answers decided this token."""
    return [use for use in token["experts"] if use["used"]]


def shown_token(text: str, width: int = TOKEN) -> str:
    """A token between quotes, with everything in it visible, cut to `width` columns."""
    plain = one_line(text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍"))
    return f"“{plain}”" if len(plain) <= width - 2 else f"“{plain[: width - 3]}…”"


class RoundTable:
    """Rows with one fixed column per expert, coloured; for a swarm whose few members are known
    beforehand."""

    def __init__(self, names: Mapping[str, str], asking: str) -> None:
        """`names`: a short name for each peer id, in column order."""
        self._names = dict(names)
        self._asking = asking
        self._gone: set[str] = set()

    def colour(self, peer: str) -> str:
        return (
            COLOURS[list(self._names).index(peer) % len(COLOURS)]
            if peer in self._names
            else "white"
        )

    def gone(self, peer: str) -> None:
        self._gone.add(peer)

    def heading(self) -> Line:
        line = Line("      ", style="bold").append(f"{'token':<{TOKEN}}")
        for peer, name in self._names.items():
            short = name if len(name) < CELL else f"{name[: CELL - 2]}…"
            line.append(f"{short:>{CELL}}", style=self.colour(peer))
        return line.append(f"{'round':>8}{'agree':>7}")

    def row(self, token: Record) -> Line:
        by_peer = {u["peer"]: u for u in uses(token)}
        best = max(by_peer, key=lambda p: by_peer[p]["weight"], default="")
        line = Line(f"{token['index']:>4}  ", style="dim")
        line.append(f"{shown_token(token['text']):<{TOKEN}}", style=f"not dim {self.colour(best)}")
        for peer in self._names:
            line.append(self._cell(peer, by_peer.get(peer)))
        line.append(f"{token['round_ms']:>5.0f} ms", style="not dim")
        return line.append(f"{100 * token['agreement']:>5.0f} %", style="not dim")

    def _cell(self, peer: str, use: Record | None) -> Line:
        if use is None:
            return Line(
                f"{'✗' if peer in self._gone else '·':>{CELL}}",
                style="red" if peer in self._gone else "dim",
            )
        size = "local" if peer == self._asking else f"{use['bytes']:.0f} B"
        return Line(f"{size:>6}{100 * use['weight']:>3.0f} %", style=f"not dim {self.colour(peer)}")


def line_of(token: Record, local: str) -> Line:
    """A row for any swarm: `generate -v`. `local` is the peer id of the node that asks."""
    line = Line(f"{token['index']:>4} ", style="dim")
    line.append(f"{shown_token(token['text']):<{TOKEN}}", style="not dim bold")
    line.append(f"{token['round_ms']:>6.1f} ms {100 * token['agreement']:>3.0f} %", style="not dim")
    for use in uses(token):
        peer = use["peer"]
        colour = COLOURS[sum(map(ord, peer)) % len(COLOURS)]
        where = (
            "local"
            if peer == local
            else f"{short_peer(peer)} {use['bytes']:.0f} B {use['rtt_ms']:.1f} ms"
        )
        line.append(
            f"  {use['model']} {100 * use['weight']:.0f} % ({where})", style=f"not dim {colour}"
        )
    return line


def weighed_line(record: Record) -> Line:
    """Whom an answer asks, and why: `generate -v`, once before the first token."""
    experts = record["experts"]
    kept = sum(expert["kept"] for expert in experts)
    line = Line(
        f"     {len(experts)} of {record['known']} experts probed, {kept} kept:", style="dim"
    )
    for expert in experts:
        colour = COLOURS[sum(map(ord, expert["peer"])) % len(COLOURS)]
        nats = (
            ""
            if expert["nats_per_token"] is None
            else f" ({expert['nats_per_token']:.2f} nats/token)"
        )
        style = f"not dim {colour}" if expert["kept"] else "dim strike"
        why = f" ({expert['why']})" if expert.get("why") else ""
        line.append("  ").append(
            f"{expert['model']} {100 * expert['share']:.0f} %{nats}{why}", style=style
        )
    return line


def mean_bytes(tokens: Sequence[Record], local: str) -> float:
    """Bytes per remote expert and token, over all that were used."""
    sizes = [u["bytes"] for t in tokens for u in uses(t) if u["peer"] != local]
    return sum(sizes) / len(sizes) if sizes else 0.0
