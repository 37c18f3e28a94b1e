"""The invite that a node joins with: read, kept in the data folder, and made into settings.

Addresses in it are a stranger's as far as dialling goes (`core.peers.dial_rule`): a pasted line
must not make a node knock on doors of its own machine or of its neighbours'. Names are looked up
all the same, as those given with `--peer` are: whoever pastes the line asks for this contact. But
what they stand for is judged like the rest, each time.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from swarmllm.adapters.atomic_file import read_bounded, replace_whole
from swarmllm.adapters.libp2p.addresses import vantage
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.record_files import read_sheets
from swarmllm.core.halt.charter import Pin
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.peers.dial_rule import PORT_MIN, Vantage, refusal
from swarmllm.core.peers.relayed import CIRCUIT
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.booting import pin_of
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.readers import multiaddrs
from swarmllm.runtime.config.setting import Unfit
from swarmllm.runtime.invited import Invited, now_ms, pinned_by, read_invited
from swarmllm.runtime.learned_text import LearnedText
from swarmllm.runtime.ports import Text
from swarmllm.wire.invite import LINE_MAX

INVITE_FILE: Final = "invite"
_WHAT: Final = "the invite of this folder"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The settings of a node, and the invite that they were made under (None: there is none).
    `circuits` lead to the inviter through relays, `names` are the peers of the config that it named
    by a name; `remarks` are for people, a sentence each."""

    config: Config
    invited: Invited | None = None
    remarks: tuple[str, ...] = ()
    circuits: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def keep(self) -> None:
        """For the next start; the folder is held by us. Blocks."""
        if self.invited is not None and self.invited.kept_in is None:
            path = self.config.data_dir / INVITE_FILE
            replace_whole(path, self.invited.line.encode() + b"\n", _WHAT, mode=0o600)

    def pin(self) -> Pin | None:
        """The swarm that the settings name: by the file of its charter, or by its id, which peers
        then give the charter for. Blocks."""
        charter = self.config.charter
        if not charter:
            return None
        is_id = re.fullmatch(r"[0-9a-f]{64}", charter) is not None
        pin = Pin(bytes.fromhex(charter)) if is_id else _pin_in(charter)
        return pin if self.invited is None else replace(pin, named=self.invited.named)

    def check_vocabulary(self, text: Text) -> None:
        """UsageError for a model whose tokens mean something else than the inviter's do."""
        wanted = b"" if self.invited is None else self.invited.invite.vocabulary
        if isinstance(text, LearnedText) or wanted in {b"", text.vocabulary.fingerprint}:
            return
        raise UsageError(
            f"the model's vocabulary is {text.vocabulary.fingerprint.hex()[:16]}, and the invite"
            f" names {wanted.hex()[:16]}, so they could not answer together; choose another one"
            " with --model, or `--model none` to only ask"
        )

    def strangers(self, machine: HaltMachine) -> tuple[str, ...]:
        """What is wrong with who was found at the addresses of the invite, a sentence each."""
        if self.invited is None:
            return ()
        swarm, own = machine.swarm_of(self.invited.peer), machine.state.swarm
        if swarm in {None, own}:
            return ()
        return (
            f"{self.invited.peer} is of swarm {(swarm or b'').hex()[:16]}, and its invite names"
            f" {own.hex()[:16]}: nothing is asked of it, and no answer given; ask for another"
            " invite",
        )


def accepted(config: Config) -> Accepted:
    """The settings under the invite that they name, or that the folder was joined with. UsageError
    for one that cannot be taken, or that contradicts them; blocks."""
    path = config.data_dir / INVITE_FILE
    kept = _kept(path)
    invited = kept
    if config.invite:
        given = read_invited(config.invite, verify)
        if kept is None or given.line != kept.line:
            given.check_time(now_ms())
            invited = given
        if kept is not None and given.invite.swarm != kept.invite.swarm:
            raise UsageError(
                f"the invite {given.shown} is to swarm {given.invite.swarm.hex()[:16]}, and this"
                f" folder has joined {kept.invite.swarm.hex()[:16]}; use another folder with"
                " --data-dir"
            )
    if invited is None:
        return Accepted(config)
    config = _pinned(config, invited)
    good, remarks = _dialled(invited, vantage_of(config))
    direct = tuple(addr for addr in good if CIRCUIT not in addr)
    circuits = tuple(addr for addr in good if CIRCUIT in addr)
    named = (addr for addr in direct if addr not in config.peers)
    names = tuple(addr for addr in named if addr.split("/")[1] not in {"ip4", "ip6"})
    config = replace(config, peers=tuple(dict.fromkeys((*config.peers, *direct))))
    return Accepted(config, invited, remarks, circuits, names)


def _pinned(config: Config, invited: Invited) -> Config:
    """`pinned_by`; the file of the charter that the invite names says the same as its id."""
    charter = config.charter
    is_file = bool(charter) and re.fullmatch(r"[0-9a-f]{64}", charter) is None
    if not is_file or _pin_in(charter).swarm != invited.invite.swarm:
        return pinned_by(config, invited)
    return replace(pinned_by(replace(config, charter=""), invited), charter=charter)


def vantage_of(config: Config) -> Vantage:
    """Where the node will stand: on loopback alone, or on the networks of this machine."""
    is_loopback = config.offline or ipaddress.ip_address(config.listen_host).is_loopback
    return replace(vantage(()), is_loopback=is_loopback)


def _kept(path: Path) -> Invited | None:
    if not path.exists():
        return None
    line = read_bounded(path, LINE_MAX + 1, _WHAT).decode("ascii", "replace")
    return replace(read_invited(line, verify), kept_in=path)


def _pin_in(charter: str) -> Pin:
    """The swarm of a charter's file. LocalError for one that is not signed, or none."""
    sheets = read_sheets(Path(charter))
    if not all(sheet.data for sheet in sheets):
        raise LocalError(f"{charter} holds a record that nobody has signed; use the signed one")
    return pin_of([sheet.data for sheet in sheets])


def _dialled(invited: Invited, stand: Vantage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses that may be dialled, and a sentence on each other one. UsageError if none
    may."""
    read: Callable[[object, bool], object] = multiaddrs(needs_peer=True)
    good, remarks = [], []
    for addr in invited.addrs:
        try:
            read([addr.partition(CIRCUIT)[0]], False)  # Of a circuit: where its relay is.
            why = _refusal(addr, stand)
        except Unfit as fault:
            why = f"it is not {fault.expected}"
        if why:
            remarks.append(f"the address {addr} of the invite is not dialled: {why}")
        else:
            good.append(addr)
    if not good:
        raise UsageError(
            f"the invite {invited.shown} leads nowhere from here: {remarks[0]}; ask for one from a"
            " node that this machine can reach"
        )
    return tuple(good), tuple(remarks)


def _refusal(addr: str, stand: Vantage) -> str:
    _, kind, host, *rest = addr.split("/")
    if kind == "dnsaddr":
        return ""  # DNS has the port as well.
    port = rest[1]
    if kind not in {"ip4", "ip6"}:
        return "" if int(port) >= PORT_MIN else f"port {port} is one of system services"
    return refusal(ipaddress.ip_address(host).packed, int(port), stand)
