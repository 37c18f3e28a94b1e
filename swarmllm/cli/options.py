"""The options that several commands share, declared once so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

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
