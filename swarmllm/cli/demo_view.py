"""How the demo looks to people: a board of the four nodes while they start, a table of rounds, and
a list of what was shown.

On anything but a terminal the board is left out and every other line is the same, so that a log
reads like the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table

from swarmllm.cli.demo_cast import Prompt
from swarmllm.cli.output import print_record, short_peer
from swarmllm.cli.processes import NodeProcess
from swarmllm.cli.rounds import COLOURS, RoundTable, mean_bytes, uses
from swarmllm.cli.screen import Flow, Line, Screen
from swarmllm.cli.waiting import Silence
from swarmllm.messages import Halt
from swarmllm.runtime.service.record import Record

WIDTH_MAX: Final = 100  # Wider lines are hard to read; the rows of rounds need 79.
TAIL_CHARS: Final = 24  # Of an answer that was stopped.
LEGEND: Final = (
    "  A column is a node: the bytes of its reply, and its weight in the mixture."
    " All four are asked\n"
    "  and three count: the weightiest, unless one is late."
    " A token has the colour of its weightiest.\n"
)
STATES: Final = (
    ("ready", "ready"),
    ("listening", "listening"),
    ("model_ready", "expert loaded"),
    ("starting", "loading its expert"),
)


class DemoView:
    """Everything the demo says. With `as_json`, records on standard output and nothing else."""

    def __init__(self, console: Screen, *, as_json: bool) -> None:
        self.console = console
        self.as_json = as_json
        self.silence = Silence("the experts are made ready")
        self.rounds: RoundTable | None = None
        self._checks: list[tuple[str, bool, str]] = []

    def say(self, text: str | Line, style: str = "") -> None:
        self.silence.heard()
        if not self.as_json:
            self.console.print(Flow(text) if isinstance(text, str) else text, style=style)

    def chapter(self, title: str) -> None:
        self.silence.at(title)
        if not self.as_json:
            self.console.print()
            rule = Rule(Line(title, "bold"), align="left", style="dim")
            self.console.print(rule, width=min(self.console.width, WIDTH_MAX))

    @contextmanager
    def board(self, nodes: Sequence[NodeProcess], experts: Sequence[str]) -> Iterator[None]:
        """A live table of the starting nodes on a terminal; its final form stays on the screen."""
        if self.as_json:
            yield
        elif self.console.is_terminal:
            live = Live(
                get_renderable=lambda: _board(nodes, experts),
                console=self.console,
                refresh_per_second=4,
            )
            with self.silence.covered(), live:
                yield
        else:
            yield
            self.console.print(_board(nodes, experts))

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A sign of life while something takes seconds: it moves on a terminal, and is a sentence
        now and then elsewhere."""
        self.silence.at(what)
        if self.as_json or not self.console.is_terminal:
            yield
            return
        with self.silence.covered(), self.console.status(Line(what, "dim")):
            yield

    def legend(self) -> None:
        self.say(LEGEND, "dim")

    def checked(self, name: str, ok: bool, detail: str) -> None:
        self.silence.heard()
        self._checks.append((name, ok, detail))
        if self.as_json:
            print_record({"event": "check", "name": name, "ok": ok, "detail": detail})

    def token(self, record: Record) -> None:
        self.silence.heard()
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
            self.console.print(Line(f"      {record['text']}", style="yellow"))

    def killed(self, node: NodeProcess) -> None:
        if self.as_json:
            print_record(
                {
                    "event": "killed",
                    "signal": "SIGKILL",
                    "node": node.name,
                    "pid": node.pid,
                    "peer": node.peer,
                }
            )
            return
        if self.rounds is not None:
            self.rounds.gone(node.peer)
        rule = Rule(Line(f"SIGKILL to {node.name} (process {node.pid})", "bold red"), style="red")
        self.console.print(rule, width=min(self.console.width, 79))

    def text(self, prompt: Prompt, end: Record, tokens: Sequence[Record], asking: str) -> None:
        """The finished answer, coloured by the expert that counted most for each token."""
        if self.as_json or self.rounds is None:
            return
        # A question stands above its answer; a beginning goes on in the same line.
        text = Flow(f"{prompt.text}\n" if prompt.is_question else prompt.text, style="bold")
        for token in tokens:
            best = max(uses(token), key=lambda use: use["weight"])
            text.append(token["text"], style=self.rounds.colour(best["peer"]))
        self.console.print()
        self.console.print(Padding(text, (0, 2)), width=min(self.console.width, WIDTH_MAX))
        pace = (
            f"{end['tokens']:.0f} tokens in {end['seconds']:.1f} s,"
            f" {end['tokens_per_s']:.1f} tokens/s"
        )
        self.console.line()
        self.console.print(
            Line(f"  {pace}, {mean_bytes(tokens, asking):.0f} bytes per expert and token", "dim")
        )

    def streamed(self, node: NodeProcess, record: Record) -> None:
        """A record of one of several answers at once: for machines, with the node's name; people
        are told at the end."""
        if self.as_json:
            self.silence.heard()
            print_record(record | {"node": node.name})

    def ordered(self, node: NodeProcess, order: Halt) -> None:
        if self.as_json:
            print_record(
                {
                    "event": "published",
                    "type": "halt",
                    "node": node.name,
                    "key": order.key.hex(),
                    "seq": order.seq,
                }
            )
        self.say(f"  {node.name} is given an order to halt, signed by one operator", "bold red")

    def stopped(self, answers: Sequence[tuple[NodeProcess, str, float, Record | None]]) -> None:
        """For each node: its text, when its last token came (ms from the order), and its end."""
        if self.as_json:
            return
        for i, (node, text, last_ms, end) in enumerate(answers):
            line = Line(f"    {node.name} ", style=COLOURS[i % len(COLOURS)])
            line.append(f"…{text[-TAIL_CHARS:]}".replace("\n", "⏎"), style="default")
            when = f"{abs(last_ms):.0f} ms {'after' if last_ms > 0 else 'before'} it"
            line.append(
                f"  ✋ {end['reason'] if end is not None else 'not ended'}, last token {when}",
                style="dim",
            )
            self.console.print(line, no_wrap=True)

    def summary(self, seconds: float) -> bool:
        ok = bool(self._checks) and all(passed for _, passed, _ in self._checks)
        if self.as_json:
            print_record(
                {
                    "event": "summary",
                    "ok": ok,
                    "checks": len(self._checks),
                    "seconds": round(seconds, 1),
                }
            )
            return ok
        self.chapter("what was shown")
        table = Table.grid(padding=(0, 2))
        for name, passed, detail in self._checks:
            mark = Line("✓", "green") if passed else Line("✗", "bold red")
            table.add_row(mark, Line(name.replace("_", " ")), Line(detail, style="dim"))
        self.console.print(Padding(table, (0, 2)))
        verdict, style = (
            ("All of it really happened", "bold green")
            if ok
            else ("Not all of it happened", "bold red")
        )
        line = Line().append(verdict, style).append(f", in {seconds:.0f} s. Next: ")
        self.console.line()
        self.console.print(
            line.append("swarmllm join", "bold").append(" on several machines of one network.")
        )
        return ok


def _board(nodes: Sequence[NodeProcess], experts: Sequence[str]) -> Group:
    table = Table(box=None, pad_edge=True, padding=(0, 1))
    for heading in ("", "expert", "process", "peer", "state", "peers", "experts"):
        table.add_column(
            heading,
            justify="right" if heading in {"process", "peers", "experts"} else "left",
            style="" if heading else "bold",
        )
    for i, (node, expert) in enumerate(zip(nodes, experts, strict=False)):
        state = next((text for event, text in STATES if node.found(event)), "starting")
        table.add_row(
            Line(node.name, style=COLOURS[i % len(COLOURS)]),
            expert,
            str(node.pid),
            short_peer(node.peer) if node.peer else "",
            state,
            str(len(known(node, "peer"))),
            str(len(known(node, "expert"))),
        )
    return Group(table)


def known(node: NodeProcess, kind: str) -> set[str]:
    """The peers, or experts, that a node has reported as found and not as lost since; its own
    expert is not counted."""
    found: set[str] = set()
    for record in node.records:
        peer = str(record.get("peer", ""))
        if record["event"] == f"{kind}_found":
            found.add(peer)
        elif record["event"] == f"{kind}_lost":
            found.discard(peer)
    return found - {node.peer}
