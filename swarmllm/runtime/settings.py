"""How each single setting is read: one reader per kind of value, and the table that gives each
setting its reader and its flag.

A reader takes the raw value and whether it is text (a flag or a variable, to be parsed) or already
typed (TOML), so that `port = "7339"` in the file is a mistake while `SWARMLLM_PORT=7339` is not. It
raises `Unfit` for whatever it does not take.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.errors import RemoteError
from swarmllm.messages import CONTEXT_MAX, PeerId
from swarmllm.wire.identity import public_key_of

# Bootstrap peers are dialled for ever, each by a task of its own; nobody lists more by hand.
ADDRS_MAX: Final = 64
SESSIONS_LIMIT: Final = 256  # llama.cpp's own bound on parallel sequences.
# Experts per token: each costs a round trip's worth of bytes, and pooling gains nothing measurable
# beyond.
SHARE_MAX: Final = 64

Reader = Callable[[object, bool], object]


class Unfit(ValueError):
    """`value` (the setting's, or one item of it) is not `expected`, which ends a sentence."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{value!r} is not {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Folders:
    """The default folders of this machine's user, found by `adapters.datadir`."""

    config_dir: Path
    data_dir: Path
    cache_dir: Path


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `flag` is the command-line spelling, for messages; `about` says what
    the setting decides: the option's help and docs/configuration.md are made of it.

    `kind` is the type of the option's value: str, int, float, list (repeatable) or bool. An option
    of the last kind takes no value: it sets the setting to `sets`, and `help` then says what giving
    it means. `panel` is its place in the help of a command.
    """

    flag: str
    read: Reader
    about: str
    kind: type = str
    panel: str = "Node"
    metavar: str | None = None
    also: tuple[str, ...] = ()
    sets: bool = True
    help: str = ""

    @property
    def option(self) -> str:
        """What is typed: `--no-lan` for a switch that switches off."""
        return (
            self.flag
            if self.kind is not bool or self.sets
            else f"--no-{self.flag.removeprefix('--')}"
        )


def read_folder(value: object, is_text: bool) -> Path:
    """An absolute path; `~` is expanded. A relative one is taken from the current folder, or
    refused in a file."""
    if isinstance(value, Path):
        value, is_text = str(value), True
    if not isinstance(value, str) or not value or "\0" in value:
        raise Unfit(value, "the path of a folder")
    path = _expanded(value)
    if not is_text and not path.is_absolute():
        raise Unfit(value, "an absolute path (a config file has no current folder)")
    return _absolute(path)


def _expanded(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise Unfit(value, "a path whose home folder can be found") from error


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise Unfit(str(path), "a path from / on, and the current folder was removed") from error


def _model(value: object, is_text: bool) -> str:
    if isinstance(value, Path):
        value, is_text = str(value), True
    if not isinstance(value, str) or not value or "\0" in value:
        raise Unfit(value, "demo, demo:NAME, none or the path of a GGUF file")
    if value in {"demo", "none"}:
        return value
    if value.startswith("demo:"):
        if re.fullmatch(r"demo:[a-z0-9][a-z0-9_-]{0,31}", value) is None:
            raise Unfit(value, "demo:NAME with NAME in small letters, digits, - and _")
        return value
    path = _expanded(value)
    if not is_text and not path.is_absolute():
        raise Unfit(value, "an absolute path (a config file has no current folder)")
    return str(_absolute(path))


def _whole(low: int, high: int) -> Reader:
    expected = f"a whole number from {low} to {high}"

    def read(value: object, is_text: bool) -> int:
        if is_text and isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,12}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(value, expected)
        return value

    return read


def _share(value: object, is_text: bool) -> float:
    if is_text and isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise Unfit(value, "a number from 0 to 1") from error
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise Unfit(value, "a number from 0 to 1")
    return float(value)


def _switch(value: object, is_text: bool) -> bool:
    if is_text and isinstance(value, str):
        word = value.strip().lower()
        if word in {"1", "true", "yes", "on"}:
            return True
        if word in {"0", "false", "no", "off"}:
            return False
        raise Unfit(value, "one of 1, true, yes, on, 0, false, no, off")
    if not isinstance(value, bool):
        raise Unfit(value, "true or false")
    return value


def _swarm(value: object, is_text: bool) -> str:
    # The name becomes part of protocol ids and topics, so it keeps to characters that mean nothing
    # in either.
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value) is None:
        raise Unfit(
            value,
            "a swarm's name: up to 32 small letters, digits and -, beginning with a letter or digit",
        )
    return value


def _charter(value: object, is_text: bool) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise Unfit(
            value, "the file of a swarm's charter, or the swarm's id (64 hexadecimal digits)"
        )
    if re.fullmatch(r"[0-9a-fA-F]{64}", value):
        return value.lower()
    return str(_absolute(_expanded(value)))


def _host(value: object, is_text: bool) -> str:
    if not isinstance(value, str):
        raise Unfit(value, "an IP address")
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError as error:
        raise Unfit(
            value, "an IP address such as 127.0.0.1, or 0.0.0.0 for every interface"
        ) from error


def _log_level(value: object, is_text: bool) -> str:
    levels = ("debug", "info", "warning", "error")
    if not isinstance(value, str) or value.lower() not in levels:
        raise Unfit(value, f"one of {', '.join(levels)}")
    return value.lower()


def _addrs(needs_peer: bool) -> Reader:
    def read(value: object, is_text: bool) -> tuple[str, ...]:
        if is_text and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, (list, tuple)) or len(value) > ADDRS_MAX:
            raise Unfit(value, f"a list of at most {ADDRS_MAX} multiaddrs")
        return tuple(dict.fromkeys(_addr(item, needs_peer) for item in value))

    return read


def _addr(value: object, needs_peer: bool) -> str:
    """One multiaddr over TCP, checked by its text: `/ip4/203.0.113.7/tcp/7339/p2p/12D3Koo...`."""
    expected = "a multiaddr such as /ip4/203.0.113.7/tcp/7339" + (
        "/p2p/12D3Koo..." if needs_peer else ""
    )
    if not isinstance(value, str):
        raise Unfit(value, expected)
    parts = value.split("/")
    ok = (
        len(parts) in ((7,) if needs_peer else (5, 7))
        and parts[0] == ""
        and parts[3] == "tcp"
        and (len(parts) == 5 or parts[5] == "p2p")
    )
    if (
        not ok
        or not _is_host(parts[1], parts[2])
        or not re.fullmatch(r"[0-9]{1,5}", parts[4])
        or not 1 <= int(parts[4]) <= 65_535
    ):
        raise Unfit(value, expected)
    if len(parts) == 7:
        try:
            public_key_of(PeerId(parts[6]))
        except RemoteError as error:
            raise Unfit(parts[6], "the id of a peer (12D3Koo...)") from error
    return value


def _is_host(kind: str, host: str) -> bool:
    try:
        match kind:
            case "ip4":
                ipaddress.IPv4Address(host)
            case "ip6":
                ipaddress.IPv6Address(host)
            case "dns" | "dns4" | "dns6":
                return (
                    len(host) <= 253
                    and re.fullmatch(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", host)
                    is not None
                )
            case _:
                return False
    except ValueError:
        return False
    return True


SETTINGS: Final[dict[str, Setting]] = {
    "data_dir": Setting(
        "--data-dir",
        read_folder,
        "The folder of the node's key, state, log and local socket; one node each.",
        metavar="FOLDER",
    ),
    "cache_dir": Setting(
        "--cache-dir",
        read_folder,
        "The folder of expanded demo experts and the vocabulary; nodes may share it.",
        metavar="FOLDER",
    ),
    "model": Setting(
        "--model",
        _model,
        "The expert that this node offers. `none`: it asks others and offers nothing.",
        panel="Model",
        metavar="demo|demo:NAME|none|FILE",
    ),
    "swarm": Setting(
        "--swarm",
        _swarm,
        "The name of the swarm; only peers of one swarm find each other.",
        metavar="NAME",
    ),
    "charter": Setting(
        "--charter",
        _charter,
        "Who may halt the swarm: the charter's file, or the swarm's id. Empty: this node's owner alone.",
        metavar="FILE|ID",
    ),
    "listen_host": Setting(
        "--listen", _host, "The address to listen on; 0.0.0.0 is every interface.", metavar="HOST"
    ),
    "port": Setting(
        "--port",
        _whole(0, 65_535),
        "The TCP port. 0: any free one. If nobody chose it and it is taken, the next free one.",
        kind=int,
    ),
    "peers": Setting(
        "--peer", _addrs(needs_peer=True), "Peers to begin with.", kind=list, metavar="MULTIADDR"
    ),
    "announce": Setting(
        "--announce",
        _addrs(needs_peer=False),
        "The addresses that others are told, instead of those that were found.",
        kind=list,
        metavar="MULTIADDR",
    ),
    "lan": Setting(
        "--lan",
        _switch,
        "Whether the node looks for peers on the local network and can be found there.",
        kind=bool,
        sets=False,
        help="Neither look for peers on the local network nor be found there.",
    ),
    "sessions_max": Setting(
        "--sessions",
        _whole(1, SESSIONS_LIMIT),
        "Answers that the expert takes part in at once.",
        kind=int,
        panel="Model",
    ),
    "context_max": Setting(
        "--context",
        _whole(64, CONTEXT_MAX),
        "Tokens of context that each session may have.",
        kind=int,
        panel="Model",
    ),
    "threads": Setting(
        "--threads",
        _whole(0, 1024),
        "Processor threads of the engine. 0: one for each core.",
        kind=int,
        panel="Model",
    ),
    "gpu_layers": Setting(
        "--gpu-layers",
        _whole(-1, 1000),
        "Layers of the model on the GPU, where llama.cpp was built for one. -1: all.",
        kind=int,
        panel="Model",
    ),
    "k": Setting(
        "-k",
        _whole(1, SHARE_MAX),
        "Experts that decide each token together.",
        kind=int,
        panel="Answer",
        also=("--experts",),
    ),
    "extra": Setting(
        "--extra",
        _whole(0, SHARE_MAX),
        "Experts asked beyond `k`, as insurance against slow ones.",
        kind=int,
        panel="Answer",
    ),
    "quality": Setting(
        "--quality",
        _share,
        "Share of the tokens that all `k` experts are asked about. 1: all tokens; 0: always one expert.",
        kind=float,
        panel="Answer",
    ),
    "log_level": Setting(
        "--log-level",
        _log_level,
        "What the log file holds.",
        panel="Output",
        metavar="debug|info|warning|error",
    ),
    "offline": Setting(
        "--offline",
        _switch,
        "Whether every contact beyond this machine's networks is forbidden.",
        kind=bool,
        help="No contact with anything outside this machine's networks.",
    ),
}
