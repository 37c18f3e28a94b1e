"""What a person sees of a running node: a line for everything that happens and, on a terminal, its
state below them.

The view runs in the node's process, and shows what strangers wrote. So whatever goes wrong in it
stays in it: the log is told once of each kind of fault, the person sees a plain line in place of
what failed, and the node goes on. When the live state below the lines cannot even say that much, or
the terminal itself fails, the view goes on without it.

Methods are called from threads, one at a time; they may block as long as the terminal does. None of
them raises for a fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.rule import Rule

from swarmllm.cli.inspect import status_view
from swarmllm.cli.output import count, short_peer, size
from swarmllm.cli.progress_line import progress_line
from swarmllm.cli.screen import Line, Screen
from swarmllm.runtime.service.record import Record

log = logging.getLogger("swarmllm.view")

SLOW_BELOW: Final = 3.0  # Tokens/s: slower than most people read.
SLOW: Final = " (a smaller model, or one of fewer bits, is faster)"
CLOSED: Final = "The swarm is closed. A member who may invite lets another one in with one line:"
SHARE_NOTICE: Final = (
    "The experts that help with an answer see its prompt and its text."
    " Other people's nodes are other people's computers."
)


class JoinView:
    def __init__(
        self, console: Screen, *, ask_with: str, is_first_run: bool, is_closed: bool = False
    ) -> None:
        """`ask_with`: flags with which other commands find this node. `is_closed`: its swarm."""
        self._console = console
        self._is_closed = is_closed
        self._is_first_run = is_first_run
        self._ask_with = ask_with
        self._live = (
            Live(Line(""), console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )
        self._told: set[str] = set()
        # Found before it is known which of the experts is our own.
        self._early: list[Record] = []
        self._own = ""  # This node's peer id, once it is known.
        self._faults: set[str] = set()
        self._open = ExitStack()
        with self.sheltered("start", self._without_live):
            if self._live is not None:
                self._live.start()
                self._open.enter_context(progress_line.shown_by(self._waiting))

    @property
    def is_live(self) -> bool:
        """Whether there is a state to refresh. It may end."""
        return self._live is not None

    def tell(self, record: Record) -> None:
        """Show one record of the node's life."""
        with self.sheltered(f"show {str(record.get('event'))[:40]!r}", self._without_line):
            match record["event"]:
                case "progress":
                    self._progress(record)
                case "ready":
                    early, self._early, self._own = self._early, [], str(record["peer"])
                    self._ready(record)
                    for found in early:
                        self.tell(found)
                case "expert_found" if not self._own:
                    self._early.append(record)
                case "expert_found" if record.get("peer") == self._own:
                    pass
                case _:
                    line = _line(record)
                    if line is not None:
                        self._console.print(line, soft_wrap=True)

    def refresh(self, status: Record) -> None:
        """Show the node's state anew."""
        with self.sheltered("show the node's state", self._without_state):
            if self._live is not None:
                foot = Line("Ctrl-C leaves", "dim")
                self._live.update(Group(Rule(style="dim"), status_view(status), foot), refresh=True)

    def close(self) -> None:
        with self.sheltered("end"):
            self._open.close()
            if self._live is not None:
                self._live.stop()

    # --- faults -----------------------------------------------------------------------------------

    @contextmanager
    def sheltered(self, what: str, instead: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Whatever this raises is told to the log; `instead` shows something simpler, and may fail
        as well."""
        try:
            yield
        except Exception as fault:  # noqa: BLE001  A fault of a view, or of the terminal, must never end a node.
            self._note(what, fault)
            self._console.drop()
            try:
                instead()
            except Exception as second:  # noqa: BLE001  The same.
                self._note(f"say that it could not {what}", second)
                self._console.drop()

    def _note(self, what: str, fault: Exception) -> None:
        """The kind and not the text, which may quote what was to be shown. Once: a view is
        refreshed twice a second."""
        kind = f"{what}: {type(fault).__name__}"
        if kind not in self._faults:
            self._faults.add(kind)
            log.error("the view could not %s; the node goes on", kind)

    def _without_line(self) -> None:
        self._console.print(
            Line("(Something happened that could not be shown; node.log has the reason.)", "dim")
        )

    def _without_state(self) -> None:
        """The next refresh tries again: what could not be shown may be gone by then."""
        try:
            if self._live is not None:
                self._live.update(
                    Line(
                        "The node runs, but its state cannot be shown; node.log has the reason.",
                        "dim",
                    ),
                    refresh=True,
                )
        except Exception:
            self._without_live()
            raise

    def _without_live(self) -> None:
        self._open.close()
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    # --- what is shown ----------------------------------------------------------------------------

    def _progress(self, record: Record) -> None:
        what, done, total = str(record["what"]), record["done"], record["total"]
        if self._live is not None:
            share = f" {100 * done / total:.0f} %" if total else ""
            amount = (
                f" ({size(done)} of {size(total)})" if total and record["unit"] == "bytes" else ""
            )
            self._live.update(Line(f"{what}{share}{amount} …", style="dim"), refresh=True)
        elif what not in self._told:
            self._told.add(what)
            self._console.print(Line(f"{what} …"))

    def _waiting(self, sentence: str) -> None:
        """From a thread of its own, at any time."""
        with self.sheltered("show a wait"):
            if self._live is not None and sentence:
                self._live.update(Line(sentence, "dim"), refresh=True)

    def _ready(self, record: Record) -> None:
        show = self._console.print
        show(Line(f"Ready. This node is {record['peer']}", style="bold green"), soft_wrap=True)
        if self._is_closed:
            show(Line(CLOSED, style="bold"))
            show(Line(f"    swarmllm invite{self._ask_with}", style="cyan"), soft_wrap=True)
        elif record["invite"]:
            show(Line(_who_can_join(str(record["invite"])), style="bold"))
            show(Line(f"    swarmllm join --peer {record['invite']}", style="cyan"), soft_wrap=True)
            show(Line("Or invite them with one line, which also names the swarm:", style="bold"))
            show(Line(f"    swarmllm invite{self._ask_with}", style="cyan"), soft_wrap=True)
        show(Line("Ask the swarm, here and now:", style="bold"))
        for command in (f"chat{self._ask_with}", f'generate -v{self._ask_with} "Once upon a time"'):
            show(Line(f"    swarmllm {command}", style="cyan"), soft_wrap=True)
        if record.get("http"):
            show(Line("Watch it, and chat, in a browser:", style="bold"))
            show(Line(f"    {record['http']}/", style="cyan"), soft_wrap=True)
            show(Line("Other programs use it as they use OpenAI's API:", style="bold"))
            for line in _curl(str(record["http"])):
                show(Line(f"    {line}", style="cyan"), soft_wrap=True)
        if self._is_first_run:
            show(Line(SHARE_NOTICE, style="yellow"))


def _curl(url: str) -> tuple[str, str]:
    """The base URL for programs, and one call of it to try."""
    body = '{"model":"swarm","max_tokens":100,"messages":[{"role":"user","content":"Hello!"}]}'
    return (
        f"OPENAI_BASE_URL={url}/v1",
        f"curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
    )


def _who_can_join(address: str) -> str:
    if address.startswith(("/ip4/127.", "/ip6/::1/")):
        return "Only this machine can reach it; another node on it joins with:"
    return "Others join it with:"


def _line(record: Record) -> Line | None:
    """None for what people need not be told."""
    peer = short_peer(str(record.get("peer", "")))
    match record["event"]:
        case "starting":
            return Line(f"Starting a node of the swarm “{record['swarm']}” ({record['data_dir']})")
        case "model_ready":
            facts = (
                f"{count(record['n_params'])} parameters, context {record['context_max']} tokens"
            )
            loaded = f"loaded in {record['seconds']:.1f} s" + expectation(record["tokens_per_s"])
            return Line(f"Expert {_with_file(record)} is ready: {facts}, {loaded}")
        case "listening":
            return Line(
                f"Listening on {', '.join(record['addrs']) or 'no address that others could reach'}"
            )
        case "service_opened":
            return Line(f"The gRPC service listens on {record['grpc']}")
        case "warning":
            text = str(record["text"])
            return Line(text[:1].upper() + text[1:], style="yellow")
        case "peer_found":
            return Line(f"+ peer {peer}", style="dim")
        case "peer_lost":
            return Line(f"- peer {peer} ({record['reason']})", style="dim")
        case "expert_found":
            return Line(
                f"+ expert {record['model']} of {peer}, {count(record['n_params'])} parameters",
                style="green",
            )
        case "expert_lost":
            return Line(f"- expert of {peer} ({record['reason']})", style="yellow")
        case "halted":
            why = "; ".join(record["reasons"])
            return Line(f"This node writes no text any more: {why}", style="bold red")
        case "resumed":
            return Line("Started again: nothing halts this node any more", style="bold green")
        case "log_doubted":
            return Line(f"The ledger of {peer} {record['reason']}", style="bold red")
        case "serving_paused":
            return Line(f"Paused, others are not served: {record['reason']}", style="yellow")
        case "serving_resumed":
            return Line("Serving others again", style="green")
        case "not_let_in":
            return Line(f"This node is not let in: {record['reason']}", style="bold red")
        case "stopping":
            return Line("Leaving …")
        case "stopped":
            return Line("Left.")
        case _:
            return None


def _with_file(record: Record) -> str:
    """A model's own name, which others see, and that of the file where it is another."""
    model, file = str(record["model"]), str(record.get("file", ""))
    is_same = _letters(model) in _letters(file)
    return model if is_same or not file else f"{model} ({file})"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def expectation(rate: float) -> str:
    """What a measured speed, in tokens/s, means for whoever waits for an answer; nothing for a node
    that is halted and could not measure."""
    if rate <= 0:
        return ""
    told = f"; it decodes {_figure(rate)} tokens/s here, 100 tokens in {_figure(100 / rate)} s"
    return told + (SLOW if rate < SLOW_BELOW else "")


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
