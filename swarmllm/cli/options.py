"""The options that several commands share, declared once so that they read the same everywhere.

Where commands share a whole group of them, the group is a dataclass: a command takes one parameter of its type, and `spread` shows its
fields to typer as if each were a parameter of the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:  # Help must not cost their imports.
    from swarmllm.runtime.config import Config
    from swarmllm.runtime.generation import Wish

NODE, MODEL, ANSWER, OUTPUT = "Node", "Model", "Answer", "Output"

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.", rich_help_panel=OUTPUT)]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", metavar="FOLDER", help="Where this node keeps its key and state.", rich_help_panel=NODE),
]
CacheDir = Annotated[
    str | None, typer.Option("--cache-dir", metavar="FOLDER", help="Where expanded models are kept.", rich_help_panel=NODE)
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="MULTIADDR",
        help="A peer to begin with, such as /ip4/203.0.113.7/tcp/7339/p2p/12D3Koo… (repeatable).",
        rich_help_panel=NODE,
    ),
]
Swarm = Annotated[
    str | None,
    typer.Option("--swarm", metavar="NAME", help="Only peers of the same swarm find each other.", rich_help_panel=NODE),
]
Charter = Annotated[
    str | None,
    typer.Option(
        "--charter",
        metavar="FILE|ID",
        help="The charter of the swarm, or its id: who may halt it. Without it, this node's owner alone.",
        rich_help_panel=NODE,
    ),
]
NoLan = Annotated[
    bool, typer.Option("--no-lan", help="Neither look for peers on the local network nor be found there.", rich_help_panel=NODE)
]
Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST", help="IP address to listen on; 0.0.0.0 is every interface.", rich_help_panel=NODE),
]
Port = Annotated[
    int | None,
    typer.Option("--port", help="TCP port (0: any free one). Without this: 7339, or the next free one.", rich_help_panel=NODE),
]
Announce = Annotated[
    list[str] | None,
    typer.Option(
        "--announce",
        metavar="MULTIADDR",
        help="Tell others this address instead (port forwarding; repeatable).",
        rich_help_panel=NODE,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="No contact with anything outside this machine's networks.", rich_help_panel=NODE)
]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.", rich_help_panel=OUTPUT)
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A GGUF file, demo, demo:NAME, or none (ask others, offer nothing).",
        rich_help_panel=MODEL,
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads of the engine (0: one per core).", rich_help_panel=MODEL)
]
Context = Annotated[int | None, typer.Option("--context", help="Tokens per session.", rich_help_panel=MODEL)]
Sessions = Annotated[
    int | None, typer.Option("--sessions", help="Answers this expert takes part in at once.", rich_help_panel=MODEL)
]
GpuLayers = Annotated[
    int | None, typer.Option("--gpu-layers", help="Layers on the GPU (-1: all, 0: none).", rich_help_panel=MODEL)
]

K = Annotated[
    int | None, typer.Option("-k", "--experts", help="Experts that decide each token together.", rich_help_panel=ANSWER)
]
Extra = Annotated[
    int | None,
    typer.Option("--extra", help="More experts asked than needed, as insurance against slow ones.", rich_help_panel=ANSWER),
]
Quality = Annotated[
    float | None,
    typer.Option(
        "--quality",
        help="Share of tokens that all K experts are asked about, where the best one is least sure "
        "(1: every token; 0: always one expert).",
        rich_help_panel=ANSWER,
    ),
]
Domain = Annotated[
    str | None,
    typer.Option("--domain", metavar="NAME", help="Believe experts of this domain more at first.", rich_help_panel=ANSWER),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="Length of the answer at most.", rich_help_panel=ANSWER)]
Temperature = Annotated[float, typer.Option("--temperature", help="0 always takes the likeliest token.", rich_help_panel=ANSWER)]
TopK = Annotated[int, typer.Option("--top-k", help="Draw from this many likeliest tokens (0: off).", rich_help_panel=ANSWER)]
TopP = Annotated[
    float,
    typer.Option("--top-p", help="Draw from the likeliest tokens with this share of the mass (1: off).", rich_help_panel=ANSWER),
]
MinP = Annotated[
    float,
    typer.Option("--min-p", help="Leave out tokens below this share of the likeliest one (0: off).", rich_help_panel=ANSWER),
]
Penalty = Annotated[
    float, typer.Option("--repetition-penalty", help="Above 1 discourages repetition (1: off).", rich_help_panel=ANSWER)
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="The same seed draws the same tokens from the same distributions.", rich_help_panel=ANSWER),
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End the answer before this text (repeatable).", rich_help_panel=ANSWER),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="For each token: who answered, weights, agreement, time, bytes.", rich_help_panel=OUTPUT
    ),
]
NoLocal = Annotated[
    bool,
    typer.Option(
        "--no-local", help="Without a running node: do not load the bundled expert as a fallback.", rich_help_panel=MODEL
    ),
]


@dataclass(frozen=True, slots=True)
class Answering:
    """What `generate` and `chat` take."""

    k: K = None
    extra: Extra = None
    quality: Quality = None
    domain: Domain = None
    max_tokens: MaxTokens = 128
    temperature: Temperature = 0.8
    top_k: TopK = 0
    top_p: TopP = 0.95
    min_p: MinP = 0.0
    repetition_penalty: Penalty = 1.0
    seed: Seed = None
    stop: Stop = None
    no_local: NoLocal = False
    peer: Peers = None
    swarm: Swarm = None
    charter: Charter = None
    no_lan: NoLan = False
    data_dir: DataDir = None
    cache_dir: CacheDir = None
    verbose: Verbose = False

    def config(self) -> Config:
        from swarmllm.cli.settings import config_of

        return config_of(
            peers=self.peer,
            swarm=self.swarm,
            charter=self.charter,
            lan=False if self.no_lan else None,
            data_dir=self.data_dir,
            cache_dir=self.cache_dir,
            k=self.k,
            extra=self.extra,
            quality=self.quality,
        )

    def wish(self, prompt: str, config: Config) -> Wish:
        from swarmllm.runtime.generation import Wish
        from swarmllm.runtime.user_text import typed_text

        return Wish(
            typed_text(prompt, "the prompt"),
            k=config.k,
            extra=config.extra,
            quality=config.quality,
            domain=typed_text(self.domain or "", "--domain"),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=tuple(typed_text(stop, "--stop") for stop in self.stop or ()),
        )


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter whose type is a dataclass shown as that class's fields, in place."""
    hints = get_type_hints(command, include_extras=True)
    shown: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not is_dataclass(kind):
            shown.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        within = get_type_hints(kind, include_extras=True)
        groups[name] = (kind, [f.name for f in fields(kind)])
        for f in fields(kind):
            assert f.default is not MISSING, f"{kind.__name__}.{f.name} has no default"
            shown.append(inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=within[f.name]))

    @wraps(command)
    def called(**values: Any) -> None:
        for name, (kind, names) in groups.items():
            values[name] = kind(**{field: values.pop(field) for field in names})
        command(**values)

    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # What typer reads.
    called.__annotations__ = {p.name: p.annotation for p in shown}
    return called
