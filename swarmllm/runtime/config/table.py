"""The table of a node's settings: each is declared here, and nowhere else.

The config file, the environment variables, the options of the commands with their help, the checks
and docs/configuration.md are made of these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from swarmllm.core.settings import setting as core
from swarmllm.core.settings.table import EXPERTS, EXTRA, WIDE_SHARE
from swarmllm.core.values import SPECULATIVE
from swarmllm.errors import UsageError
from swarmllm.messages import CONTEXT_MAX
from swarmllm.runtime.config.pins import pins_of, read_pins
from swarmllm.runtime.config.readers import (
    hashed_key,
    host_name,
    multiaddrs,
    number,
    one_of,
    origin,
    read_charter,
    read_endpoint,
    read_folder,
    read_host,
    read_hours,
    read_invite,
    read_membership,
    read_model,
    read_percent,
    read_swarm,
    read_switch,
    read_vocabulary,
    several,
    whole,
)
from swarmllm.runtime.config.setting import PANELS, Setting
from swarmllm.runtime.model_reference import AUTO

NO_PORT: Final = -1
SESSIONS_LIMIT: Final = 256  # llama.cpp's own bound on parallel sequences.
_, MODEL, ANSWER, OUTPUT, API = PANELS


@dataclass(frozen=True, slots=True)
class Config:
    """The checked settings of one node. Each field is a setting: its type, its declaration, its
    default. The two folders have none; they are the user's (`Folders`)."""

    data_dir: Annotated[
        Path,
        Setting(
            read_folder,
            "The folder of the node's key, state, log and local socket; one node each.",
            metavar="FOLDER",
            usual="`~/.local/share/swarmllm` on Linux",
        ),
    ]
    cache_dir: Annotated[
        Path,
        Setting(
            read_folder,
            "The folder of fetched and expanded models and the vocabulary; nodes may share it.",
            metavar="FOLDER",
            usual="`~/.cache/swarmllm` on Linux",
        ),
    ]
    model: Annotated[
        str,
        Setting(
            read_model,
            "The expert that this node offers: `smollm2[:NAME]`, `hf:OWNER/REPO/FILE`,"
            " `hf:OWNER/REPO:QUANT`, `llama3-demo:NAME`, or a GGUF file. `auto`: SmolLM2 if it is"
            " here or may be fetched, else a tiny demonstration expert. `none`: it asks others and"
            " offers nothing.",
            panel=MODEL,
            metavar="MODEL",
        ),
    ] = AUTO
    vocabulary: Annotated[
        str,
        Setting(
            read_vocabulary,
            "Whose experts a node without a model asks. `auto`: those of the vocabulary that most"
            " experts of the swarm have; `llama3`; or the beginning of a vocabulary's fingerprint,"
            " as `status` shows it.",
            panel=MODEL,
            metavar="auto|llama3|FINGERPRINT",
        ),
    ] = "auto"
    swarm: Annotated[
        str,
        Setting(
            read_swarm,
            "The name of the swarm; only peers of one swarm find each other.",
            metavar="NAME",
        ),
    ] = "private"
    charter: Annotated[
        str,
        Setting(
            read_charter,
            "Who may halt the swarm: the charter's file, or the swarm's id. Empty:"
            " this node's owner alone.",
            metavar="FILE|ID",
        ),
    ] = ""
    invite: Annotated[
        str,
        Setting(
            read_invite,
            "The invite with which this node joins a swarm; `swarmllm join` also takes it without"
            " a flag. It is kept in the data folder, and good for the next start as well.",
            metavar="LINE",
        ),
    ] = ""
    closed: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether this node talks with members alone: peers whose membership a root key of the"
            " charter has signed, or someone whom one allowed to let others in (docs/invites.md).",
            help="Talk with members of the swarm alone.",
        ),
    ] = False
    membership: Annotated[
        str,
        Setting(
            read_membership,
            "The file with this node's membership of a closed swarm. Empty: it has one by an"
            " invite, or is the owner of a root key.",
            metavar="FILE",
        ),
    ] = ""
    listen_host: Annotated[
        str,
        Setting(
            read_host,
            "The address to listen on; 0.0.0.0 is every interface, over IPv4 and IPv6.",
            flag="--listen",
            metavar="HOST",
        ),
    ] = "0.0.0.0"
    port: Annotated[
        int,
        Setting(
            whole(0, 65_535),
            "The TCP port; 0 takes any free one. If the default port is taken, the next free one.",
        ),
    ] = 7339
    peers: Annotated[
        tuple[str, ...],
        Setting(
            multiaddrs(needs_peer=True),
            "Peers to begin with.",
            flag="--peer",
            metavar="MULTIADDR",
        ),
    ] = ()
    announce: Annotated[
        tuple[str, ...],
        Setting(
            multiaddrs(needs_peer=False),
            "The addresses that others are told, instead of those that were found.",
            metavar="MULTIADDR",
            usual="the addresses found",
        ),
    ] = ()
    lan: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether the node looks for peers on the local network and can be found there.",
            help="Neither look for peers on the local network nor be found there.",
        ),
    ] = True
    port_mapping: Annotated[
        str,
        Setting(
            one_of("auto", "off"),
            "Whether the router is asked to forward the port (PCP, NAT-PMP, UPnP), where this node"
            " has private addresses only.",
            metavar="auto|off",
        ),
    ] = "auto"
    relay: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether the node lends circuits to peers that nobody can dial, within bounds: up to"
            " 16 Mbit/s. Only where others can dial this node.",
            help="Relay for peers that nobody can dial, within bounds.",
        ),
    ] = False
    behind_nat: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether the node is to be reached through relays, because nobody can dial it.",
            help="Be reached through relays, because nobody can dial this node.",
        ),
    ] = False
    canary: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether this node may be among the first to try a change that the swarm voted for.",
            help="Never be among the first to try a change that the swarm has voted for.",
        ),
    ] = True
    agent: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether this node takes part in the swarm's improvement of itself, as far as the"
            " swarm's phase allows. Never before a user's request.",
            help="Take part in the swarm's improvement of itself, as far as its phase allows.",
        ),
    ] = False
    yield_to_owner: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether the node stops serving others while other programs keep a quarter of this"
            " machine's cores, or of its GPU, busy (docs/lending.md).",
            help="Serve nobody while other programs use this machine; within a second.",
        ),
    ] = False
    hours: Annotated[
        str,
        Setting(
            read_hours,
            "The part of the day in which the node serves others, by the local clock, such as"
            " `22-07`. Empty: all of it.",
            metavar="FROM-TO",
        ),
    ] = ""
    max_share: Annotated[
        str,
        Setting(
            read_percent,
            "The share of this machine's cores that the expert may use, and of the GPU's memory,"
            " such as `50%`.",
            metavar="PERCENT",
        ),
    ] = "100%"
    on_battery: Annotated[
        str,
        Setting(
            one_of("pause", "serve"),
            "Whether the node serves others while this machine runs on its battery.",
            metavar="pause|serve",
        ),
    ] = "pause"
    trust_capped_days: Annotated[
        float,
        Setting(
            number(0, 365),
            "Days for which the word of an expert that this node has not known before counts half,"
            " however well it does (docs/trust.md).",
            metavar="DAYS",
        ),
    ] = 7.0
    trust_whole_days: Annotated[
        float,
        Setting(
            number(0, 3650),
            "Days after which an expert's word counts fully; in between it grows.",
            metavar="DAYS",
        ),
    ] = 30.0
    trust_excluded_days: Annotated[
        float,
        Setting(
            number(0, 3650),
            "Days for which an expert is not asked that an audit has shown to answer with something"
            " else than its model.",
            metavar="DAYS",
        ),
    ] = 7.0
    api: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether other programs can use this node over HTTP, as they use OpenAI's or"
            " Anthropic's API.",
            help="No HTTP API.",
            panel=API,
        ),
    ] = True
    api_host: Annotated[
        str,
        Setting(
            read_host,
            "The address that the HTTP API listens on. Beyond loopback it needs a key.",
            panel=API,
            metavar="HOST",
        ),
    ] = "127.0.0.1"
    api_port: Annotated[
        int,
        Setting(
            whole(0, 65_535),
            "The port of the HTTP API; 0 takes any free one. If the default port is taken, the next"
            " free one.",
            panel=API,
        ),
    ] = 7337
    api_keys: Annotated[
        tuple[str, ...],
        Setting(
            several(hashed_key, "a key"),
            "Keys that the HTTP API asks for, or `sha256:` and their hashes. A key given here can"
            " be seen in the list of processes; the variable and the file are better places.",
            flag="--api-key",
            panel=API,
            metavar="KEY",
        ),
    ] = ()
    api_origins: Annotated[
        tuple[str, ...],
        Setting(
            several(origin, "an origin"),
            "Web pages that may use the HTTP API from a browser.",
            flag="--api-allow-origin",
            panel=API,
            metavar="ORIGIN",
        ),
    ] = ()
    api_hosts: Annotated[
        tuple[str, ...],
        Setting(
            several(host_name, "a name"),
            "Names of this machine under which the HTTP API may be asked, beside `localhost` and"
            " addresses.",
            flag="--api-allow-host",
            panel=API,
            metavar="NAME",
        ),
    ] = ()
    sessions_max: Annotated[
        int,
        Setting(
            whole(1, SESSIONS_LIMIT),
            "Answers that the expert takes part in at once.",
            flag="--sessions",
            panel=MODEL,
        ),
    ] = 16
    context_max: Annotated[
        int,
        Setting(
            whole(64, CONTEXT_MAX),
            "Tokens of context that each session may have.",
            flag="--context",
            panel=MODEL,
        ),
    ] = 2048
    threads: Annotated[
        int,
        Setting(
            whole(0, 1024),
            "Processor threads of the engine. 0: one for each core.",
            panel=MODEL,
        ),
    ] = 0
    gpu_layers: Annotated[
        int,
        Setting(
            whole(-1, 1000),
            "Layers of the model on the GPU, where llama.cpp was built for one. -1: all.",
            panel=MODEL,
        ),
    ] = -1
    reproducible: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether the expert's answers are the same to the bit whatever else it computes, so"
            " that replicas on like processors write the same text. Costs speed.",
            help="Answers that are the same to the bit whatever else the expert computes; slower.",
            panel=MODEL,
        ),
    ] = False
    k: Annotated[
        int | None,
        Setting(
            whole(EXPERTS.limits.low, EXPERTS.limits.high),
            "Experts that decide each token together.",
            flag="-k",
            panel=ANSWER,
            also=("--experts",),
            pins=EXPERTS,
        ),
    ] = None
    extra: Annotated[
        int | None,
        Setting(
            whole(EXTRA.limits.low, EXTRA.limits.high),
            "Experts asked beyond `k`, as insurance against slow ones.",
            panel=ANSWER,
            pins=EXTRA,
        ),
    ] = None
    quality: Annotated[
        float | None,
        Setting(
            number(0, 1),
            "Share of the tokens that all `k` experts are asked about. 1: all tokens; 0:"
            " always one expert.",
            panel=ANSWER,
            pins=WIDE_SHARE,
        ),
    ] = None
    speculation: Annotated[
        str,
        Setting(
            one_of(*SPECULATIVE),
            "Who may draft tokens that are asked about together, so that one round trip brings"
            " several: this node's own expert (`local`), what followed the same words before"
            " (`lookup`), the expert that weighs most (`remote`), whoever it pays with (`auto`),"
            " nobody (`off`). The text is the same.",
            help="Who drafts tokens that are asked about together; the text is the same.",
            panel=ANSWER,
            metavar="|".join(SPECULATIVE),
        ),
    ] = "auto"
    pins: Annotated[
        tuple[str, ...],
        Setting(
            read_pins,
            "Settings of the swarm that stay as they are given here for this node, whatever the"
            " swarm sets. In the file: a table `[pins]`.",
            flag="--pin",
            metavar="KEY=VALUE",
        ),
    ] = ()
    grpc_port: Annotated[
        int,
        Setting(
            whole(NO_PORT, 65_535),
            "The port of loopback for the gRPC service (docs/service.md). -1: none; 0: any free"
            " one.",
        ),
    ] = NO_PORT
    log_level: Annotated[
        str,
        Setting(
            one_of("debug", "info", "warning", "error"),
            "What the log file holds.",
            panel=OUTPUT,
            metavar="debug|info|warning|error",
        ),
    ] = "warning"
    log_format: Annotated[
        str,
        Setting(
            one_of("plain", "json"),
            "`json`: what a command tells of its work, and what the node logs, comes as one JSON"
            " object a line on standard error (docs/metrics.md has the fields). `plain`: in"
            " sentences for people, and the log in its file alone.",
            panel=OUTPUT,
            metavar="plain|json",
        ),
    ] = "plain"
    otlp_endpoint: Annotated[
        str,
        Setting(
            read_endpoint,
            "Where traces of answers go (OpenTelemetry, OTLP over HTTP); needs the extra `otel`."
            " Empty: none are made.",
            panel=OUTPUT,
            metavar="URL",
        ),
    ] = ""
    offline: Annotated[
        bool,
        Setting(
            read_switch,
            "Whether every contact beyond this machine's networks is forbidden.",
            help="No contact with anything outside this machine's networks.",
        ),
    ] = False


def _declared() -> dict[str, Setting]:
    hints = get_type_hints(Config, include_extras=True)
    found = {}
    for field in fields(Config):
        hint = hints[field.name]
        found[field.name] = hint.__metadata__[0].of(field, hint)
    return found


SETTINGS: Final[dict[str, Setting]] = _declared()
"""Every setting, by its name."""


def pinned(config: Config) -> dict[core.Setting[Any], int]:
    """The settings of the swarm that this node's owner has fixed for it, in their own units.
    UsageError if one is fixed in two ways that differ."""
    found = pins_of(config.pins)
    for name, row in SETTINGS.items():
        value = getattr(config, name)
        if row.pins is None or value is None:
            continue
        number = row.pins.units(value)
        if found.setdefault(row.pins, number) != number:
            raise UsageError(
                f"{name} is {value}, and {row.pins} is pinned to {found[row.pins]}"
                f" ({row.pins.unit}); they are the same setting, so leave one of them out"
            )
    return found
