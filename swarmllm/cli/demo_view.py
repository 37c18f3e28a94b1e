"""How the demo looks to people: a board of the four nodes while they start, a table of rounds, and a list of what was shown.

On anything but a terminal the board is left out and every other line is the same, so that a log reads like the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from swarmllm.cli.output import print_record, short_peer
from swarmllm.cli.processes import NodeProcess
from swarmllm.cli.rounds import COLOURS, RoundTable, mean_bytes, uses
from swarmllm.messages import Halt
from swarmllm.runtime.json_events import Record

WIDTH_MAX: Final = 100  # Wider lines are hard to read; the rows of rounds need 79.
TAIL_CHARS: Final = 24  # Of an answer that was stopped.
LEGEND: Final = (
    "  A column is a node: the bytes of its reply, and its weight in the mixture. All four are asked\n"
    "  and three count: the weightiest, unless one is late. A token has the colour of its weightiest.\n"
)
STATES: Final = (
    ("ready", "ready"),
    ("listening", "listening"),
    ("model_ready", "expert loaded"),
    ("starting", "loading its expert"),
)


class DemoView:
    """Everything the demo says. With `as_json`, records on standard output and nothing else."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self.console = console
        self.as_json = as_json
        self.rounds: RoundTable | None = None
        self._checks: list[tuple[str, bool, str]] = []

    def say(self, text: str, style: str = "") -> None:
        if not self.as_json:
            self.console.print(text, style=style)

    def chapter(self, title: str) -> None:
        if not self.as_json:
            self.console.print()
            self.console.print(Rule(f"[bold]{title}[/]", align="left", style="dim"), width=min(self.console.width, WIDTH_MAX))

    @contextmanager
    def board(self, nodes: Sequence[NodeProcess], experts: Sequence[str]) -> Iterator[None]:
        """A live table of the starting nodes on a terminal; its final form stays on the screen."""
        if self.as_json:
            yield
        elif self.console.is_terminal:
            with Live(get_renderable=lambda: _board(nodes, experts), console=self.console, refresh_per_second=4):
                yield
        else:
            yield
            self.console.print(_board(nodes, experts))

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """A sign of life on a terminal while something takes seconds."""
        if self.as_json or not self.console.is_terminal:
            return nullcontext()
        return self.console.status(f"[dim]{what}[/]")

    def legend(self) -> None:
        self.say(LEGEND, "dim")

    def checked(self, name: str, ok: bool, detail: str) -> None:
        self._checks.append((name, ok, detail))
        if self.as_json:
            print_record({"event": "check", "name": name, "ok": ok, "detail": detail})

    def token(self, record: Record) -> None:
        if self.as_json:
            print_record(record)
        elif self.rounds is not None:
            if record["index"] == 0:
                self.console.print(self.rounds.heading())
            self.console.print(self.rounds.row(record), no_wrap=True)

    def other(self, record: Record) -> None:
        """A notice or the end of an answer."""
        if self.as_json:
            print_record(record)
        elif record["event"] == "notice":
            self.console.print(Text(f"      {record['text']}", style="yellow"))

    def killed(self, node: NodeProcess) -> None:
        if self.as_json:
            print_record({"event": "killed", "signal": "SIGKILL", "node": node.name, "pid": node.pid, "peer": node.peer})
            return
        if self.rounds is not None:
            self.rounds.gone(node.peer)
        self.console.print(
            Rule(f"[bold red]SIGKILL to {node.name} (process {node.pid})[/]", style="red"), width=min(self.console.width, 79)
        )

    def text(self, prompt: str, end: Record, tokens: Sequence[Record], asking: str) -> None:
        """The finished answer, coloured by the expert that counted most for each token."""
        if self.as_json or self.rounds is None:
            return
        text = Text(prompt, style="bold")
        for token in tokens:
            best = max(uses(token), key=lambda use: use["weight"])
            text.append(token["text"], style=self.rounds.colour(best["peer"]))
        self.console.print()
        self.console.print(Padding(text, (0, 2)), width=min(self.console.width, WIDTH_MAX))
        self.console.print(
            f"\n  [dim]{end['tokens']:.0f} tokens in {end['seconds']:.1f} s, {end['tokens_per_s']:.1f} tokens/s,"
            f" {mean_bytes(tokens, asking):.0f} bytes per expert and token[/]"
        )

    def streamed(self, node: NodeProcess, record: Record) -> None:
        """A record of one of several answers at once: for machines, with the node's name; people are told at the end."""
        if self.as_json:
            print_record(record | {"node": node.name})

    def ordered(self, node: NodeProcess, order: Halt) -> None:
        if self.as_json:
            print_record({"event": "published", "type": "halt", "node": node.name, "key": order.key.hex(), "seq": order.seq})
        self.say(f"  {node.name} is given an order to halt, signed by one operator", "bold red")

    def stopped(self, answers: Sequence[tuple[NodeProcess, str, float, Record | None]]) -> None:
        """For each node: its text, when its last token came (ms from the order), and its end."""
        if self.as_json:
            return
        for i, (node, text, last_ms, end) in enumerate(answers):
            line = Text(f"    {node.name} ", style=COLOURS[i % len(COLOURS)])
            line.append(f"…{text[-TAIL_CHARS:]}".replace("\n", "⏎"), style="default")
            when = f"{abs(last_ms):.0f} ms {'after' if last_ms > 0 else 'before'} it"
            line.append(f"  ✋ {end['reason'] if end is not None else 'not ended'}, last token {when}", style="dim")
            self.console.print(line, no_wrap=True)

    def summary(self, seconds: float) -> bool:
        ok = bool(self._checks) and all(passed for _, passed, _ in self._checks)
        if self.as_json:
            print_record({"event": "summary", "ok": ok, "checks": len(self._checks), "seconds": round(seconds, 1)})
            return ok
        self.chapter("what was shown")
        table = Table.grid(padding=(0, 2))
        for name, passed, detail in self._checks:
            table.add_row("[green]✓[/]" if passed else "[bold red]✗[/]", Text(name.replace("_", " ")), Text(detail, style="dim"))
        self.console.print(Padding(table, (0, 2)))
        verdict = "[bold green]All of it really happened[/]" if ok else "[bold red]Not all of it happened[/]"
        self.console.print(f"\n{verdict}, in {seconds:.0f} s. Next: [bold]swarmllm join[/] on several machines of one network.")
        return ok


def _board(nodes: Sequence[NodeProcess], experts: Sequence[str]) -> Group:
    table = Table(box=None, pad_edge=True, padding=(0, 1))
    for heading in ("", "expert", "process", "peer", "state", "peers", "experts"):
        table.add_column(
            heading, justify="right" if heading in {"process", "peers", "experts"} else "left", style="" if heading else "bold"
        )
    for i, (node, expert) in enumerate(zip(nodes, experts, strict=False)):
        state = next((text for event, text in STATES if node.found(event)), "starting")
        table.add_row(
            Text(node.name, style=COLOURS[i % len(COLOURS)]),
            expert,
            str(node.pid),
            short_peer(node.peer) if node.peer else "",
            state,
            str(len(known(node, "peer"))),
            str(len(known(node, "expert"))),
        )
    return Group(table)


def known(node: NodeProcess, kind: str) -> set[str]:
    """The peers, or experts, that a node has reported as found and not as lost since; its own expert is not counted."""
    found: set[str] = set()
    for record in node.records:
        peer = str(record.get("peer", ""))
        if record["event"] == f"{kind}_found":
            found.add(peer)
        elif record["event"] == f"{kind}_lost":
            found.discard(peer)
    return found - {node.peer}
