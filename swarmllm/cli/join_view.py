"""What a person sees of a running node: a line for everything that happens and, on a terminal, its state below them.

Methods are called from threads, one at a time; they may block as long as the terminal does.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from swarmllm.cli.inspect import status_view
from swarmllm.cli.output import count, short_peer, size
from swarmllm.runtime.json_events import Record

SHARE_NOTICE: Final = (
    "The experts that help with an answer see its prompt and its text. Other people's nodes are other people's computers."
)


class JoinView:
    def __init__(self, console: Console, *, ask_with: str, is_first_run: bool) -> None:
        """`ask_with`: flags with which other commands find this node."""
        self.is_live = console.is_terminal
        self._console = console
        self._is_first_run = is_first_run
        self._ask_with = ask_with
        self._live = Live(Text(""), console=console, auto_refresh=False, transient=True) if self.is_live else None
        self._told: set[str] = set()
        if self._live is not None:
            self._live.start()

    def tell(self, record: Record) -> None:
        """Show one record of the node's life."""
        match record["event"]:
            case "progress":
                self._progress(record)
            case "ready":
                self._ready(record)
            case _:
                line = _line(record)
                if line is not None:
                    self._console.print(line, soft_wrap=True)

    def refresh(self, status: Record) -> None:
        if self._live is not None:
            foot = Text("Ctrl-C leaves", style="dim")
            self._live.update(Group(Rule(style="dim"), status_view(status), foot), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _progress(self, record: Record) -> None:
        what, done, total = str(record["what"]), record["done"], record["total"]
        if self._live is not None:
            share = f" {100 * done / total:.0f} %" if total else ""
            amount = f" ({size(done)} of {size(total)})" if total and record["unit"] == "bytes" else ""
            self._live.update(Text(f"{what}{share}{amount} …", style="dim"), refresh=True)
        elif what not in self._told:
            self._told.add(what)
            self._console.print(Text(f"{what} …"))

    def _ready(self, record: Record) -> None:
        show = self._console.print
        show(Text(f"Ready. This node is {record['peer']}", style="bold green"), soft_wrap=True)
        if record["invite"]:
            show("Others join it with:", style="bold")
            show(Text(f"    swarmllm join --peer {record['invite']}", style="cyan"), soft_wrap=True)
        show("Ask the swarm, here and now:", style="bold")
        show(Text(f'    swarmllm generate -v{self._ask_with} "Once upon a time"', style="cyan"), soft_wrap=True)
        if self._is_first_run:
            show(Text(SHARE_NOTICE, style="yellow"))


def _line(record: Record) -> Text | None:
    """None for what people need not be told."""
    peer = short_peer(str(record.get("peer", "")))
    match record["event"]:
        case "starting":
            return Text(f"Starting a node of the swarm “{record['swarm']}” ({record['data_dir']})")
        case "model_ready":
            facts = f"{count(record['n_params'])} parameters, context {record['context_max']} tokens"
            return Text(f"Expert {record['model']} is ready: {facts}, loaded in {record['seconds']:.1f} s")
        case "listening":
            return Text(f"Listening on {', '.join(record['addrs']) or 'no address that others could reach'}")
        case "warning":
            return Text(str(record["text"]), style="yellow")
        case "peer_found":
            return Text(f"+ peer {peer}", style="dim")
        case "peer_lost":
            return Text(f"- peer {peer} ({record['reason']})", style="dim")
        case "expert_found":
            return Text(f"+ expert {record['model']} of {peer}, {count(record['n_params'])} parameters", style="green")
        case "expert_lost":
            return Text(f"- expert of {peer} ({record['reason']})", style="yellow")
        case "halted":
            return Text(f"Halted: {'; '.join(record['reasons'])}", style="bold red")
        case "resumed":
            return Text("Started again: nothing halts this node any more", style="bold green")
        case "stopping":
            return Text("Leaving …")
        case "stopped":
            return Text("Left.")
        case _:
            return None
