"""The single checks of `swarmllm doctor`: each takes the settings, looks at one thing, and returns
what it found."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import socket
import struct
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import trio

from swarmllm.adapters import limits
from swarmllm.adapters.datadir import DataDir, holder_of
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.models import library
from swarmllm.cli.output import count, shell_word, size
from swarmllm.cli.probe import probe
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.model_reference import (
    DEMO_USUAL,
    Auto,
    DemoExpert,
    HubModel,
    NoModel,
    OwnFile,
    SmolLM2,
    parse_reference,
)
from swarmllm.wire import sparse_compiled

PACKAGES: Final = (
    "swarmllm",
    "libp2p",
    "trio",
    "llama-cpp-python",
    "numpy",
    "tokenizers",
    "gguf",
    "huggingface-hub",
    "llama-models",
    "cryptography",
    "msgpack",
    "typer",
    "rich",
)
# Key, peers and sockets are small; less than this is a disk about to be full.
STATE_BYTES_MIN: Final = 10_000_000
CACHE_BYTES_MIN: Final = (
    200_000_000  # SmolLM2, an expanded demo expert and the vocabulary's tables.
)
MEMORY_BYTES_MIN: Final = 1_000_000_000  # A node with a demo expert takes about half of that.
MDNS_GROUP, MDNS_PORT = "224.0.0.251", 5353  # RFC 6762


@dataclass(frozen=True, slots=True)
class Verdict:
    level: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def python(config: Config) -> Verdict:
    return Verdict(
        "ok",
        f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
    )


def platform_(config: Config) -> Verdict:
    found = (
        f"{platform.system()} {platform.release()} on {platform.machine()}, {limits.cores()} cores"
    )
    if platform.system() not in {"Linux", "Darwin"}:
        return Verdict("warn", found, "only Linux and macOS are tested")
    return Verdict("ok", found)


def packages(config: Config) -> Verdict:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Verdict("fail", f"missing: {', '.join(missing)}", "reinstall swarmllm with pip")
    return Verdict("ok", ", ".join(versions))


def memory(config: Config) -> Verdict:
    free, total = limits.free_memory(), limits.total_memory()
    if free is None or total is None:  # Not Linux.
        import psutil

        found = psutil.virtual_memory()
        free, total = found.available, found.total
    text = f"{size(free)} free of {size(total)}"
    if free < MEMORY_BYTES_MIN:
        return Verdict(
            "warn",
            text,
            "close other programs, or use a small model with --context and --sessions low",
        )
    return Verdict("ok", text)


def llama_cpp(config: Config) -> Verdict:
    from llama_cpp import llama_cpp as api

    offload = "GPU offload" if api.llama_supports_gpu_offload() else "no GPU offload"
    features = api.llama_print_system_info().decode(errors="replace")
    wanted = [
        part.split("=")[0].strip()
        for part in features.replace(":", "|").split("|")
        if part.strip().endswith("= 1")
    ]
    return Verdict(
        "ok",
        f"llama-cpp-python {metadata.version('llama-cpp-python')}: {offload}, {' '.join(wanted)}",
    )


def sparse_lists(config: Config) -> Verdict:
    if not sparse_compiled.IS_COMPILED:
        return Verdict(
            "warn",
            "encoded and decoded by numpy, five to ten times as slowly as by compiled code",
            "install swarmllm anew where a C compiler is; in a clone: pip install --editable .",
        )
    return Verdict("ok", "encoded and decoded by compiled code")


def vocabulary(config: Config) -> Verdict:
    from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT, load_vocabulary

    text = load_vocabulary(config.cache_dir).vocabulary
    found = text.fingerprint.hex()
    if found != LLAMA3_FINGERPRINT:
        return Verdict(
            "fail",
            f"{text.size} tokens, fingerprint {found[:16]}…, which is not LLaMA-3's",
            "reinstall llama-models with pip",
        )
    return Verdict("ok", f"LLaMA-3, {text.size} tokens, fingerprint {found[:16]}…")


def demo_experts(config: Config) -> Verdict:
    from swarmllm.adapters.llama.demo import bundled

    cards = bundled()
    if not cards:
        return Verdict("fail", "none are bundled", "reinstall swarmllm; the package is incomplete")
    return Verdict("ok", ", ".join(card.name for card in cards))


def model(config: Config) -> Verdict:
    """The model that `join` would load: what it is, and how fast it is here."""
    reference = parse_reference(config.model)
    if isinstance(reference, Auto) and library.place_of(SmolLM2(), config.cache_dir):
        reference = SmolLM2()
    match reference:
        case NoModel():
            return Verdict("ok", "none: a node asks others and offers nothing")
        case Auto():
            found = f"{DemoExpert(DEMO_USUAL)}, because SmolLM2 is not on this machine"
            return Verdict("ok", found, "for a model that answers: swarmllm models pull smollm2")
        case DemoExpert():
            return Verdict("ok", f"{reference}, made on first use")
        case OwnFile():
            return _file(reference.path, config)
        case SmolLM2() | HubModel():
            path = library.place_of(reference, config.cache_dir)
            if isinstance(reference, SmolLM2) and path is None:  # A specialist is made of it.
                path = library.place_of(SmolLM2(), config.cache_dir)
            if path is not None:
                return _file(path, config)
            remedy = f"swarmllm models pull {shell_word(str(reference))}"
            return Verdict("warn", f"{reference} is not on this machine", remedy)


def _file(path: Path, config: Config) -> Verdict:
    facts = probe(path, config.cache_dir)
    told = (
        f"{facts['name']}, {count(facts['n_params'])} parameters, vocabulary"
        f" {facts['vocab'][:16]}, {'its own' if facts['has_chat_template'] else 'no'} chat template"
    )
    if holder_of(config.data_dir) is not None:
        return Verdict("ok", f"{told}; swarmllm status shows how fast it is")
    rate = trio.run(_measured, path, config)
    return Verdict("ok", f"{told}; it decodes {rate:.1f} tokens/s here")


async def _measured(path: Path, config: Config) -> float:
    """Tokens/s that one session decodes."""
    options = EngineOptions(
        context_max=256,
        sessions_max=1,
        threads=config.threads,
        gpu_layers=config.gpu_layers,
        cache_dir=str(config.cache_dir),
    )
    async with LlamaEngine(path, options) as engine:
        return engine.load.tokens_per_s


def data_folder(config: Config) -> Verdict:
    return _folder(config.data_dir, STATE_BYTES_MIN, "--data-dir")


def cache_folder(config: Config) -> Verdict:
    return _folder(config.cache_dir, CACHE_BYTES_MIN, "--cache-dir")


def _folder(path: Path, wanted_bytes: int, flag: str) -> Verdict:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent  # It will be made on first use; what counts is whether it can be.
    note = "" if there == path else " (made on first use)"
    if not there.is_dir():
        return Verdict(
            "fail",
            f"{there} is not a folder",
            f"move it away, or choose another folder with {flag}",
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return Verdict(
            "fail",
            f"{path} cannot be written",
            f"correct the permissions of {there}, or choose another folder with {flag}",
        )
    free = shutil.disk_usage(there).free
    if free < wanted_bytes:
        return Verdict(
            "fail",
            f"{path}: only {size(free)} free, {size(wanted_bytes)} wanted",
            f"free some space, or choose another folder with {flag}",
        )
    return Verdict("ok", f"{path}{note}, {size(free)} free")


def key(config: Config) -> Verdict:
    from swarmllm.adapters.keyfile import load_or_create_key

    path = DataDir(config.data_dir).key_file
    if not os.path.lexists(path):
        return Verdict("ok", "none yet; the first start makes one")
    return Verdict("ok", f"{load_or_create_key(path).peer}")


def running_node(config: Config) -> Verdict:
    holder = holder_of(config.data_dir)
    if holder is None:
        return Verdict("ok", "none on this data folder (swarmllm join starts one)")
    return Verdict("ok", f"process {holder or '(unknown)'} holds {config.data_dir}")


def lending(config: Config) -> Verdict:
    """When this machine would serve others, and whether it would now."""
    from swarmllm.adapters.machine_load import GpuLoad, MachineLoad
    from swarmllm.assembly.lending import lending_of

    lending = lending_of(config)
    if config.yield_to_owner:
        gpu = GpuLoad().missing
        unseen = f"; GPU use is unknown: {gpu}" if gpu else ""
        said = f"others are served while nobody else uses this machine{unseen}"
    else:
        said = "others are served while this machine is used as well"
    said += f", within {lending.rules.hours}" if lending.rules.hours is not None else ""
    said += f", with {config.max_share} of it" if config.max_share != "100%" else ""
    lending.looked(MachineLoad(yields=False).look(), 0.0)
    return Verdict("ok", f"{said}; not now: {lending.reason}" if lending.reason else said)


def _own_node_listens(config: Config) -> bool:
    """Whether the node of this data folder holds the port of the settings."""
    import psutil

    holder = holder_of(config.data_dir)
    try:
        sockets = psutil.Process(holder).net_connections("tcp") if holder else []
    except psutil.Error:  # It has ended, or is another user's.
        return False
    return any(
        one.status == psutil.CONN_LISTEN and one.laddr.port == config.port for one in sockets
    )


def port(config: Config) -> Verdict:
    if config.port == 0:
        return Verdict("ok", "any free port")
    family = socket.AF_INET6 if ":" in config.listen_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that lingers is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.listen_host, config.port))
        except OSError as error:
            if _own_node_listens(config):
                return Verdict("ok", f"{config.listen_host}:{config.port} is your own node's")
            return Verdict(
                "warn",
                f"{config.listen_host}:{config.port} is taken ({error.strerror})",
                "nothing: the next free port will be used; --port chooses another",
            )
    return Verdict("ok", f"{config.listen_host}:{config.port} is free")


def reachability(config: Config) -> Verdict:
    """What the running node has found out; without one, what the addresses of this machine say."""
    if holder_of(config.data_dir) is not None:
        status = trio.run(ask, config.data_dir, "status")
        reach = status.get("reach") or {}
        if not reach:
            return Verdict("ok", "the node is still starting")
        level: Literal["ok", "warn"] = "warn" if reach["kind"] == "nat" else "ok"
        return Verdict(level, str(reach["says"]))
    inside = [text for _, text in lan_addresses() if ipaddress.ip_address(text).is_private]
    if inside and len(inside) == len(lan_addresses()):
        return Verdict(
            "ok",
            "only private addresses: behind a NAT, most likely; a running node finds out",
            f"forward TCP port {config.port} to this machine at the router, if it is not reached",
        )
    return Verdict("ok", "not known: a running node has peers try it")


def lan_addresses() -> list[tuple[str, str]]:
    """(interface, IPv4 address) of every interface that is up and is not loopback."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return [
        (name, address.address)
        for name, addresses in sorted(psutil.net_if_addrs().items())
        for address in addresses
        if name in up
        and address.family == socket.AF_INET
        and not address.address.startswith("127.")
    ]


def interfaces(config: Config) -> Verdict:
    found = lan_addresses()
    if not found:
        return Verdict(
            "warn", "loopback only", "connect to a network to join others; demo works without"
        )
    return Verdict("ok", ", ".join(f"{name} {address}" for name, address in found))


def lan_discovery(config: Config) -> Verdict:
    if not config.lan:
        return Verdict("ok", "switched off (--no-lan or lan = false)")
    remedy = (
        "name a peer with --peer; allow UDP port 5353 and multicast in the firewall for LAN"
        " discovery"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(("", MDNS_PORT))
            probe.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                struct.pack("4sl", socket.inet_aton(MDNS_GROUP), socket.INADDR_ANY),
            )
        except OSError as error:
            return Verdict("warn", f"multicast DNS is not possible here ({error.strerror})", remedy)
    if not lan_addresses():
        return Verdict(
            "warn", "multicast DNS works, but there is no network besides loopback", remedy
        )
    return Verdict("ok", f"multicast DNS group {MDNS_GROUP}:{MDNS_PORT} can be joined")
